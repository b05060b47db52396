// Bodies as senders of remote write and remote read compress them.
#pragma once

#include <snappy.h>

#include <string>

namespace millstream::wire {

inline std::string Compress(const std::string& message) {
  std::string out;
  snappy::Compress(message.data(), message.size(), &out);
  return out;
}

}  // namespace millstream::wire

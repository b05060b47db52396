// Text of a sender's in the text of an error.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "millstream/base/utf8.h"
#include "millstream/model/labels.h"

namespace millstream::wire {

// Quoted: the beginning that is UTF-8, of at most 64 bytes.
inline std::string Shown(std::string_view text) {
  constexpr size_t kShownBytesMax = 64;
  const size_t whole = text.size();
  text = text.substr(0, kShownBytesMax);
  text = text.substr(0, FirstInvalidUtf8(text));
  return model::Quote(text) + (text.size() == whole ? "" : "…");
}

}  // namespace millstream::wire

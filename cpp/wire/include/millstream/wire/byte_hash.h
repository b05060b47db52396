// ByteHash: Hash64 as the hash of a table of strings that is searched by views of bytes, without a copy.
#pragma once

#include <cstddef>
#include <string_view>

#include "millstream/base/hash.h"

namespace millstream::wire {

struct ByteHash {
  using is_transparent = void;
  size_t operator()(std::string_view bytes) const { return Hash64(bytes); }
};

}  // namespace millstream::wire

// Snappy's block format, with bounds that hold before a byte is allocated.
#pragma once

#include <string>
#include <string_view>

#include "millstream/base/result.h"

namespace millstream::wire {

// kInvalidArgument: no snappy block, or one that declares more than such bytes can hold. kOutOfRange: it declares more
// than `bytes_max`.
Result<std::string> UncompressSnappy(std::string_view compressed, size_t bytes_max);

std::string CompressSnappy(std::string_view bytes);

}  // namespace millstream::wire

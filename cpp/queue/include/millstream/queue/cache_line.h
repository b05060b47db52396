// The distance that keeps two variables from slowing each other down when different threads write them.
#pragma once

#include <cstddef>

namespace millstream::queue {

// x86-64 and most arm64. A constant of our own: the standard's one may differ between compilers, and with it layouts.
inline constexpr size_t kCacheLineBytes = 64;

}  // namespace millstream::queue

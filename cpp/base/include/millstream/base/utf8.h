// UTF-8 validation.
#pragma once

#include <cstddef>
#include <string_view>

namespace millstream {

// The byte index of the first ill-formed sequence (overlong forms, surrogates and values above U+10FFFF included), or
// npos when `text` is well formed.
size_t FirstInvalidUtf8(std::string_view text);

inline bool IsValidUtf8(std::string_view text) {
  return FirstInvalidUtf8(text) == std::string_view::npos;
}

}  // namespace millstream

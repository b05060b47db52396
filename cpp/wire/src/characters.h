// Kinds of ASCII characters.
#pragma once

namespace millstream::wire {

// What stands between the words of a line.
constexpr bool IsBlank(char c) {
  return c == ' ' || c == '\t';
}

constexpr bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}

}  // namespace millstream::wire

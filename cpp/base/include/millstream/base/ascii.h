// Kinds of ASCII characters.
#pragma once

namespace millstream {

constexpr bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}

// What stands between the words of a line.
constexpr bool IsBlank(char c) {
  return c == ' ' || c == '\t';
}

// Blanks and what ends a line.
constexpr bool IsSpace(char c) {
  return IsBlank(c) || c == '\n' || c == '\r';
}

}  // namespace millstream

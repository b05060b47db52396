// Kinds of ASCII characters.
#pragma once

namespace millstream::promql {

constexpr bool IsSpace(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

constexpr bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}

}  // namespace millstream::promql

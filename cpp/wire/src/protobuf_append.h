// Appends fields of protobuf messages to a string.
//
// Source      protobuf.dev, "Encoding".
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>

namespace millstream::wire {

inline void PutVarint(uint64_t value, std::string* out) {
  while (value >= 0x80) {
    out->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out->push_back(static_cast<char>(value));
}

inline uint64_t ZigZagOf(int64_t value) {
  return (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
}

inline void PutDouble(double value, std::string* out) {
  const auto bits = std::bit_cast<uint64_t>(value);
  for (int shift = 0; shift < 64; shift += 8) out->push_back(static_cast<char>(bits >> shift));
}

inline void PutVarintField(uint32_t field, uint64_t value, std::string* out) {
  PutVarint(uint64_t{field} << 3, out);
  PutVarint(value, out);
}

inline void PutDoubleField(uint32_t field, double value, std::string* out) {
  PutVarint(uint64_t{field} << 3 | 1, out);
  PutDouble(value, out);
}

// A string, or a message that is encoded already.
inline void PutBytesField(uint32_t field, std::string_view bytes, std::string* out) {
  PutVarint(uint64_t{field} << 3 | 2, out);
  PutVarint(bytes.size(), out);
  out->append(bytes);
}

}  // namespace millstream::wire

// Builds protobuf messages by hand, good and broken ones.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace millstream::wire {

inline void AppendVarint(uint64_t value, std::string* out) {
  while (value >= 0x80) {
    out->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out->push_back(static_cast<char>(value));
}

inline std::string VarintField(uint32_t field, uint64_t value) {
  std::string out;
  AppendVarint(uint64_t{field} << 3, &out);
  AppendVarint(value, &out);
  return out;
}

inline std::string DoubleField(uint32_t field, double value) {
  std::string out;
  AppendVarint(uint64_t{field} << 3 | 1, &out);
  const auto bits = std::bit_cast<uint64_t>(value);
  for (int shift = 0; shift < 64; shift += 8) out.push_back(static_cast<char>(bits >> shift));
  return out;
}

inline std::string BytesField(uint32_t field, std::string_view bytes) {
  std::string out;
  AppendVarint(uint64_t{field} << 3 | 2, &out);
  AppendVarint(bytes.size(), &out);
  return out.append(bytes);
}

inline uint64_t ZigZagEncode(int64_t value) {
  return (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
}

inline std::string LabelField(std::string_view name, std::string_view value) {
  return BytesField(1, BytesField(1, name) + BytesField(2, value));
}

inline std::string SampleField(int64_t timestamp, double value) {
  return BytesField(2, DoubleField(1, value) + VarintField(2, static_cast<uint64_t>(timestamp)));
}

inline std::string Series(const std::vector<std::pair<std::string, std::string>>& labels, std::string_view rest) {
  std::string series;
  for (const auto& [name, value] : labels) series += LabelField(name, value);
  return BytesField(1, series.append(rest));
}

}  // namespace millstream::wire

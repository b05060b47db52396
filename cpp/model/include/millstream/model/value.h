// Special sample values. Values are IEEE 754 doubles kept bit by bit: a NaN's payload is data.
//
// Source      Prometheus's value model: the two NaN patterns below are part of its wire and storage contracts.
#pragma once

#include <bit>
#include <cstdint>

namespace millstream::model {

// What division by zero and the like yield when Prometheus writes them.
inline constexpr uint64_t kNormalNanBits = 0x7ff8000000000001;
// Marks the end of a series: it is absent from this timestamp on until its next sample.
inline constexpr uint64_t kStaleNanBits = 0x7ff0000000000002;

inline double NormalNan() {
  return std::bit_cast<double>(kNormalNanBits);
}
inline double StaleNan() {
  return std::bit_cast<double>(kStaleNanBits);
}
inline bool IsStaleNan(double value) {
  return std::bit_cast<uint64_t>(value) == kStaleNanBits;
}

}  // namespace millstream::model

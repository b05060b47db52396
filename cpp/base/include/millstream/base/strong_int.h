// StrongInt<Tag, Rep>: an integer that cannot be mistaken for another quantity.
//
// Cost        That of Rep.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace millstream {

template <typename Tag, typename Rep>
class StrongInt {
 public:
  using rep = Rep;

  constexpr StrongInt() = default;
  constexpr explicit StrongInt(Rep value) : value_(value) {}

  constexpr Rep value() const { return value_; }

  constexpr StrongInt& operator++() {
    ++value_;
    return *this;
  }
  constexpr StrongInt& operator+=(Rep delta) {
    value_ = static_cast<Rep>(value_ + delta);
    return *this;
  }
  friend constexpr StrongInt operator+(StrongInt a, Rep delta) { return StrongInt(static_cast<Rep>(a.value_ + delta)); }
  // The distance between two of them is a plain number.
  friend constexpr Rep operator-(StrongInt a, StrongInt b) { return static_cast<Rep>(a.value_ - b.value_); }
  friend constexpr auto operator<=>(StrongInt, StrongInt) = default;

 private:
  Rep value_{};
};

// A partition of the log: the unit of order, ownership and parallelism.
using PartitionId = StrongInt<struct PartitionIdTag, uint32_t>;
// The position of a record in one log partition; the first is 0.
using Offset = StrongInt<struct OffsetTag, uint64_t>;
// A series within one tsdb partition. Given in order of creation; 0 is never used.
using SeriesRef = StrongInt<struct SeriesRefTag, uint64_t>;
// A tenant's number; 0 is the default tenant.
using TenantId = StrongInt<struct TenantIdTag, uint32_t>;

// Milliseconds since the Unix epoch; any int64 is legal. An alias, not a type of its own: columns of timestamps are
// shared with NumPy and Arrow as int64 without a copy.
using TimestampMs = int64_t;

}  // namespace millstream

template <typename Tag, typename Rep>
struct std::hash<millstream::StrongInt<Tag, Rep>> {
  size_t operator()(millstream::StrongInt<Tag, Rep> id) const noexcept { return std::hash<Rep>()(id.value()); }
};

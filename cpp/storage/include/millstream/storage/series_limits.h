// SeriesLimits: how many series one tenant may have, and how fast there may be more.
//
// Units       Series, and series a second: that many may come at once, and then each when its turn is. 0 is any number.
#pragma once

#include <algorithm>
#include <cstdint>

namespace millstream::storage {

struct SeriesLimits {
  uint64_t most = 0;
  uint64_t new_per_second = 0;
  friend bool operator==(const SeriesLimits&, const SeriesLimits&) = default;

  // What both allow.
  static SeriesLimits Both(const SeriesLimits& a, const SeriesLimits& b) {
    const auto lower = [](uint64_t x, uint64_t y) { return x == 0 || y == 0 ? std::max(x, y) : std::min(x, y); };
    return {.most = lower(a.most, b.most), .new_per_second = lower(a.new_per_second, b.new_per_second)};
  }
};

}  // namespace millstream::storage

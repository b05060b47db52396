// SimClock: a clock that stands still until a test moves it.
//
// Threads     All functions may be called from any thread.
#pragma once

#include <atomic>
#include <chrono>

#include "millstream/env/clock.h"

namespace millstream::env {

class SimClock final : public Clock {
 public:
  explicit SimClock(TimestampMs wall_ms) : wall_ms_(wall_ms) {}

  TimestampMs WallNow() const override { return wall_ms_.load(); }
  std::chrono::nanoseconds MonotonicNow() const override { return std::chrono::nanoseconds(monotonic_ns_.load()); }

  // Both clocks go forward; `by` must not be negative.
  void Advance(std::chrono::milliseconds by);
  // The wall clock alone jumps, as when a machine's time is corrected.
  void SetWall(TimestampMs wall_ms) { wall_ms_.store(wall_ms); }

 private:
  std::atomic<TimestampMs> wall_ms_;          // any thread writes
  std::atomic<int64_t> monotonic_ns_{1'000};  // any thread writes
};

}  // namespace millstream::env

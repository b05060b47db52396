// Clock: the only way in which the engine learns the time.
//
// Threads     All functions may be called from any thread.
#pragma once

#include <chrono>

#include "millstream/base/strong_int.h"

namespace millstream::env {

class Clock {
 public:
  virtual ~Clock() = default;

  // Milliseconds since the Unix epoch, as the machine believes. It may jump, also backwards.
  virtual TimestampMs WallNow() const = 0;

  // Time since an arbitrary start; never goes backwards.
  virtual std::chrono::nanoseconds MonotonicNow() const = 0;
};

}  // namespace millstream::env

#include "millstream/env/sim_clock.h"

#include "millstream/base/check.h"

namespace millstream::env {

void SimClock::Advance(std::chrono::milliseconds by) {
  MS_CHECK(by.count() >= 0);
  wall_ms_.fetch_add(by.count());
  monotonic_ns_.fetch_add(std::chrono::nanoseconds(by).count());
}

}  // namespace millstream::env

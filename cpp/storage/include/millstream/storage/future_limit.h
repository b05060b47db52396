// FutureLimit: how far ahead of the clock a sample may be.
//
// A sample of the far future, most often one in a wrong unit, would make every true one of its series too old.
// Threads     Immutable; safe to read from any thread.
#pragma once

#include <cstdint>
#include <string_view>

#include "millstream/base/status.h"
#include "millstream/base/strong_int.h"

namespace millstream::storage {

class FutureLimit {
 public:
  // Admits every timestamp.
  FutureLimit() = default;
  // `window_ms` 0 admits every timestamp, too.
  FutureLimit(TimestampMs now, int64_t window_ms);

  bool Admits(TimestampMs timestamp) const { return timestamp <= newest_; }
  // kOutOfRange: why `timestamp` of a `kind`, such as "sample", is not admitted.
  Status Refusal(std::string_view kind, TimestampMs timestamp) const;

 private:
  int64_t window_ms_ = 0;
  TimestampMs newest_ = INT64_MAX;
};

}  // namespace millstream::storage

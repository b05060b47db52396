// QueryControl: one query's budget and its off switch, shared by everything that works on it.
//
// Threads     Cancel, Check and the counters may be called from any thread.
// Errors      Check returns kCancelled or kDeadlineExceeded once cancelled. AddSamples and AddBytes return
//             kResourceExhausted when the budget would be exceeded; the query must then end.
#pragma once

#include <atomic>
#include <cstdint>

#include "millstream/base/status.h"

namespace millstream::storage {

struct QueryLimits {
  int64_t samples_max = 50'000'000;      // held in memory at once
  int64_t bytes_max = int64_t{4} << 30;  // held in memory at once
};

class QueryControl {
 public:
  explicit QueryControl(QueryLimits limits = {}) : limits_(limits) {}

  // The first call wins; `reason` is kCancelled or kDeadlineExceeded.
  void Cancel(StatusCode reason);
  // Call it at least once per series and per 64 Ki samples of work.
  Status Check() const;

  Status AddSamples(int64_t samples);
  void ReleaseSamples(int64_t samples);
  Status AddBytes(int64_t bytes);
  void ReleaseBytes(int64_t bytes);

  int64_t samples_peak() const { return samples_peak_.load(std::memory_order_relaxed); }
  int64_t samples_total() const { return samples_total_.load(std::memory_order_relaxed); }

 private:
  // All are independent counters or a flag that carries no other data: relaxed order suffices throughout.
  const QueryLimits limits_;
  std::atomic<int> cancelled_{0};
  std::atomic<int64_t> samples_{0};
  std::atomic<int64_t> samples_peak_{0};
  std::atomic<int64_t> samples_total_{0};
  std::atomic<int64_t> bytes_{0};
};

}  // namespace millstream::storage

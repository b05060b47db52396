// SeriesCounts: how many series each tenant has in the heads of all partitions that share it.
//
// Threads     Any. A count is changed by the writers of the partitions.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>

#include "millstream/base/mutex.h"
#include "millstream/base/strong_int.h"

namespace millstream::tsdb {

struct SeriesCount {
  std::atomic<uint64_t> series{0};
  // When the next new series is due at the tenant's rate, in nanoseconds of the monotonic clock; in the past when none
  // came lately. Written by whoever makes one.
  std::atomic<int64_t> next_new_ns{0};
};

class SeriesCounts {
 public:
  // 0 at first; the same for every call with this tenant.
  std::shared_ptr<SeriesCount> Of(TenantId tenant) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    std::shared_ptr<SeriesCount>& count = counts_[tenant.value()];
    if (count == nullptr) count = std::make_shared<SeriesCount>();
    return count;
  }

 private:
  Mutex mutex_;
  std::map<uint32_t, std::shared_ptr<SeriesCount>> counts_ GUARDED_BY(mutex_);
};

}  // namespace millstream::tsdb

// Waiter: lets one reader sleep until a partition has something for it, or until its time is over.
//
// Threads     Wait and MayWait by one thread; OnEvents by any.
#pragma once

#include <algorithm>
#include <chrono>

#include "millstream/base/mutex.h"
#include "millstream/env/clock.h"
#include "partition.h"

namespace millstream::events {

class Waiter final : public PartitionListener {
 public:
  Waiter(const env::Clock& clock, int64_t wait_ms)
      : clock_(clock), deadline_(clock.MonotonicNow() + std::chrono::milliseconds(wait_ms)) {}

  bool MayWait() const { return clock_.MonotonicNow() < deadline_; }

  // Returns when there was news since the last Wait, or the time is over.
  void Wait() EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    while (!news_) {
      const auto left = deadline_ - clock_.MonotonicNow();
      if (left <= std::chrono::nanoseconds(0)) break;
      (void)changed_.WaitFor(mutex_, left);
    }
    news_ = false;
  }

  void OnEvents() override EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    news_ = true;
    changed_.NotifyOne();
  }

 private:
  const env::Clock& clock_;
  const std::chrono::nanoseconds deadline_;
  Mutex mutex_;
  CondVar changed_;
  bool news_ GUARDED_BY(mutex_) = false;
};

// Listens as long as it lives.
class ListenerGuard {
 public:
  ListenerGuard(Partition& partition, PartitionListener& listener, uint64_t seen_end)
      : partition_(partition), listener_(listener) {
    partition_.AddListener(&listener_, seen_end);
  }
  ~ListenerGuard() { partition_.RemoveListener(&listener_); }
  ListenerGuard(const ListenerGuard&) = delete;
  ListenerGuard& operator=(const ListenerGuard&) = delete;

 private:
  Partition& partition_;
  PartitionListener& listener_;
};

}  // namespace millstream::events

#include "caller_watch.h"

#include <utility>

namespace millstream::node {

Result<std::unique_ptr<CallerWatch>> CallerWatch::Start(std::chrono::milliseconds interval, std::function<void()> work,
                                                        env::Executor& executor) {
  std::unique_ptr<CallerWatch> watch(new CallerWatch(interval, std::move(work)));
  MS_ASSIGN_OR_RETURN(watch->thread_, executor.Start({.name = "ms-callers", .cpu = std::nullopt}, [raw = watch.get()] {
    while (raw->WaitForTurn()) raw->work_();
  }));
  return watch;
}

CallerWatch::~CallerWatch() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
  thread_.reset();
}

bool CallerWatch::WaitForTurn() {
  MutexLock lock(mutex_);
  // A wake-up for no reason makes one look early, which does no harm.
  if (!stopping_) (void)wake_.WaitFor(mutex_, interval_);
  return !stopping_;
}

}  // namespace millstream::node

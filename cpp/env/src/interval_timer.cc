#include "millstream/env/interval_timer.h"

#include <utility>

namespace millstream::env {

Result<std::unique_ptr<IntervalTimer>> IntervalTimer::Start(std::string name, std::chrono::milliseconds interval,
                                                            std::function<void()> work, Executor& executor) {
  std::unique_ptr<IntervalTimer> timer(new IntervalTimer(interval, std::move(work)));
  MS_ASSIGN_OR_RETURN(timer->thread_,
                      executor.Start({.name = std::move(name), .cpu = std::nullopt}, [raw = timer.get()] {
                        while (raw->WaitForTurn()) raw->work_();
                      }));
  return timer;
}

IntervalTimer::~IntervalTimer() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
  thread_.reset();
}

bool IntervalTimer::WaitForTurn() {
  MutexLock lock(mutex_);
  while (!stopping_) {
    // A wake-up for no reason makes a turn late by less than one interval, never early.
    if (!wake_.WaitFor(mutex_, interval_)) break;
  }
  return !stopping_;
}

}  // namespace millstream::env

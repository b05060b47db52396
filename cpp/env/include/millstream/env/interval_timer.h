// IntervalTimer: calls a function at an interval, on a thread of its own, until it is destroyed.
//
// Threads     The function runs on the timer's thread, never twice at once; the first call comes one interval after
//             Start. The destructor waits for a call that runs.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "millstream/base/mutex.h"
#include "millstream/base/result.h"
#include "millstream/env/executor.h"

namespace millstream::env {

class IntervalTimer {
 public:
  // `name` is the thread's, as debuggers show it.
  static Result<std::unique_ptr<IntervalTimer>> Start(std::string name, std::chrono::milliseconds interval,
                                                      std::function<void()> work, Executor& executor);
  ~IntervalTimer();

 private:
  IntervalTimer(std::chrono::milliseconds interval, std::function<void()> work)
      : interval_(interval), work_(std::move(work)) {}
  // False when the timer ends instead.
  bool WaitForTurn() EXCLUDES(mutex_);

  const std::chrono::milliseconds interval_;
  const std::function<void()> work_;
  Mutex mutex_;
  CondVar wake_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::unique_ptr<Thread> thread_;
};

}  // namespace millstream::env

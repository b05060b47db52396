// MaintenanceTimer: calls a function at an interval, on a thread of its own, until it is destroyed.
//
// Threads     The function runs on the timer's thread; the destructor waits for a call that runs.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "millstream/base/mutex.h"
#include "millstream/base/result.h"
#include "millstream/env/executor.h"

namespace millstream::engine {

class MaintenanceTimer {
 public:
  static Result<std::unique_ptr<MaintenanceTimer>> Start(std::chrono::milliseconds interval, std::function<void()> work,
                                                         env::Executor& executor);
  ~MaintenanceTimer();

 private:
  MaintenanceTimer(std::chrono::milliseconds interval, std::function<void()> work)
      : interval_(interval), work_(std::move(work)) {}
  void Run() EXCLUDES(mutex_);
  // False when the timer ends instead.
  bool WaitForTurn() EXCLUDES(mutex_);

  const std::chrono::milliseconds interval_;
  const std::function<void()> work_;
  Mutex mutex_;
  CondVar wake_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::unique_ptr<env::Thread> thread_;
};

}  // namespace millstream::engine

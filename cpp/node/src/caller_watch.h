// CallerWatch: does something again and again until it is destroyed. A node looks by it whether those who have
// something open still may.
//
// Threads     The work runs on the watch's own thread, never twice at once. The destructor waits for it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "millstream/base/mutex.h"
#include "millstream/base/result.h"
#include "millstream/env/executor.h"

namespace millstream::node {

class CallerWatch {
 public:
  static Result<std::unique_ptr<CallerWatch>> Start(std::chrono::milliseconds interval, std::function<void()> work,
                                                    env::Executor& executor);
  ~CallerWatch();

 private:
  CallerWatch(std::chrono::milliseconds interval, std::function<void()> work)
      : interval_(interval), work_(std::move(work)) {}
  bool WaitForTurn() EXCLUDES(mutex_);

  const std::chrono::milliseconds interval_;
  const std::function<void()> work_;
  Mutex mutex_;
  CondVar wake_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::unique_ptr<env::Thread> thread_;
};

}  // namespace millstream::node

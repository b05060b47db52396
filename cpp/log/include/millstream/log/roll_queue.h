// RollQueue: logs whose rolls are to be finished, and a thread that does so for all of them.
//
// For logs without a thread of their own, of which there may be thousands.
//
// Threads     All functions from any thread; FinishOne is the queue's thread's, or one other's without it.
// Ownership   Borrows the logs, each until Remove, and the executor.
// Cost        The thread is started by the first Add; where that fails, logs finish their rolls themselves.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "millstream/base/mutex.h"
#include "millstream/env/executor.h"

namespace millstream::log {

class LocalLog;

class RollQueue {
 public:
  // Without an executor rolls are finished by FinishOne alone.
  RollQueue(env::Executor* executor, std::string thread_name);
  // The logs have been removed.
  ~RollQueue();

  void Add(LocalLog* log) EXCLUDES(mutex_);
  // Afterwards the queue does nothing with this log.
  void Remove(LocalLog* log) EXCLUDES(mutex_);
  // Finishes the roll that waits longest; false when none waits. What a log answers is the log's to remember.
  bool FinishOne() EXCLUDES(mutex_);

 private:
  void Loop() EXCLUDES(mutex_);

  env::Executor* const executor_;
  const std::string thread_name_;

  Mutex mutex_;
  CondVar work_;  // waiting_ or stopping_ changed
  CondVar done_;  // current_ changed
  std::deque<LocalLog*> waiting_ GUARDED_BY(mutex_);
  LocalLog* current_ GUARDED_BY(mutex_) = nullptr;
  bool stopping_ GUARDED_BY(mutex_) = false;
  // Set once; ends before anything that it uses goes.
  std::unique_ptr<env::Thread> thread_ GUARDED_BY(mutex_);
};

}  // namespace millstream::log

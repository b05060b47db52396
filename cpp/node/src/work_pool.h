// WorkPool: a fixed number of threads with a bounded queue before them.
//
// Threads     Submit from any thread; the destructor finishes what was submitted.
// Limits      A job that finds queue_max others waiting is refused.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "millstream/base/mutex.h"
#include "millstream/base/result.h"
#include "millstream/env/executor.h"

namespace millstream::node {

class WorkPool {
 public:
  static Result<std::unique_ptr<WorkPool>> Start(const std::string& name, int threads, size_t queue_max,
                                                 env::Executor& executor);
  ~WorkPool();

  // kResourceExhausted when the queue is full.
  Status Submit(std::function<void()> job) EXCLUDES(mutex_);

 private:
  WorkPool(std::string name, size_t queue_max) : name_(std::move(name)), queue_max_(queue_max) {}
  void Run() EXCLUDES(mutex_);

  const std::string name_;
  const size_t queue_max_;
  std::vector<std::unique_ptr<env::Thread>> threads_;

  Mutex mutex_;
  CondVar wake_;
  std::deque<std::function<void()>> queue_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace millstream::node

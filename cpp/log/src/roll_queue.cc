#include "millstream/log/roll_queue.h"

#include <algorithm>
#include <utility>

#include "millstream/base/check.h"
#include "millstream/log/local_log.h"

namespace millstream::log {

RollQueue::RollQueue(env::Executor* executor, std::string thread_name)
    : executor_(executor), thread_name_(std::move(thread_name)) {}

RollQueue::~RollQueue() {
  std::unique_ptr<env::Thread> thread;
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    work_.NotifyAll();
    thread = std::move(thread_);
  }
}

void RollQueue::Add(LocalLog* log) {
  const MutexLock lock(mutex_);
  if (std::ranges::find(waiting_, log) == waiting_.end()) waiting_.push_back(log);
  if (thread_ == nullptr && executor_ != nullptr) {
    if (auto started = executor_->Start({.name = thread_name_, .cpu = {}}, [this] { Loop(); }); started.ok()) {
      thread_ = std::move(*started);
    }
  }
  work_.NotifyOne();
}

void RollQueue::Remove(LocalLog* log) {
  const MutexLock lock(mutex_);
  std::erase(waiting_, log);
  while (current_ == log) done_.Wait(mutex_);
}

bool RollQueue::FinishOne() {
  LocalLog* log = nullptr;
  {
    const MutexLock lock(mutex_);
    if (waiting_.empty()) return false;
    MS_CHECK(current_ == nullptr);
    log = current_ = waiting_.front();
    waiting_.pop_front();
  }
  (void)log->FinishRoll().ok();
  const MutexLock lock(mutex_);
  current_ = nullptr;
  done_.NotifyAll();
  return true;
}

void RollQueue::Loop() {
  while (true) {
    {
      const MutexLock lock(mutex_);
      while (!stopping_ && waiting_.empty()) work_.Wait(mutex_);
      if (stopping_) return;
    }
    FinishOne();
  }
}

}  // namespace millstream::log

#include "work_pool.h"

#include <utility>

namespace millstream::node {

Result<std::unique_ptr<WorkPool>> WorkPool::Start(const std::string& name, int threads, size_t queue_max,
                                                  env::Executor& executor) {
  std::unique_ptr<WorkPool> pool(new WorkPool(name, queue_max));
  for (int i = 0; i < threads; ++i) {
    MS_ASSIGN_OR_RETURN(std::unique_ptr<env::Thread> thread,
                        executor.Start({.name = name, .cpu = std::nullopt}, [raw = pool.get()] { raw->Run(); }));
    pool->threads_.push_back(std::move(thread));
  }
  return pool;
}

WorkPool::~WorkPool() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
  threads_.clear();
}

Status WorkPool::Submit(std::function<void()> job) {
  {
    MutexLock lock(mutex_);
    if (stopping_) return Unavailable("the node is stopping");
    if (queue_.size() >= queue_max_) {
      return ResourceExhausted("{} requests wait for {} threads already; try again later", queue_.size(), name_);
    }
    queue_.push_back(std::move(job));
  }
  wake_.NotifyOne();
  return Status::Ok();
}

void WorkPool::Run() {
  for (;;) {
    std::function<void()> job;
    {
      MutexLock lock(mutex_);
      while (queue_.empty() && !stopping_) wake_.Wait(mutex_);
      if (queue_.empty()) return;
      job = std::move(queue_.front());
      queue_.pop_front();
    }
    job();
  }
}

}  // namespace millstream::node

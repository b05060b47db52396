// Worker: one thread that handles what other threads submit, in batches, in order.
//
// The engine runs one per partition: it is the only thread that writes to the partition's log and views.
//
// Threads     Submit and queued() from any thread. The handler runs on the worker's thread alone. Stop by one thread at
//             a time, never by the handler.
// Invariants  (1) What Submit accepted is handled, also when Stop comes right after.
// Errors      Submit: kResourceExhausted when queue_capacity values wait already, kUnavailable once it is stopping.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/base/status.h"
#include "millstream/env/executor.h"
#include "millstream/queue/mpsc_ring.h"
#include "millstream/queue/parker.h"

namespace millstream::queue {

struct WorkerOptions {
  std::string name;
  std::optional<int> cpu;        // the CPU to run on alone
  size_t queue_capacity = 1024;  // rounded up to a power of two
  size_t batch_max = 64;         // values per call of the handler
};

inline constexpr size_t kWorkerQueueCapacityMax = 1 << 20;

template <typename T>
class Worker {
 public:
  // Gets the next values, at least one, oldest first; may move from them.
  using Handler = std::function<void(std::span<T>)>;

  static Result<std::unique_ptr<Worker>> Start(env::Executor& executor, const WorkerOptions& options, Handler handler) {
    if (options.queue_capacity < 2 || options.queue_capacity > kWorkerQueueCapacityMax || options.batch_max == 0) {
      return InvalidArgument("worker {}: queue_capacity {} is not from 2 to {}, or batch_max {} is not positive",
                             options.name, options.queue_capacity, kWorkerQueueCapacityMax, options.batch_max);
    }
    std::unique_ptr<Worker> worker(new Worker(options, std::move(handler)));
    MS_ASSIGN_OR_RETURN(worker->thread_, executor.Start({.name = options.name, .cpu = options.cpu},
                                                        [raw = worker.get()] { raw->Run(); }));
    return worker;
  }

  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker() { Stop(); }

  // Takes the value over when the answer is OK; else it is still the caller's.
  Status Submit(T& value) {
    switch (ring_.TryPush(value)) {
      case PushResult::kOk:
        parker_.Notify();
        return Status::Ok();
      case PushResult::kFull:
        return ResourceExhausted("worker {}: its queue of {} is full", options_.name, ring_.capacity());
      case PushResult::kClosed:
        break;
    }
    return Unavailable("worker {} is stopping", options_.name);
  }

  // Handles what has been submitted, then ends the thread. Idempotent.
  void Stop() {
    ring_.Close();
    parker_.Notify();
    thread_ = nullptr;
  }

  // About how many values wait.
  size_t queued() const { return ring_.size(); }

 private:
  Worker(const WorkerOptions& options, Handler handler)
      : options_(options), handler_(std::move(handler)), ring_(options.queue_capacity) {}

  void Run() {
    std::vector<T> batch;
    batch.reserve(options_.batch_max);
    while (true) {
      batch.clear();
      if (ring_.PopBatch(&batch, options_.batch_max) > 0) {
        handler_(batch);
        continue;
      }
      if (ring_.IsDrained()) return;
      parker_.Prepare();
      if (ring_.HasNext() || ring_.IsDrained()) {
        parker_.Cancel();
      } else {
        parker_.Wait();
      }
    }
  }

  const WorkerOptions options_;
  const Handler handler_;
  MpscRing<T> ring_;
  Parker parker_;
  // Last, so that it has ended before anything that it uses goes.
  std::unique_ptr<env::Thread> thread_;
};

}  // namespace millstream::queue

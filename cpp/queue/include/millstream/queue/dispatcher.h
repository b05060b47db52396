// Dispatcher: hands values from many producers to a few workers, each value to the worker that its route chooses.
//
// A route is a hash, of topic and key for example: values of one route go to one worker, those of one producer in their
// order. Each producer has a lane to each worker, a ring that nobody else writes to; so producers never wait for one
// another. Control goes before data: a worker looks for it between two batches.
//
//   auto dispatcher = *Dispatcher<Order>::Start(env, {.name = "orders", .workers = 2}, handle);
//   auto producer = *dispatcher->NewProducer();
//   producer->TrySubmit(RouteOf("orders", order.customer), order);
//
// Threads     A producer is used by one thread at a time. SubmitControl, NewProducer and Stats from any thread. The
//             handler runs on the workers' threads. Stop by one thread at a time, when all producers are gone.
// Invariants  (1) What was published is handled, also when Stop comes right after. (2) Values of one producer and one
//             route are handled in the order in which they were submitted. (3) Control that was taken before a batch of
//             data began is handled before it.
// Cost        A value costs one move into its slot, and a batch of them one release store for each worker it touches.
//             Memory: workers * producers that exist * ring_capacity * sizeof(T), on the NUMA node of the worker's CPU.
// Errors      Full is an answer; it is counted as refused. kResourceExhausted beyond producers_max.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millstream/base/check.h"
#include "millstream/base/mutex.h"
#include "millstream/base/result.h"
#include "millstream/base/status.h"
#include "millstream/env/env.h"
#include "millstream/env/numa.h"
#include "millstream/queue/cache_line.h"
#include "millstream/queue/latency_histogram.h"
#include "millstream/queue/mpsc_ring.h"
#include "millstream/queue/route.h"
#include "millstream/queue/spsc_ring.h"
#include "millstream/queue/wait.h"

namespace millstream::queue {

inline constexpr size_t kDispatcherWorkersMax = 256;
inline constexpr size_t kDispatcherProducersMax = 256;
inline constexpr size_t kDispatcherRingCapacityMax = 1 << 20;
inline constexpr size_t kDispatcherBatchMax = 1 << 16;

struct DispatcherOptions {
  std::string name;
  size_t workers = 1;
  std::vector<int> cpus = {};  // worker i runs on cpus[i] alone; empty leaves them to the system
  WaitStrategy wait = WaitStrategy::kPark;
  size_t ring_capacity = 4096;    // of a lane; rounded up to a power of two
  size_t control_capacity = 256;  // of a worker; rounded up to a power of two
  size_t producers_max = 16;      // at a time
  size_t batch_max = 256;         // values for each call of the handler
  size_t latency_every = 256;     // one of so many values is timed; rounded up to a power of two; 0: none
};

enum class Priority : uint8_t { kControl, kData };

struct WorkerStats {
  uint64_t handled = 0;  // data
  uint64_t control_handled = 0;
  uint64_t batches = 0;
  uint64_t refused = 0;  // data that found its lane full
  uint64_t depth = 0;    // data that waits, about
  uint64_t control_depth = 0;
  uint64_t parks = 0;        // how often it slept
  LatencyHistogram latency;  // of the timed ones: from having a slot to the handler
};

template <typename T>
class Dispatcher {
  struct Lane;
  struct Worker;

 public:
  // Gets a worker's next values, at least one, of one producer; may move from them.
  using Handler = std::function<void(size_t worker, Priority priority, std::span<T> values)>;

  // One thread's way in.
  class Producer {
   public:
    ~Producer() {
      Publish();
      dispatcher_.Leave(number_);
    }
    Producer(const Producer&) = delete;
    Producer& operator=(const Producer&) = delete;

    // False when the worker's lane is full: then the value is still the caller's.
    bool TrySubmit(uint64_t route, T& value) {
      if (!TryStage(route, value)) return false;
      Publish();
      return true;
    }

    // As TrySubmit, but the worker sees it only after Publish: so that a batch costs less.
    bool TryStage(uint64_t route, T& value) {
      return TryStageWith(route, [&value](T& slot) { slot = std::move(value); });
    }
    // The same without a copy: `fill` writes the slot, which holds what an earlier value left.
    template <typename Fill>
    bool TryStageWith(uint64_t route, Fill&& fill) {
      const size_t worker = WorkerOf(route, lanes_.size());
      Lane& lane = *lanes_[worker];
      if (!lane.ring.StageWith(std::forward<Fill>(fill))) {
        // Relaxed: a count; one writer.
        lane.refused.store(lane.refused.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        return false;
      }
      dispatcher_.Stamp(&lane);
      if (!lane.staged) {
        lane.staged = true;
        touched_[touched_count_++] = worker;
      }
      return true;
    }

    void Publish() {
      for (size_t i = 0; i < touched_count_; ++i) {
        Lane& lane = *lanes_[touched_[i]];
        lane.ring.Publish();
        lane.staged = false;
        dispatcher_.workers_[touched_[i]]->waiter.Notify();
      }
      touched_count_ = 0;
    }

    // Waits for room, with the CPU's pause and then letting others run; first publishes what is staged.
    void Submit(uint64_t route, T& value) {
      for (uint32_t tries = 0; !TrySubmit(route, value); ++tries) Await(tries);
    }
    template <typename Fill>
    void StageWith(uint64_t route, Fill&& fill) {
      for (uint32_t tries = 0; !TryStageWith(route, fill); ++tries) Await(tries);
    }

   private:
    friend class Dispatcher;
    Producer(Dispatcher& dispatcher, size_t number) : dispatcher_(dispatcher), number_(number) {
      for (const auto& worker : dispatcher.workers_) {
        lanes_.push_back(worker->lanes[number].load(std::memory_order_acquire));  // made by this thread or before
      }
    }
    void Await(uint32_t tries) {
      Publish();
      if (tries < kLooksBeforeYield) {
        CpuPause();
      } else {
        std::this_thread::yield();
      }
    }

    Dispatcher& dispatcher_;
    const size_t number_;
    std::vector<Lane*> lanes_;
    std::array<size_t, kDispatcherWorkersMax> touched_;  // workers whose lanes hold staged values
    size_t touched_count_ = 0;
  };

  static Result<std::unique_ptr<Dispatcher>> Start(const env::Env& env, const DispatcherOptions& options,
                                                   Handler handler) {
    const auto within = [](size_t value, size_t low, size_t high) { return value >= low && value <= high; };
    if (!within(options.workers, 1, kDispatcherWorkersMax) ||
        !within(options.ring_capacity, 2, kDispatcherRingCapacityMax) ||
        !within(options.control_capacity, 2, kDispatcherRingCapacityMax) ||
        !within(options.producers_max, 1, kDispatcherProducersMax) ||
        !within(options.batch_max, 1, kDispatcherBatchMax) || options.latency_every > kDispatcherRingCapacityMax ||
        (!options.cpus.empty() && options.cpus.size() != options.workers)) {
      return InvalidArgument("dispatcher {}: an option is out of its bounds, or cpus are not one for each worker",
                             options.name);
    }
    std::unique_ptr<Dispatcher> dispatcher(new Dispatcher(env, options, std::move(handler)));
    for (size_t i = 0; i < options.workers; ++i) {
      std::optional<int> cpu;
      if (!options.cpus.empty()) cpu = options.cpus[i];
      MS_ASSIGN_OR_RETURN(dispatcher->workers_[i]->thread,
                          env.executor->Start({.name = options.name + "-" + std::to_string(i), .cpu = cpu},
                                              [raw = dispatcher.get(), i] { raw->Run(i); }));
    }
    return dispatcher;
  }
  ~Dispatcher() {
    const Status stopped = Stop();
    MS_CHECK(stopped.ok());  // a producer would use what is gone
  }
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  size_t workers() const { return workers_.size(); }

  // Which worker handles a route.
  static size_t WorkerOf(uint64_t route, size_t workers) { return ((route >> 32) * workers) >> 32; }

  // kResourceExhausted when producers_max exist, kUnavailable after Stop.
  Result<std::unique_ptr<Producer>> NewProducer() EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    if (stopped_) return Unavailable("dispatcher {} is stopped", options_.name);
    for (size_t number = 0; number < options_.producers_max; ++number) {
      if (taken_[number]) continue;
      taken_[number] = true;
      for (const auto& worker : workers_) {
        // Lanes stay for the next producer. Release: the worker receives the lane with the pointer.
        if (worker->lanes[number].load(std::memory_order_relaxed) != nullptr) continue;  // under the mutex
        worker->owned.push_back(std::make_unique<Lane>(options_, worker->memory));
        worker->lanes[number].store(worker->owned.back().get(), std::memory_order_release);
        worker->lane_count.store(number + 1, std::memory_order_release);
      }
      return std::unique_ptr<Producer>(new Producer(*this, number));
    }
    return ResourceExhausted("dispatcher {}: {} producers exist already", options_.name, options_.producers_max);
  }

  // To a worker, before all data that waits for it; any thread. Unless the answer is kOk the value is still the
  // caller's.
  PushResult SubmitControl(size_t worker, T& value) {
    MS_CHECK(worker < workers_.size());
    const PushResult result = workers_[worker]->control.TryPush(value);
    if (result == PushResult::kOk) workers_[worker]->waiter.Notify();
    return result;
  }

  // Handles what was published, then ends the threads. Idempotent. kFailedPrecondition while a producer exists.
  Status Stop() EXCLUDES(mutex_) {
    {
      MutexLock lock(mutex_);
      if (std::find(taken_.begin(), taken_.end(), true) != taken_.end()) {
        return FailedPrecondition("dispatcher {}: a producer still exists", options_.name);
      }
      stopped_ = true;
    }
    for (const auto& worker : workers_) {
      worker->control.Close();
      worker->stopping.store(true, std::memory_order_release);  // after all that producers published
      worker->waiter.Notify();
    }
    for (const auto& worker : workers_) worker->thread = nullptr;
    return Status::Ok();
  }

  WorkerStats Stats(size_t worker) const {
    MS_CHECK(worker < workers_.size());
    const Worker& of = *workers_[worker];
    // Relaxed: counts, each with one writer.
    WorkerStats stats{.handled = of.handled.load(std::memory_order_relaxed),
                      .control_handled = of.control_handled.load(std::memory_order_relaxed),
                      .batches = of.batches.load(std::memory_order_relaxed),
                      .control_depth = of.control.size(),
                      .parks = of.waiter.parks(),
                      .latency = of.latency};
    for (size_t i = 0; i < of.lane_count.load(std::memory_order_acquire); ++i) {  // receives the lanes
      const Lane& lane = *of.lanes[i].load(std::memory_order_acquire);
      stats.refused += lane.refused.load(std::memory_order_relaxed);
      stats.depth += lane.ring.size();
    }
    return stats;
  }

 private:
  // One producer's ring to one worker. Of every `latency_every` positions the first has a stamp, in the slot of a small
  // ring beside the values, which the values' release publishes too.
  struct Lane {
    Lane(const DispatcherOptions& options, std::pmr::memory_resource* memory)
        : ring(options.ring_capacity, memory),
          every(std::min(std::bit_ceil(options.latency_every), ring.capacity())),
          stamps(options.latency_every == 0 ? 0 : ring.capacity() / every) {}

    SpscRing<T> ring;
    const uint64_t every;
    std::vector<std::chrono::nanoseconds> stamps;
    alignas(kCacheLineBytes) uint64_t pushed = 0;  // these three are the producer's
    bool staged = false;
    std::atomic<uint64_t> refused{0};
    alignas(kCacheLineBytes) uint64_t popped = 0;  // the worker's
  };

  struct Worker {
    Worker(const DispatcherOptions& options, std::pmr::memory_resource* near)
        : memory(near), control(options.control_capacity), waiter(options.wait), lanes(options.producers_max) {}

    std::pmr::memory_resource* const memory;
    MpscRing<T> control;
    Waiter waiter;
    std::vector<std::atomic<Lane*>> lanes;                      // NewProducer writes, under the mutex
    std::atomic<size_t> lane_count{0};                          // likewise
    std::vector<std::unique_ptr<Lane>> owned;                   // likewise
    std::atomic<bool> stopping{false};                          // Stop writes
    alignas(kCacheLineBytes) std::atomic<uint64_t> handled{0};  // these and the latency are the worker's
    std::atomic<uint64_t> control_handled{0};
    std::atomic<uint64_t> batches{0};
    std::vector<T> control_batch;
    LatencyHistogram latency;
    std::unique_ptr<env::Thread> thread;  // last: it has ended before anything that it uses goes
  };

  Dispatcher(const env::Env& env, const DispatcherOptions& options, Handler handler)
      : clock_(*env.clock), options_(options), handler_(std::move(handler)), taken_(options.producers_max) {
    const env::Numa& numa = env::Numa::System();
    for (size_t i = 0; i < options.workers; ++i) {
      auto* memory =
          options.cpus.empty() ? std::pmr::new_delete_resource() : numa.MemoryOf(numa.NodeOfCpu(options.cpus[i]));
      workers_.push_back(std::make_unique<Worker>(options_, memory));
    }
  }

  void Leave(size_t number) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    taken_[number] = false;
  }

  void Stamp(Lane* lane) {
    const uint64_t position = lane->pushed++;
    if (lane->stamps.empty() || (position & (lane->every - 1)) != 0) return;
    lane->stamps[position / lane->every & (lane->stamps.size() - 1)] = clock_.MonotonicNow();
  }

  void Run(size_t number) {
    Worker& worker = *workers_[number];
    while (true) {
      size_t done = RunControl(number, &worker);
      const size_t lanes = worker.lane_count.load(std::memory_order_acquire);  // receives the lanes
      for (size_t i = 0; i < lanes; ++i) {
        Lane& lane = *worker.lanes[i].load(std::memory_order_acquire);  // likewise
        const size_t count = lane.ring.Consume(options_.batch_max, [&](std::span<T> values) {
          Time(&worker, &lane, values.size());
          Count(&worker.batches, 1);
          handler_(number, Priority::kData, values);
        });
        if (count == 0) continue;
        Count(&worker.handled, count);
        done += count + RunControl(number, &worker);
      }
      if (done > 0) {
        PauseAfter(done);
        continue;
      }
      if (worker.stopping.load(std::memory_order_acquire)) {  // what was published before it is seen now
        if (worker.control.IsDrained() && !HasWork(worker)) return;
        continue;
      }
      worker.waiter.Until([&] {
        return HasWork(worker) || worker.stopping.load(std::memory_order_acquire);  // as above
      });
    }
  }

  size_t RunControl(size_t number, Worker* worker) {
    if (!worker->control.HasNext()) return 0;
    worker->control_batch.clear();
    const size_t count = worker->control.PopBatch(&worker->control_batch, options_.batch_max);
    handler_(number, Priority::kControl, worker->control_batch);
    Count(&worker->control_handled, count);
    return count;
  }

  static bool HasWork(const Worker& worker) {
    if (worker.control.HasNext()) return true;
    const size_t lanes = worker.lane_count.load(std::memory_order_acquire);  // receives the lanes
    for (size_t i = 0; i < lanes; ++i) {
      if (worker.lanes[i].load(std::memory_order_acquire)->ring.HasNext()) return true;  // likewise
    }
    return false;
  }

  void Time(Worker* worker, Lane* lane, size_t count) {
    const uint64_t begin = lane->popped;
    lane->popped += count;
    if (lane->stamps.empty()) return;
    uint64_t position = (begin + lane->every - 1) & ~(lane->every - 1);
    if (position >= lane->popped) return;
    const std::chrono::nanoseconds now = clock_.MonotonicNow();
    for (; position < lane->popped; position += lane->every) {
      worker->latency.Record((now - lane->stamps[position / lane->every & (lane->stamps.size() - 1)]).count());
    }
  }

  static void Count(std::atomic<uint64_t>* counter, uint64_t amount) {
    // One writer; relaxed: a count.
    counter->store(counter->load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }

  env::Clock& clock_;
  const DispatcherOptions options_;
  const Handler handler_;
  std::vector<std::unique_ptr<Worker>> workers_;
  Mutex mutex_;
  std::vector<bool> taken_ GUARDED_BY(mutex_);  // producer numbers
  bool stopped_ GUARDED_BY(mutex_) = false;
};

}  // namespace millstream::queue

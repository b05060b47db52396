// Parker: lets one thread sleep until others have something for it, without a lost wake-up.
//
// The sleeper:                                  The others:
//   parker.Prepare();                             publish the work;
//   if (there is work) parker.Cancel();           parker.Notify();
//   else parker.Wait();
//
// Threads     One thread prepares, cancels and waits; any thread notifies.
// Memory      Both sides write, then read what the other wrote, with a full fence in between: either the sleeper sees
//             the work after Prepare, or Notify sees the sleeper.
// Cost        Notify while nobody sleeps: a fence and a load.
#pragma once

#include <atomic>
#include <cstdint>

#include "millstream/queue/atomics.h"
#include "millstream/queue/cache_line.h"

namespace millstream::queue {

template <typename Atomics>
class BasicParker {
 public:
  void Prepare() {
    state_.store(kParked, std::memory_order_relaxed);  // ordered by the fence
    Atomics::Fence(std::memory_order_seq_cst);         // before the sleeper looks for work
  }

  void Cancel() {
    state_.store(kAwake, std::memory_order_relaxed);  // a Notify in between wakes nobody, which is right
  }

  void Wait() {
    // Acquire: what the notifier did before is seen.
    while (state_.load(std::memory_order_acquire) == kParked) state_.wait(kParked, std::memory_order_acquire);
  }

  void Notify() {
    Atomics::Fence(std::memory_order_seq_cst);  // after the work was published
    // Relaxed: ordered by the fence.
    if (state_.load(std::memory_order_relaxed) != kParked) return;
    state_.store(kAwake, std::memory_order_release);  // pairs with Wait
    state_.notify_one();
  }

 private:
  static constexpr uint32_t kAwake = 0;
  static constexpr uint32_t kParked = 1;

  alignas(kCacheLineBytes)
      typename Atomics::template Atomic<uint32_t> state_{kAwake};  // the sleeper parks, either side wakes
};

using Parker = BasicParker<StdAtomics>;

}  // namespace millstream::queue

// How a consumer waits for its next values.
//
// Spin        looks again and again, with the CPU's pause in between: an answer within tens of nanoseconds, and a CPU
//             that does nothing else. For a pinned thread with a CPU of its own.
// Yield       looks for a while, then lets other threads run between looks.
// Park        looks for a while, then sleeps until it is notified: no CPU while idle, microseconds to wake.
//
// Threads     Until by the consumer, Notify by any producer after it has published, in every strategy.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>

#include "millstream/queue/parker.h"

namespace millstream::queue {

enum class WaitStrategy : uint8_t { kSpin, kYield, kPark };

// Looks before yielding or parking: 2,000 with a pause are some 20 to 100 microseconds.
inline constexpr uint32_t kLooksBeforeYield = 200;
inline constexpr uint32_t kLooksBeforePark = 2'000;

inline void CpuPause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// After fewer values than this a consumer lets so many pauses, some 50 to 200 ns, go by before it looks again: each
// look takes the ring's index away from a producer that is about to write it, and so costs both of them a transfer.
inline constexpr size_t kFewValues = 32;
inline constexpr int kPausesAfterFew = 8;

inline void PauseAfter(size_t values) {
  if (values >= kFewValues) return;
  for (int i = 0; i < kPausesAfterFew; ++i) CpuPause();
}

class Waiter {
 public:
  explicit Waiter(WaitStrategy strategy) : strategy_(strategy) {}

  // Returns once `has_work()` was true.
  template <typename HasWork>
  void Until(HasWork has_work) {
    for (uint32_t looks = 0; !has_work(); ++looks) {
      if (strategy_ == WaitStrategy::kYield && looks >= kLooksBeforeYield) {
        std::this_thread::yield();
      } else if (strategy_ == WaitStrategy::kPark && looks >= kLooksBeforePark) {
        parker_.Prepare();
        if (has_work()) {
          parker_.Cancel();
          return;
        }
        parker_.Wait();
        parks_.store(parks_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);  // one writer
      } else {
        CpuPause();
      }
    }
  }

  void Notify() {
    if (strategy_ == WaitStrategy::kPark) parker_.Notify();
  }

  WaitStrategy strategy() const { return strategy_; }
  // How often the consumer slept.
  uint64_t parks() const { return parks_.load(std::memory_order_relaxed); }  // a count needs no order

 private:
  const WaitStrategy strategy_;
  Parker parker_;
  std::atomic<uint64_t> parks_{0};  // the consumer writes
};

}  // namespace millstream::queue

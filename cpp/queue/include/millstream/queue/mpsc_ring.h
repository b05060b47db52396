// A bounded queue that hands values from any number of producer threads to one consumer thread without locks.
//
// Threads     Any thread calls TryPush, PushBatch and Close; one thread, the consumer, calls PopBatch, HasNext and
//             IsDrained. Construct and destroy while none runs.
// Invariants  (1) Values of one producer come out in the order in which it pushed them.
//             (2) After Close no push succeeds, so once IsDrained answers true it stays so and nothing is lost.
//             (3) Values of one PushBatch come out one after the other.
// Memory      A slot's sequence says whose turn it is: position p may be filled when it is p, and taken when it is
//             p + 1. Its release store publishes the slot to the other side, whose acquire load receives it.
// Cost        A push, also of a batch, is one compare-and-swap where producers do not collide; a pop is a load and a
//             store for each value. A producer
//             that is suspended between claiming a slot and filling it holds up the values behind it.
// Errors      None: full and closed are answers, not errors.
// Source      Dmitry Vyukov, "Bounded MPMC queue" (1024cores.net), for one consumer.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "millstream/base/check.h"
#include "millstream/queue/atomics.h"
#include "millstream/queue/cache_line.h"

namespace millstream::queue {

enum class PushResult { kOk, kFull, kClosed };

template <typename T, typename Atomics = StdAtomics>
class MpscRing {
 public:
  // `capacity_min`, at least 2, is rounded up to a power of two.
  explicit MpscRing(size_t capacity_min)
      : mask_(std::bit_ceil(capacity_min) - 1), slots_(std::make_unique<Slot[]>(mask_ + 1)) {
    MS_CHECK(capacity_min > 1);
    for (size_t i = 0; i <= mask_; ++i) slots_[i].sequence.store(i, std::memory_order_relaxed);  // nobody else runs yet
  }
  MpscRing(const MpscRing&) = delete;
  MpscRing& operator=(const MpscRing&) = delete;

  size_t capacity() const { return mask_ + 1; }

  // Unless the answer is kOk the value is still the caller's.
  PushResult TryPush(T& value) {
    uint64_t tail = tail_.load(std::memory_order_relaxed);  // a guess; the compare-and-swap checks it
    while (true) {
      if ((tail & kClosedBit) != 0) return PushResult::kClosed;
      Slot& slot = slots_[tail & mask_];
      const uint64_t sequence = slot.sequence.load(std::memory_order_acquire);  // the consumer is done with the slot
      if (sequence == tail) {
        // Relaxed: claiming publishes nothing, the sequence does.
        if (tail_.compare_exchange_weak(tail, tail + 1, std::memory_order_relaxed)) {
          slot.value = std::move(value);
          slot.sequence.store(tail + 1, std::memory_order_release);  // publishes the value
          return PushResult::kOk;
        }
      } else if (sequence < tail) {
        return PushResult::kFull;  // it still holds the value of one round before
      } else {
        tail = tail_.load(std::memory_order_relaxed);  // another producer was faster; a new guess
      }
    }
  }

  // Moves in as many as there is room for, from the front; returns how many. None may also mean closed.
  size_t PushBatch(std::span<T> values) {
    uint64_t tail = tail_.load(std::memory_order_relaxed);  // a guess; the compare-and-swap checks it
    size_t count = 0;
    do {
      if ((tail & kClosedBit) != 0) return 0;
      const uint64_t head = head_.load(std::memory_order_acquire);  // the consumer is done with the slots below
      // A guess so old that the consumer has passed it fails the swap below.
      const uint64_t waiting = tail > head ? tail - head : 0;
      count = std::min<uint64_t>(values.size(), waiting <= mask_ ? capacity() - waiting : 0);
      if (count == 0) return 0;
      // Relaxed: claiming publishes nothing, the sequences do.
    } while (!tail_.compare_exchange_weak(tail, tail + count, std::memory_order_relaxed));
    for (size_t i = 0; i < count; ++i) {
      Slot& slot = slots_[(tail + i) & mask_];
      slot.value = std::move(values[i]);
      slot.sequence.store(tail + i + 1, std::memory_order_release);  // publishes the value
    }
    return count;
  }

  // From now on every push answers kClosed. Idempotent.
  void Close() {
    // Acquire and release: what the closer did before is seen by whoever sees the ring closed, and the other way round.
    tail_.fetch_or(kClosedBit, std::memory_order_acq_rel);
  }

  // Moves at most `count_max` values, oldest first, to the end of `out`; returns how many.
  size_t PopBatch(std::vector<T>* out, size_t count_max) {
    uint64_t head = head_.load(std::memory_order_relaxed);  // only this thread writes it
    size_t count = 0;
    for (; count < count_max; ++count, ++head) {
      Slot& slot = slots_[head & mask_];
      if (slot.sequence.load(std::memory_order_acquire) != head + 1) break;  // receives the value
      out->push_back(std::move(slot.value));
      slot.sequence.store(head + mask_ + 1, std::memory_order_release);  // gives the slot back for the next round
    }
    if (count > 0) head_.store(head, std::memory_order_release);  // for PushBatch: the slots below are free
    return count;
  }

  // Whether PopBatch would find something.
  bool HasNext() const {
    const uint64_t head = head_.load(std::memory_order_relaxed);                       // only this thread writes it
    return slots_[head & mask_].sequence.load(std::memory_order_acquire) == head + 1;  // pairs with the push
  }

  // Whether the ring is closed and all that was pushed has been popped.
  bool IsDrained() const {
    const uint64_t tail = tail_.load(std::memory_order_acquire);  // pairs with Close
    return (tail & kClosedBit) != 0 && (tail & ~kClosedBit) == head_.load(std::memory_order_relaxed);  // own counter
  }

  // About how many values wait; any thread.
  size_t size() const {
    const uint64_t head = head_.load(std::memory_order_relaxed);                // an estimate needs no order
    const uint64_t tail = tail_.load(std::memory_order_relaxed) & ~kClosedBit;  // nor here
    return tail > head ? static_cast<size_t>(tail - head) : 0;
  }

 private:
  static constexpr uint64_t kClosedBit = uint64_t{1} << 63;

  template <typename U>
  using Atomic = typename Atomics::template Atomic<U>;

  struct Slot {
    Atomic<uint64_t> sequence{0};  // written by the producer that claimed the slot, then by the consumer
    T value{};
  };

  const size_t mask_;
  const std::unique_ptr<Slot[]> slots_;
  alignas(kCacheLineBytes) Atomic<uint64_t> tail_{0};  // producers write, and whoever closes
  alignas(kCacheLineBytes) Atomic<uint64_t> head_{0};  // the consumer writes
};

}  // namespace millstream::queue

// A bounded queue that hands values from one producer thread to one consumer thread without locks.
//
// Threads     One thread calls TryPush, one calls PopBatch. Construct and destroy while neither runs.
// Invariants  (1) 0 <= tail_ - head_ <= capacity(). Both only grow; 2^64 pushes are out of reach.
// Memory      The release store of tail_ publishes a slot; the acquire load of tail_ receives it. The release store of
//             head_ gives the slot back, and the acquire load of head_ takes it.
// Cost        O(1) each, wait-free, no allocation but PopBatch's vector. Each side keeps a copy of the other's counter
//             and reads the shared one only when the copy no longer suffices.
// Errors      None: full and empty are answers, not errors.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "millstream/base/check.h"
#include "millstream/queue/cache_line.h"

namespace millstream::queue {

template <typename T>
class SpscRing {
 public:
  // `capacity_min`, at least 1, is rounded up to a power of two.
  explicit SpscRing(size_t capacity_min)
      : mask_(std::bit_ceil(capacity_min) - 1), slots_(std::make_unique<T[]>(mask_ + 1)) {
    MS_CHECK(capacity_min > 0);
  }
  SpscRing(const SpscRing&) = delete;
  SpscRing& operator=(const SpscRing&) = delete;

  size_t capacity() const { return mask_ + 1; }

  // False when full; the value is then still the caller's.
  bool TryPush(T& value) {
    const uint64_t tail = tail_.load(std::memory_order_relaxed);  // only this thread writes it
    if (tail - head_seen_ > mask_) {
      head_seen_ = head_.load(std::memory_order_acquire);  // the consumer is done with the slot
      if (tail - head_seen_ > mask_) return false;
    }
    slots_[tail & mask_] = std::move(value);
    tail_.store(tail + 1, std::memory_order_release);  // publishes the slot
    return true;
  }

  // Moves at most `count_max` values, oldest first, to the end of `out`; returns how many.
  size_t PopBatch(std::vector<T>* out, size_t count_max) {
    const uint64_t head = head_.load(std::memory_order_relaxed);  // only this thread writes it
    if (tail_seen_ - head < count_max) tail_seen_ = tail_.load(std::memory_order_acquire);  // receives the slots
    const uint64_t available = tail_seen_ - head;
    const size_t count = available < count_max ? static_cast<size_t>(available) : count_max;
    for (size_t i = 0; i < count; ++i) out->push_back(std::move(slots_[(head + i) & mask_]));
    head_.store(head + count, std::memory_order_release);  // gives the slots back
    return count;
  }

 private:
  const size_t mask_;
  const std::unique_ptr<T[]> slots_;
  alignas(kCacheLineBytes) std::atomic<uint64_t> tail_{0};  // the producer writes
  uint64_t head_seen_ = 0;                                  // the producer's
  alignas(kCacheLineBytes) std::atomic<uint64_t> head_{0};  // the consumer writes
  uint64_t tail_seen_ = 0;                                  // the consumer's
};

}  // namespace millstream::queue

// A bounded queue that hands values from one producer thread to one consumer thread without locks.
//
// Threads     One thread calls Stage, StageWith, Publish, TryPush and PushBatch, one calls Consume, PopBatch and
//             HasNext; size from any. A side may pass to another thread when something else orders the two. Construct
//             and destroy while none runs.
// Invariants  (1) 0 <= tail - head <= capacity. Both only grow; 2^64 pushes are out of reach. (2) Values come out in
//             the order in which they went in.
// Memory      The release store of tail_ publishes slots, the acquire load of tail_ receives them; head_ gives them
//             back in the same way. Each side keeps the other's index as it last saw it, and its own, in a cache line
//             that nobody else touches, and looks again only when that says full or empty: as long as neither happens
//             the sides share nothing but slots.
// Cost        O(1), wait-free, no allocation; a batch costs one release store. Memory: capacity * sizeof(T) and five
//             cache lines.
// Errors      None: full and empty are answers, not errors.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <new>
#include <span>
#include <utility>
#include <vector>

#include "millstream/base/check.h"
#include "millstream/queue/atomics.h"
#include "millstream/queue/cache_line.h"

namespace millstream::queue {

template <typename T, typename Atomics = StdAtomics>
class SpscRing {
 public:
  // `capacity_min` is rounded up to a power of two. The slots live in `memory`, which outlives the ring.
  explicit SpscRing(size_t capacity_min, std::pmr::memory_resource* memory = std::pmr::new_delete_resource())
      : mask_(std::bit_ceil(capacity_min) - 1), memory_(memory) {
    MS_CHECK(capacity_min > 0);
    slots_ = static_cast<T*>(memory_->allocate(capacity() * sizeof(T), kAlignment));
    for (size_t i = 0; i < capacity(); ++i) new (slots_ + i) T();
  }
  ~SpscRing() {
    std::destroy_n(slots_, capacity());
    memory_->deallocate(slots_, capacity() * sizeof(T), kAlignment);
  }
  SpscRing(const SpscRing&) = delete;
  SpscRing& operator=(const SpscRing&) = delete;

  size_t capacity() const { return mask_ + 1; }

  // Producer: puts the value into the next slot, where the consumer sees it after Publish. False when there is no slot;
  // then the value is still the caller's.
  bool Stage(T& value) {
    return StageWith([&value](T& slot) { slot = std::move(value); });
  }
  // The same without a copy: `fill` writes the slot, which holds what an earlier value left.
  template <typename Fill>
  bool StageWith(Fill&& fill) {
    if (staged_ - head_seen_ > mask_) {
      head_seen_ = head_.load(std::memory_order_acquire);  // the consumer is done with the slots below
      if (staged_ - head_seen_ > mask_) return false;
    }
    fill(slots_[staged_ & mask_]);
    ++staged_;
    return true;
  }

  // Producer: shows the consumer what was staged.
  void Publish() {
    tail_.store(staged_, std::memory_order_release);  // publishes the slots
  }

  bool TryPush(T& value) {
    if (!Stage(value)) return false;
    Publish();
    return true;
  }

  // Producer: moves in as many as there is room for, from the front; returns how many.
  size_t PushBatch(std::span<T> values) {
    size_t count = 0;
    while (count < values.size() && Stage(values[count])) ++count;
    if (count > 0) Publish();
    return count;
  }

  // Consumer: calls `handle` with the next values, at most `count_max`, oldest first, in their slots; it may move from
  // them. Once or, where they go round the end, twice. Returns how many: some when there are some, but perhaps not all
  // that came since it last looked.
  template <typename Handle>
  size_t Consume(size_t count_max, Handle&& handle) {
    if (tail_seen_ == consumed_) {
      tail_seen_ = tail_.load(std::memory_order_acquire);  // receives the slots
      if (tail_seen_ == consumed_) return 0;
    }
    const size_t count = std::min<uint64_t>(tail_seen_ - consumed_, count_max);
    const size_t begin = consumed_ & mask_;
    const size_t first = std::min(count, capacity() - begin);
    if (first > 0) handle(std::span<T>(slots_ + begin, first));
    if (first < count) handle(std::span<T>(slots_, count - first));
    consumed_ += count;
    head_.store(consumed_, std::memory_order_release);  // gives the slots back
    return count;
  }

  // Consumer: moves at most `count_max` values to the end of `out`; returns how many.
  size_t PopBatch(std::vector<T>* out, size_t count_max) {
    return Consume(count_max, [out](std::span<T> values) {
      for (T& value : values) out->push_back(std::move(value));
    });
  }

  // Consumer: whether Consume would find something.
  bool HasNext() const {
    if (tail_seen_ != consumed_) return true;
    return tail_.load(std::memory_order_acquire) != consumed_;  // as in Consume
  }

  // About how many values wait; any thread.
  size_t size() const {
    const uint64_t head = head_.load(std::memory_order_relaxed);  // an estimate needs no order
    const uint64_t tail = tail_.load(std::memory_order_relaxed);  // nor here
    return tail > head ? static_cast<size_t>(tail - head) : 0;
  }

 private:
  static constexpr size_t kAlignment = std::max(alignof(T), kCacheLineBytes);

  template <typename U>
  using Atomic = typename Atomics::template Atomic<U>;

  const size_t mask_;
  std::pmr::memory_resource* const memory_;
  T* slots_ = nullptr;
  // The producer writes the first and the consumer the second; the other side takes the line away when it looks.
  alignas(kCacheLineBytes) Atomic<uint64_t> tail_{0};
  alignas(kCacheLineBytes) Atomic<uint64_t> head_{0};
  // Of the producer alone …
  alignas(kCacheLineBytes) uint64_t staged_ = 0;
  uint64_t head_seen_ = 0;
  // … and of the consumer alone.
  alignas(kCacheLineBytes) uint64_t consumed_ = 0;
  uint64_t tail_seen_ = 0;
};

}  // namespace millstream::queue

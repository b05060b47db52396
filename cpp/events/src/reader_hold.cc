// Readers that hold a partition in memory, and publishers that wait for them.
#include "reader_hold.h"

#include <algorithm>

#include "partition.h"
#include "topic_state.h"

namespace millstream::events {

ReaderHold::~ReaderHold() {
  End();
}

void ReaderHold::Begin(uint64_t offset) {
  begun_ = true;
  partition_.AddHold(this, offset);
}

void ReaderHold::End() {
  if (begun_) partition_.RemoveHold(this);
  begun_ = false;
}

bool ReaderHold::Move(uint64_t offset) {
  return !begun_ || partition_.MoveHold(this, offset);
}

void Partition::AddHold(ReaderHold* hold, uint64_t offset) {
  const MutexLock lock(mutex_);
  hold->offset_ = offset;
  hold->is_held_ = true;
  holds_.push_back(hold);
}

bool Partition::MoveHold(ReaderHold* hold, uint64_t offset) {
  const MutexLock lock(mutex_);
  if (!hold->is_held_) return false;
  if (offset != hold->offset_) hold->holds_up_ = false;
  hold->offset_ = offset;
  room_.NotifyAll();
  return true;
}

void Partition::RemoveHold(ReaderHold* hold) {
  const MutexLock lock(mutex_);
  std::erase(holds_, hold);
  room_.NotifyAll();
}

uint64_t Partition::HeldFrom() const {
  uint64_t from = UINT64_MAX;
  for (const ReaderHold* hold : holds_) from = std::min(from, hold->offset_);
  return from;
}

uint64_t Partition::RoomNeededUpTo(uint64_t bytes) const {
  const uint64_t wanted = tail_bytes_ + reserved_bytes_ + bytes;
  const uint64_t bytes_max = TailBytesMax();
  uint64_t freed = 0;
  uint64_t up_to = 0;
  for (const EventPtr& event : tail_) {
    if (wanted - freed <= bytes_max) return up_to;
    freed += event->bytes();
    up_to = event->offset() + 1;
  }
  // Without anything that is there; what is on its way cannot be dropped.
  return wanted - freed <= bytes_max || reserved_bytes_ == 0 ? up_to : UINT64_MAX;
}

bool Partition::IsHeldUp(uint64_t bytes, std::chrono::nanoseconds now, std::chrono::nanoseconds stall_max) {
  if (holds_.empty()) return false;
  const uint64_t up_to = RoomNeededUpTo(bytes);
  const uint64_t goes_below = std::min(up_to, end_);
  bool is_held_up = false;
  std::erase_if(holds_, [&](ReaderHold* hold) {
    if (hold->offset_ >= goes_below) return false;
    if (!hold->holds_up_) {
      hold->holds_up_ = true;
      hold->holds_up_since_ = now;
    }
    if (now - hold->holds_up_since_ < stall_max) {
      is_held_up = true;
      return false;
    }
    hold->is_held_ = false;
    hold->listener_.OnEvents();
    return true;
  });
  // With readers that have read all, only what is on its way is in the way.
  return is_held_up || (!holds_.empty() && up_to == UINT64_MAX);
}

Status Partition::Reserve(uint64_t bytes, const env::Clock& clock, std::chrono::nanoseconds deadline,
                          std::chrono::nanoseconds stall_max) {
  const MutexLock lock(mutex_);
  while (IsHeldUp(bytes, clock.MonotonicNow(), stall_max)) {
    const auto left = deadline - clock.MonotonicNow();
    if (left <= std::chrono::nanoseconds(0)) {
      return ResourceExhausted(
          "topic \"{}\" is in memory and partition {} is full of events that a subscription with on_slow \"block\" has "
          "not read yet: try again",
          topic_.name(), index_);
    }
    (void)room_.WaitFor(mutex_, left);
  }
  reserved_bytes_ += bytes;
  return Status::Ok();
}

uint64_t Partition::BytesAtOnce() const {
  const MutexLock lock(mutex_);
  return holds_.empty() ? UINT64_MAX : TailBytesMax();
}

bool Partition::is_held() const {
  const MutexLock lock(mutex_);
  return !holds_.empty();
}

void Partition::Release(uint64_t bytes) {
  const MutexLock lock(mutex_);
  reserved_bytes_ -= bytes;
  room_.NotifyAll();
}

}  // namespace millstream::events

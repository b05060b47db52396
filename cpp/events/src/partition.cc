#include "partition.h"

#include <algorithm>
#include <utility>

#include "millstream/base/check.h"
#include "millstream/events/limits.h"
#include "partition_writer.h"
#include "topic_state.h"

namespace millstream::events {

Partition::Partition(const Topic& topic, uint32_t index, std::string folder, PartitionWriter& writer,
                     std::atomic<uint64_t>& tail_bytes_total)
    : topic_(topic),
      index_(index),
      folder_(std::move(folder)),
      writer_(writer),
      tail_bytes_total_(tail_bytes_total),
      known_(folder_.empty()) {}

Partition::~Partition() {
  const MutexLock lock(mutex_);
  ClearTail();
}

// --- reading ---

PartitionEnds Partition::EndsLocked() const {
  uint64_t bytes = in_memory() ? tail_bytes_ : log_bytes_;
  if (log_ != nullptr) bytes = log_->log().bytes();
  return {.start = start_, .end = end_, .bytes = bytes};
}

Result<Partition::Where> Partition::ReadTail(uint64_t offset, ReadLimits* limits, bool with_gone, PartitionRead* out,
                                             std::shared_ptr<OpenLog>* log, uint64_t* log_end) {
  // Relaxed: only decides which log is closed first.
  last_used_.store(writer_.turn(), std::memory_order_relaxed);
  const MutexLock lock(mutex_);
  if (deleted_) return NotFound("topic \"{}\" was deleted", topic_.name());
  if (!known_) return Where::kClosed;
  out->ends = EndsLocked();
  if (offset < start_ || offset > end_) {
    return OutOfRange("topic \"{}\" partition {} has no offset {}: it has those from {} to before {}", topic_.name(),
                      index_, offset, start_, end_);
  }
  out->next = offset;
  if (offset == end_) return Where::kDone;
  if (offset < tail_start_) {
    if (log_ == nullptr) return Where::kClosed;
    *log = log_;
    *log_end = tail_start_;
    return Where::kInLog;
  }
  auto event = std::ranges::lower_bound(tail_, offset, {}, [](const EventPtr& e) { return e->offset(); });
  out->next = end_;
  for (; event != tail_.end(); ++event) {
    if (limits->events == 0 || limits->bytes == 0) {
      out->next = out->events.empty() ? offset : out->events.back()->offset() + 1;
      break;
    }
    if ((*event)->view().is_gone && !with_gone) continue;
    --limits->events;
    limits->bytes -= std::min(limits->bytes, (*event)->bytes());
    out->events.push_back(*event);
  }
  return Where::kDone;
}

Result<PartitionRead> Partition::Read(uint64_t offset, ReadLimits limits, bool with_gone) {
  PartitionRead out;
  while (true) {
    std::shared_ptr<OpenLog> log;
    uint64_t log_end = 0;
    MS_ASSIGN_OR_RETURN(const Where where, ReadTail(offset, &limits, with_gone, &out, &log, &log_end));
    if (where == Where::kDone) return out;
    if (where == Where::kClosed) {
      MS_RETURN_IF_ERROR(writer_.Open(*this));
      continue;
    }
    MS_ASSIGN_OR_RETURN(offset, log->Read(topic_.number(), index_, offset, log_end, with_gone, &limits, &out.events));
    out.next = offset;
    // The rest may be in memory.
    if (limits.events == 0 || limits.bytes == 0 || offset < log_end) return out;
  }
}

Result<uint64_t> Partition::ReadInto(uint64_t* offset, ReadLimits limits,
                                     const std::shared_ptr<const std::string>& name, EventSink& sink) {
  while (true) {
    PartitionRead in_tail;
    std::shared_ptr<OpenLog> log;
    uint64_t log_end = 0;
    MS_ASSIGN_OR_RETURN(const Where where, ReadTail(*offset, &limits, false, &in_tail, &log, &log_end));
    if (where == Where::kDone) {
      for (const EventPtr& event : in_tail.events) {
        *offset = event->offset();
        if (!sink.Take(name, PlacedEvent::Of(*event))) return in_tail.ends.end;
      }
      *offset = in_tail.next;
      return in_tail.ends.end;
    }
    if (where == Where::kClosed) {
      MS_RETURN_IF_ERROR(writer_.Open(*this));
      continue;
    }
    MS_ASSIGN_OR_RETURN(const bool took_all,
                        log->ReadInto(topic_.number(), index_, name, offset, log_end, &limits, sink));
    // The rest may be in memory.
    if (!took_all || limits.events == 0 || limits.bytes == 0 || *offset < log_end) return in_tail.ends.end;
  }
}

Result<EventPtr> Partition::ReadOne(uint64_t offset, bool with_gone) {
  auto read = Read(offset, {.events = 1, .bytes = 1}, with_gone);
  if (!read.ok() && read.status().code() != StatusCode::kOutOfRange) return std::move(read).status();
  if (!read.ok() || read->events.empty() || read->events.front()->offset() != offset) {
    return NotFound("topic \"{}\" partition {} has no event at offset {}", topic_.name(), index_, offset);
  }
  return read->events.front();
}

Result<PartitionEnds> Partition::Ends() {
  while (true) {
    {
      const MutexLock lock(mutex_);
      if (deleted_) return NotFound("topic \"{}\" was deleted", topic_.name());
      if (known_) return EndsLocked();
    }
    MS_RETURN_IF_ERROR(writer_.Open(*this));
  }
}

bool Partition::IsInMemory(uint64_t offset) const {
  const MutexLock lock(mutex_);
  return deleted_ || in_memory() || (known_ && offset >= tail_start_);
}

Result<uint64_t> Partition::FirstTakenAfter(TimestampMs taken_ms) {
  MS_ASSIGN_OR_RETURN(const PartitionEnds ends, Ends());
  // Events are in the order in which they were taken.
  uint64_t low = ends.start;
  uint64_t high = ends.end;
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    MS_ASSIGN_OR_RETURN(const PartitionRead read, Read(middle, {.events = 1, .bytes = 1}, true));
    if (read.events.empty() || read.events.front()->view().taken_ms > taken_ms) {
      high = middle;
    } else {
      low = read.events.front()->offset() + 1;
    }
  }
  return low;
}

Result<std::optional<TimeRange>> Partition::FindRange(uint64_t offset, TimestampMs timestamp) {
  while (true) {
    {
      const MutexLock lock(mutex_);
      if (deleted_) return NotFound("topic \"{}\" was deleted", topic_.name());
      offset = std::max(offset, start_);
      if (known_ && (in_memory() || start_ == end_)) {
        return offset < end_ ? std::optional(TimeRange{offset, end_, timestamp}) : std::nullopt;
      }
      if (known_ && log_ != nullptr) {
        if (const auto range = times_.Find(offset, active_start_, timestamp); range.has_value()) return range;
        offset = std::max(offset, active_start_);
        if (offset >= end_ || active_newest_ < timestamp) return std::optional<TimeRange>();
        return std::optional(TimeRange{offset, end_, active_newest_});
      }
    }
    MS_RETURN_IF_ERROR(writer_.Open(*this));
  }
}

Result<uint64_t> Partition::OffsetAt(TimestampMs timestamp) {
  MS_ASSIGN_OR_RETURN(const PartitionEnds ends, Ends());
  uint64_t offset = ends.start;
  while (true) {
    MS_ASSIGN_OR_RETURN(const std::optional<TimeRange> range, FindRange(offset, timestamp));
    if (!range.has_value()) break;
    for (offset = range->first; offset < range->end;) {
      auto read = Read(offset, {.events = kFetchEventsMax, .bytes = kTailBytesMin});
      // Retention came in between: on behind it.
      if (!read.ok() && read.status().code() == StatusCode::kOutOfRange) break;
      if (!read.ok()) return std::move(read).status();
      for (const EventPtr& event : read->events) {
        if (event->view().timestamp >= timestamp) return event->offset();
      }
      if (read->next == offset) break;
      offset = read->next;
    }
    // What was looked at has none; nothing is looked at twice.
    offset = std::max(offset, range->end);
  }
  MS_ASSIGN_OR_RETURN(const PartitionEnds now, Ends());
  return now.end;
}

void Partition::AddListener(PartitionListener* listener, uint64_t seen_end) {
  const MutexLock lock(mutex_);
  listeners_.push_back(listener);
  if (!known_ || deleted_ || end_ > seen_end) listener->OnEvents();
}

void Partition::RemoveListener(PartitionListener* listener) {
  const MutexLock lock(mutex_);
  std::erase(listeners_, listener);
}

void Partition::WakeListeners() {
  const MutexLock lock(mutex_);
  for (PartitionListener* listener : listeners_) listener->OnEvents();
}

// --- the tail ---

uint64_t Partition::TailBytesMax() const {
  if (!in_memory()) {
    // Relaxed: a bound on memory needs no order.
    return tail_bytes_total_.load(std::memory_order_relaxed) > kTailBytesTotalMax ? kTailBytesMin : kTailBytesMax;
  }
  const int64_t retention = topic_.options().retention_bytes;
  return retention > 0 ? std::min(static_cast<uint64_t>(retention), kMemoryTopicBytes) : kMemoryTopicBytes;
}

void Partition::PushTail(EventPtr event) {
  tail_bytes_ += event->bytes();
  tail_.push_back(std::move(event));
}

void Partition::PopTail() {
  tail_bytes_ -= tail_.front()->bytes();
  tail_start_ = tail_.front()->offset() + 1;
  tail_.pop_front();
  if (in_memory()) start_ = std::max(start_, tail_start_);
}

std::shared_ptr<OpenLog> Partition::HoldLog() const {
  const MutexLock lock(mutex_);
  return deleted_ ? nullptr : log_;
}

uint64_t Partition::ForgetTail(const std::function<Fate(const StoredEvent&)>& fate_of) {
  uint64_t gone = 0;
  const MutexLock lock(mutex_);
  std::deque<EventPtr> kept;
  for (EventPtr& event : tail_) {
    const Fate fate = fate_of(*event);
    if (fate != Fate::kStays) {
      tail_bytes_ -= event->bytes();
      gone += event->view().is_gone ? 0 : 1;
    }
    if (fate == Fate::kGoes) continue;
    if (fate == Fate::kLeavesMark) {
      auto mark = StoredEvent::Make(EncodeGone(event->view()));
      MS_CHECK(mark.ok());
      (*mark)->SetPlace(event->topic(), event->partition(), event->offset());
      tail_bytes_ += (*mark)->bytes();
      event = std::move(*mark);
    } else if (event->is_in_slab()) {
      // It may be the last that is left of what came with it.
      event = event->Copy();
    }
    kept.push_back(std::move(event));
  }
  tail_ = std::move(kept);
  CountTail();
  return gone;
}

void Partition::CountTail() {
  // Relaxed: a bound on memory needs no order.
  tail_bytes_total_.fetch_add(tail_bytes_ - tail_bytes_counted_, std::memory_order_relaxed);
  tail_bytes_counted_ = tail_bytes_;
}

void Partition::ClearTail() {
  tail_bytes_ = 0;
  CountTail();
  tail_.clear();
  tail_start_ = end_;
}

// --- writer ---

void Partition::SetOpen(std::shared_ptr<OpenLog> log, uint64_t start, uint64_t end, std::vector<EventPtr> tail) {
  const MutexLock lock(mutex_);
  log_ = std::move(log);
  known_ = true;
  start_ = std::max(start, std::min(start_, end));
  end_ = end;
  ClearTail();
  if (!tail.empty()) tail_start_ = tail.front()->offset();
  for (EventPtr& event : tail) PushTail(std::move(event));
  const uint64_t bytes_max = TailBytesMax();
  while (tail_bytes_ > bytes_max && !tail_.empty()) PopTail();
  CountTail();
}

void Partition::SetTimes(TimeIndex times, uint64_t active_start, TimestampMs active_newest) {
  const MutexLock lock(mutex_);
  times_ = std::move(times);
  active_start_ = active_start;
  active_newest_ = active_newest;
}

std::optional<TimeRange> Partition::NoteTimes(uint64_t active_start, TimestampMs newest) {
  const MutexLock lock(mutex_);
  std::optional<TimeRange> closed;
  if (active_start != active_start_) {
    closed = TimeRange{active_start_, active_start, active_newest_};
    times_.Add(*closed);
    active_start_ = active_start;
    active_newest_ = kNoTimestamp;
  }
  active_newest_ = std::max(active_newest_, newest);
  return closed;
}

std::shared_ptr<OpenLog> Partition::TakeLog(bool always) {
  const MutexLock lock(mutex_);
  if (log_ == nullptr || (!always && log_.use_count() > 1)) return nullptr;
  log_bytes_ = log_->log().bytes();
  ClearTail();
  times_ = TimeIndex();
  return std::exchange(log_, nullptr);
}

void Partition::Show(std::vector<std::shared_ptr<StoredEvent>> events) {
  const MutexLock lock(mutex_);
  end_ = events.back()->offset() + 1;
  for (auto& event : events) PushTail(std::move(event));
  const uint64_t bytes_max = TailBytesMax();
  const uint64_t held_from = HeldFrom();
  while (tail_bytes_ > bytes_max && tail_.size() > 1 && tail_.front()->offset() < held_from) PopTail();
  CountTail();
  for (PartitionListener* listener : listeners_) listener->OnEvents();
}

void Partition::SetDeleted() {
  const MutexLock lock(mutex_);
  deleted_ = true;
  log_ = nullptr;
  ClearTail();
  for (PartitionListener* listener : listeners_) listener->OnEvents();
}

void Partition::SetStart(uint64_t start) {
  const MutexLock lock(mutex_);
  start_ = std::max(start_, std::min(start, end_));
  while (!tail_.empty() && tail_.front()->offset() < start_) PopTail();
  CountTail();
}

}  // namespace millstream::events

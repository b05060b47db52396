#include "compaction.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "key_map.h"
#include "millstream/events/limits.h"
#include "partition_writer.h"
#include "topic_state.h"

namespace millstream::events {
namespace {

// A partition is not compacted again before this, unless this much is new.
constexpr int64_t kPauseMs = 10'000;
constexpr uint64_t kNewBytes = 1 << 20;
// A segment is joined with its neighbours up to this.
constexpr uint64_t kJoinedBytes = 16 << 20;

// One pass: what it knows, and what that means for an event.
class Pass {
 public:
  Pass(KeyMap* keys, const TopicOptions& options, TimestampMs now, uint64_t remembered_from)
      : keys_(keys),
        youngest_(now - options.min_compaction_lag_ms),
        tombstones_until_(now - options.delete_retention_ms),
        remembered_from_(remembered_from) {}

  // False: the pass ends before this event.
  bool Note(const EventView& event, uint64_t offset) {
    if (event.taken_ms > youngest_) return false;
    if (!event.is_gone && event.key.has_value() && !keys_->Put(*event.key, offset)) {
      is_full_ = true;
      return false;
    }
    return true;
  }
  void EndAt(uint64_t offset) { end_ = offset; }
  uint64_t end() const { return end_; }
  bool is_full() const { return is_full_; }

  Fate FateOf(const EventView& event, uint64_t offset) const {
    const bool remembered = offset >= remembered_from_ && (!event.client_id.empty() || event.producer.has_value());
    if (event.is_gone) return remembered ? Fate::kStays : Fate::kGoes;
    if (!event.key.has_value() || offset >= end_) return Fate::kStays;
    const bool superseded = keys_->Find(*event.key).value_or(0) > offset;
    const bool expired = IsTombstone(event) && event.taken_ms <= tombstones_until_;
    if (!superseded && !expired) return Fate::kStays;
    return remembered ? Fate::kLeavesMark : Fate::kGoes;
  }

 private:
  KeyMap* keys_;
  const TimestampMs youngest_;
  const TimestampMs tombstones_until_;
  const uint64_t remembered_from_;
  uint64_t end_ = 0;
  bool is_full_ = false;
};

uint64_t RememberedFrom(uint64_t end) {
  return end - std::min<uint64_t>(end, kRememberedEvents);
}

class LogCompaction {
 public:
  LogCompaction(const env::Env& env, const std::atomic<bool>& closed, Partition& partition,
                std::shared_ptr<OpenLog> log, uint64_t memory_bytes_max, CompactionStats* stats)
      : env_(env),
        closed_(closed),
        partition_(partition),
        options_(partition.topic().options()),
        log_(std::move(log)),
        memory_bytes_max_(memory_bytes_max),
        stats_(stats) {}

  Status Run() {
    MS_ASSIGN_OR_RETURN(const bool is_worth_it, Decide());
    if (!is_worth_it) return Status::Ok();
    while (true) {
      const log::LocalLog& log = log_->log();
      KeyMap keys(log.end().value() - std::min(partition_.compacted_to(), log.end().value()), memory_bytes_max_,
                  env_.random->Next64());
      Pass pass(&keys, options_, env_.clock->WallNow(), RememberedFrom(log.end().value()));
      MS_RETURN_IF_ERROR(NoteKeys(&pass, log.closed_end().value()));
      if (pass.end() <= partition_.compacted_to()) return Status::Ok();
      MS_RETURN_IF_ERROR(Rewrite(pass));
      (void)partition_.ForgetTail(
          [&pass](const StoredEvent& event) { return pass.FateOf(event.view(), event.offset()); });
      MS_RETURN_IF_ERROR(partition_.writer().NoteCompacted(partition_, pass.end()));
      stats_->passes.fetch_add(1, std::memory_order_relaxed);  // for operators; orders nothing
      if (!pass.is_full()) return Status::Ok();
    }
  }

 private:
  Status CheckOpen() const { return closed_.load() ? Aborted("the database is closed") : Status::Ok(); }

  // Whether enough is new; closes the log's last segment when it is part of that.
  Result<bool> Decide() {
    const uint64_t clean = partition_.compacted_to();
    const std::vector<log::SegmentSpan> spans = log_->log().Spans();
    if (spans.back().end.value() <= clean) return false;
    const TimestampMs now = env_.clock->WallNow();
    uint64_t old_enough = spans.back().end.value();
    if (options_.min_compaction_lag_ms > 0) {
      MS_ASSIGN_OR_RETURN(old_enough, partition_.FirstTakenAfter(now - options_.min_compaction_lag_ms));
    }
    if (old_enough <= clean) return false;
    double dirty = 0;
    double total = 0;
    for (const log::SegmentSpan& span : spans) {
      const uint64_t first = span.first.value();
      const uint64_t end = span.end.value();
      if (first == end) continue;
      const auto bytes = static_cast<double>(span.bytes);
      total += bytes;
      const uint64_t from = std::clamp(clean, first, end);
      const uint64_t to = std::clamp(old_enough, from, end);
      dirty += bytes * static_cast<double>(to - from) / static_cast<double>(end - first);
    }
    if (dirty < options_.min_dirty_ratio * total || dirty <= 0) return false;
    if (dirty < kNewBytes && now < partition_.last_compaction_ms() + kPauseMs) return false;
    partition_.set_last_compaction_ms(now);
    if (old_enough > log_->log().active_start().value()) {
      MS_RETURN_IF_ERROR(partition_.writer().Seal(partition_));
    } else if (old_enough > log_->log().closed_end().value()) {
      MS_RETURN_IF_ERROR(log_->log().FinishRoll());
    }
    return true;
  }

  // The newest offset of each key from where the last pass ended.
  Status NoteKeys(Pass* pass, uint64_t closed_end) {
    const uint64_t start = log_->log().start().value();
    uint64_t offset = std::max(partition_.compacted_to(), start);
    pass->EndAt(offset);
    if (offset >= closed_end) return Status::Ok();
    MS_ASSIGN_OR_RETURN(const auto reader, log_->log().Read(Offset(offset)));
    while (true) {
      MS_RETURN_IF_ERROR(CheckOpen());
      MS_ASSIGN_OR_RETURN(const std::optional<storage::LogRecord> record, reader->Next());
      if (!record.has_value() || record->offset.value() >= closed_end) break;
      if (record->payload.empty()) continue;
      MS_ASSIGN_OR_RETURN(const EventView event, DecodeEvent(record->payload));
      if (!pass->Note(event, record->offset.value())) {
        pass->EndAt(record->offset.value());
        return Status::Ok();
      }
    }
    pass->EndAt(closed_end);
    return Status::Ok();
  }

  // What stays of a segment.
  struct Outlook {
    uint64_t bytes = 0;
    bool changes = false;
  };
  Result<Outlook> LookAt(const log::SegmentSpan& span, const Pass& pass) {
    Outlook outlook{.bytes = log::kSectorBytes};
    MS_ASSIGN_OR_RETURN(const auto reader, log_->log().Read(span.first));
    while (true) {
      MS_RETURN_IF_ERROR(CheckOpen());
      MS_ASSIGN_OR_RETURN(const std::optional<storage::LogRecord> record, reader->Next());
      if (!record.has_value() || record->offset >= span.end) return outlook;
      if (record->payload.empty()) continue;
      MS_ASSIGN_OR_RETURN(const EventView event, DecodeEvent(record->payload));
      const Fate fate = pass.FateOf(event, record->offset.value());
      if (fate == Fate::kStays) outlook.bytes += record->payload.size() + log::kRecordLengthBytes;
      outlook.changes |= fate != Fate::kStays;
    }
  }

  Status Rewrite(const Pass& pass) {
    struct Group {
      Offset first;
      Offset end;
      uint64_t bytes = 0;
      size_t segments = 0;
      bool changes = false;
    };
    Group group;
    const auto finish = [&]() -> Status {
      const Group done = std::exchange(group, Group());
      // Small neighbours are joined even when nothing goes, so that their number stays small.
      if (done.segments == 0 || (!done.changes && done.segments == 1)) return Status::Ok();
      return RewriteSegments(done.first, done.end, pass);
    };
    for (const log::SegmentSpan& span : log_->log().Spans()) {
      if (!span.is_closed || span.first.value() >= pass.end()) break;
      MS_ASSIGN_OR_RETURN(const Outlook outlook, LookAt(span, pass));
      if (group.segments > 0 && group.bytes + outlook.bytes > kJoinedBytes) MS_RETURN_IF_ERROR(finish());
      if (group.segments == 0) group.first = span.first;
      group.end = span.end;
      group.bytes += outlook.bytes;
      group.changes |= outlook.changes;
      ++group.segments;
    }
    return finish();
  }

  Status RewriteSegments(Offset first, Offset end, const Pass& pass) {
    std::string mark;
    const auto edit = [&](const storage::LogRecord& record) -> Result<std::optional<std::string_view>> {
      MS_ASSIGN_OR_RETURN(const EventView event, DecodeEvent(record.payload));
      switch (pass.FateOf(event, record.offset.value())) {
        case Fate::kStays:
          return std::optional(record.payload);
        case Fate::kLeavesMark:
          mark = EncodeGone(event);
          stats_->events_removed.fetch_add(1, std::memory_order_relaxed);  // for operators; orders nothing
          return std::optional<std::string_view>(mark);
        case Fate::kGoes:
          break;
      }
      if (!event.is_gone) stats_->events_removed.fetch_add(1, std::memory_order_relaxed);  // likewise
      return std::optional<std::string_view>();
    };
    auto report = log_->log().Rewrite(first, end, edit);
    if (!report.ok()) return std::move(report).status();
    const uint64_t freed = report->bytes_before - std::min(report->bytes_before, report->bytes_after);
    stats_->bytes_freed.fetch_add(freed, std::memory_order_relaxed);  // likewise
    return Status::Ok();
  }

  const env::Env env_;
  const std::atomic<bool>& closed_;
  Partition& partition_;
  const TopicOptions options_;
  const std::shared_ptr<OpenLog> log_;
  const uint64_t memory_bytes_max_;
  CompactionStats* const stats_;
};

// A partition in memory: the same on what it holds.
Status CompactMemory(const env::Env& env, Partition& partition, uint64_t memory_bytes_max, CompactionStats* stats) {
  const TopicOptions options = partition.topic().options();
  while (true) {
    MS_ASSIGN_OR_RETURN(const PartitionEnds ends, partition.Ends());
    const uint64_t clean = std::max(partition.compacted_to(), ends.start);
    // Without segments there is nothing to weigh: offsets stand for bytes.
    const auto dirty = static_cast<double>(ends.end - clean);
    if (clean >= ends.end || dirty < options.min_dirty_ratio * static_cast<double>(ends.end - ends.start)) {
      return Status::Ok();
    }
    KeyMap keys(ends.end - clean, memory_bytes_max, env.random->Next64());
    Pass pass(&keys, options, env.clock->WallNow(), RememberedFrom(ends.end));
    pass.EndAt(ends.end);
    uint64_t offset = clean;
    while (offset < ends.end) {
      auto read = partition.Read(offset, {.events = kFetchEventsMax, .bytes = kFetchBytesMax}, true);
      // It has been overtaken: the next time.
      if (!read.ok() && read.status().code() == StatusCode::kOutOfRange) return Status::Ok();
      if (!read.ok()) return std::move(read).status();
      offset = read->next;
      for (const EventPtr& event : read->events) {
        if (event->offset() >= pass.end() || pass.Note(event->view(), event->offset())) continue;
        pass.EndAt(event->offset());
        offset = ends.end;
        break;
      }
    }
    if (pass.end() <= clean) return Status::Ok();
    const uint64_t removed =
        partition.ForgetTail([&pass](const StoredEvent& event) { return pass.FateOf(event.view(), event.offset()); });
    stats->events_removed.fetch_add(removed, std::memory_order_relaxed);  // for operators; orders nothing
    stats->passes.fetch_add(1, std::memory_order_relaxed);                // likewise
    partition.set_compacted_to(pass.end());
    if (!pass.is_full()) return Status::Ok();
  }
}

}  // namespace

Status Compact(const env::Env& env, const std::atomic<bool>& closed, Partition& partition, bool open,
               uint64_t memory_bytes_max, CompactionStats* stats) {
  const uint64_t bytes = std::max(memory_bytes_max, kCompactionMemoryBytesMin);
  if (partition.in_memory()) return CompactMemory(env, partition, bytes, stats);
  if (open) MS_RETURN_IF_ERROR(partition.writer().Open(partition));
  std::shared_ptr<OpenLog> log = partition.HoldLog();
  if (log == nullptr) return Status::Ok();
  return LogCompaction(env, closed, partition, std::move(log), bytes, stats).Run();
}

}  // namespace millstream::events

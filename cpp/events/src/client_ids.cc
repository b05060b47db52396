// What a partition's writer notes of the ids that clients give, and how an event is found by one.
#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ranges>
#include <string>
#include <utility>
#include <vector>

#include "millstream/base/hash.h"
#include "millstream/events/event_sink.h"
#include "millstream/events/limits.h"
#include "partition_writer.h"

namespace millstream::events {
namespace {

// How often a search begins again because the log was closed under it, and how many runs it finds unreadable before.
constexpr int kIdSearchesMax = 3;
constexpr int kIdDropsMax = 64;

// False: it takes no more, and not this one.
using TakeEvent = std::function<bool(const PlacedEvent&)>;

class RangeSink final : public EventSink {
 public:
  RangeSink(uint64_t end, const TakeEvent& take) : end_(end), take_(take) {}
  bool Take(const std::shared_ptr<const std::string>& /*topic*/, const PlacedEvent& event) override {
    if (event.offset >= end_) {
      done_ = end_;
    } else if (!take_(event)) {
      done_ = event.offset;
    }
    return !done_.has_value();
  }
  std::optional<uint64_t> done() const { return done_; }

 private:
  const uint64_t end_;
  const TakeEvent& take_;
  std::optional<uint64_t> done_;
};

// Hands the events from `offset` to before `end` to `take`; returns where it ended.
Result<uint64_t> WalkRange(Partition& partition, uint64_t offset, uint64_t end, const TakeEvent& take) {
  RangeSink sink(end, take);
  while (offset < end) {
    const uint64_t before = offset;
    auto read = partition.ReadInto(&offset, {.events = kFetchEventsMax, .bytes = kTailBytesMax}, nullptr, sink);
    if (sink.done().has_value()) return *sink.done();
    if (!read.ok() && read.status().code() == StatusCode::kOutOfRange) {
      // Retention came in between.
      MS_ASSIGN_OR_RETURN(const PartitionEnds ends, partition.Ends());
      if (ends.start <= offset) return std::move(read).status();
      offset = ends.start;
      continue;
    }
    if (!read.ok()) return std::move(read).status();
    if (offset == before) break;
  }
  return end;
}

Result<std::vector<IdEntry>> ReadIds(Partition& partition, uint64_t first, uint64_t* end) {
  std::vector<IdEntry> entries;
  const TakeEvent take = [&entries](const PlacedEvent& event) {
    if (event.view.client_id.empty()) return true;
    if (entries.size() == kIdRunEntriesMax) return false;
    entries.push_back({Hash64(event.view.client_id), event.offset});
    return true;
  };
  MS_ASSIGN_OR_RETURN(*end, WalkRange(partition, first, *end, take));
  return entries;
}

// Where the part of a hole begins that is in one segment, the last.
uint64_t BeginOfPart(const OpenLog* held, uint64_t hole_first, uint64_t below) {
  if (held == nullptr) return hole_first;
  const std::vector<log::SegmentSpan> spans = held->log().Spans();
  const auto behind =
      std::ranges::lower_bound(spans, below, {}, [](const log::SegmentSpan& span) { return span.first.value(); });
  return behind == spans.begin() ? hole_first : std::max(hole_first, std::prev(behind)->first.value());
}

// The newest event of this id at one of the offsets; null when there is none.
Result<EventPtr> FindAmong(Partition& partition, const std::string& client_id, const std::vector<uint64_t>& ascending) {
  for (const uint64_t offset : ascending | std::views::reverse) {
    auto event = partition.ReadOne(offset);
    if (!event.ok() && event.status().code() == StatusCode::kNotFound) continue;
    if (!event.ok()) return std::move(event).status();
    if ((*event)->view().client_id == client_id) return event;
  }
  return EventPtr();
}

}  // namespace

// --- of the writer's thread ---

void PartitionWriter::NoteIds(Touched& touched) {
  if (touched.fresh.empty() || (!touched.has_ids && !touched.closed_at.has_value())) return;
  Partition& partition = *touched.partition;
  // Of a partition in memory: none of the events before had an id.
  if (partition.ids_ == nullptr) partition.ids_ = std::make_shared<IdIndex>(*env_.files, IdsPath(partition), 0);
  IdIndex& ids = *partition.ids_;
  for (size_t i = 0; touched.has_ids && i < touched.fresh.size(); ++i) {
    const std::string_view id = touched.fresh[i]->view().client_id;
    if (!id.empty()) ids.Add(Hash64(id), touched.base + i);
  }
  const uint64_t from = ids.pending_from();
  if (touched.closed_at.has_value()) ids.Cut(*touched.closed_at);
  if (ids.pending() >= IdIndex::kPendingIds) ids.Cut(touched.base + touched.fresh.size());
  if (ids.pending_from() == from) return;
  BoundIds(partition);
  WorkOnIds(partition.ids_);
}

void PartitionWriter::BoundIds(Partition& partition) {
  const MutexLock lock(partition.mutex_);
  partition.ids_->SetBounds(partition.start_,
                            partition.log_ == nullptr ? 0 : partition.log_->log().closed_end().value());
}

void PartitionWriter::WorkOnIds(const std::shared_ptr<IdIndex>& ids) {
  if (!ids->WantsWork()) return;
  std::function<void()> work = [ids] { ids->Work(); };
  if (!ids_worker_->Submit(work).ok()) ids->ForgetWork();
}

void PartitionWriter::TrimIds(Partition& partition, uint64_t start) {
  if (partition.ids_ == nullptr || !partition.ids_->is_used()) return;
  partition.ids_->SetBounds(start, 0);
  WorkOnIds(partition.ids_);
}

void PartitionWriter::CloseIds(Partition& partition, const log::LocalLog& log) {
  if (partition.ids_ == nullptr) return;
  if (!partition.ids_->is_used()) {
    partition.ids_ = nullptr;
    return;
  }
  partition.ids_->ForgetPending();
  partition.ids_->SetBounds(0, log.closed_end().value());
  std::function<void()> finish = [ids = partition.ids_] { ids->Finish(); };
  // If there is no room for that, the files are put in order when the log is opened again.
  (void)ids_worker_->Submit(finish).ok();
}

// --- from other threads ---

Status PartitionWriter::AskIdsThread(std::function<Status()> work) {
  TaskGroup group;
  Status status;
  group.Add();
  std::function<void()> task = [&] {
    status = work();
    group.Done();
  };
  MS_RETURN_IF_ERROR(ids_worker_->Submit(task));
  group.Wait();
  return status;
}

Status PartitionWriter::BeginSearch(Partition& partition, const std::string& client_id, IdSearch* search) {
  return Control(partition, [&]() -> Status {
    if (!partition.in_memory()) MS_RETURN_IF_ERROR(EnsureOpen(partition, false).status());
    if (const auto offset = partition.remembered_.FindId(client_id); offset.has_value()) {
      MS_ASSIGN_OR_RETURN(search->found, FindAmong(partition, client_id, {*offset}));
      if (search->found != nullptr) return Status::Ok();
    }
    search->log = partition.HoldLog();
    if (partition.ids_ == nullptr || (search->log == nullptr && !partition.in_memory())) return Status::Ok();
    BoundIds(partition);
    search->index = partition.ids_;
    search->candidates = partition.ids_->FindPending(Hash64(client_id));
    search->below = partition.ids_->pending_from();
    return Status::Ok();
  });
}

Status PartitionWriter::LoadIds(const IdSearch& search) {
  // Nothing is below: so it is where one segment has all events.
  if (search.index->loaded() || !search.index->FindBelow(search.below).has_value()) return Status::Ok();
  return AskIdsThread([&] {
    search.index->Work();
    return Status::Ok();
  });
}

Status PartitionWriter::FillHole(Partition& partition, const IdSearch& search, uint64_t first, uint64_t below) {
  return AskIdsThread([&] {
    return search.index->Fill(first, below,
                              [&](uint64_t begin, uint64_t* end) { return ReadIds(partition, begin, end); });
  });
}

Result<EventPtr> PartitionWriter::SearchRuns(Partition& partition, const std::string& client_id, IdSearch search) {
  MS_ASSIGN_OR_RETURN(EventPtr event, FindAmong(partition, client_id, search.candidates));
  if (event != nullptr) return event;
  const uint64_t hash = Hash64(client_id);
  IdIndex& index = *search.index;
  MS_RETURN_IF_ERROR(LoadIds(search));
  Status trouble = NotFound("no event of this id");
  int drops = 0;
  while (!index.ended()) {
    const std::optional<IdIndex::Cover> cover = index.FindBelow(search.below);
    if (!cover.has_value()) return trouble;
    if (cover->run == nullptr) {
      const uint64_t first = BeginOfPart(search.log.get(), cover->first, search.below);
      if (FillHole(partition, search, first, search.below).ok()) continue;
      // It can be looked into all the same.
      const TakeEvent take = [&](const PlacedEvent& one) {
        if (one.view.client_id == client_id) search.candidates.push_back(one.offset);
        return true;
      };
      search.candidates.clear();
      if (const auto walked = WalkRange(partition, first, search.below, take); !walked.ok()) trouble = walked.status();
      search.below = first;
    } else {
      auto offsets = index.Find(*cover->run, hash);
      if (!offsets.ok()) {
        // Too many open files say nothing of this one.
        if (offsets.status().code() == StatusCode::kResourceExhausted) return std::move(offsets).status();
        if (++drops > kIdDropsMax) break;
        MS_RETURN_IF_ERROR(AskIdsThread([&] {
          index.Drop(cover->run);
          return Status::Ok();
        }));
        continue;
      }
      search.candidates = std::move(*offsets);
      search.below = cover->first;
    }
    MS_ASSIGN_OR_RETURN(event, FindAmong(partition, client_id, search.candidates));
    if (event != nullptr) return event;
  }
  return Aborted("the log of topic \"{}\" partition {} has been closed meanwhile", partition.topic().name(),
                 partition.index());
}

Result<EventPtr> PartitionWriter::FindId(Partition& partition, const std::string& client_id) {
  for (int searches = 1;; ++searches) {
    IdSearch search;
    MS_RETURN_IF_ERROR(BeginSearch(partition, client_id, &search));
    if (search.found != nullptr) return search.found;
    if (search.index == nullptr) return NotFound("no event of this id");
    auto found = SearchRuns(partition, client_id, std::move(search));
    if (found.ok() || found.status().code() != StatusCode::kAborted || searches == kIdSearchesMax) return found;
  }
}

Result<bool> PartitionWriter::NoteOldIds(Partition& partition) {
  IdSearch search;
  MS_RETURN_IF_ERROR(Control(partition, [&]() -> Status {
    search.log = partition.HoldLog();
    if (partition.ids_ == nullptr || search.log == nullptr) return Status::Ok();
    BoundIds(partition);
    search.index = partition.ids_;
    search.below = partition.ids_->pending_from();
    return Status::Ok();
  }));
  if (search.index == nullptr) return false;
  MS_RETURN_IF_ERROR(LoadIds(search));
  while (true) {
    const std::optional<IdIndex::Cover> cover = search.index->FindBelow(search.below);
    if (!cover.has_value()) {
      partition.set_ids_noted(true);
      return false;
    }
    if (cover->run != nullptr) {
      search.below = cover->first;
      continue;
    }
    const uint64_t first = BeginOfPart(search.log.get(), cover->first, search.below);
    MS_RETURN_IF_ERROR(FillHole(partition, search, first, search.below));
    return true;
  }
}

}  // namespace millstream::events

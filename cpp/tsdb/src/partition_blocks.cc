// How a partition's head and its files become each other: recovery, checkpoints, retention.
#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "millstream/base/check.h"
#include "millstream/env/clock.h"
#include "millstream/env/file_util.h"
#include "millstream/storage/log.h"
#include "partition_impl.h"

namespace millstream::tsdb {
namespace {

// A checkpoint writes at most about so many blocks: an import of years makes them larger instead of more.
constexpr size_t kBlocksPerCheckpoint = 16;

// The first millisecond of the block range that holds `timestamp`.
TimestampMs RangeStart(TimestampMs timestamp, int64_t range_ms) {
  TimestampMs start = 0;
  return __builtin_mul_overflow(BlockNumber(timestamp, range_ms), range_ms, &start) ? INT64_MIN : start;
}

}  // namespace

Status PartitionImpl::Recover() {
  MS_RETURN_IF_ERROR(env::MakeFolders(*files_, folder_));
  MS_RETURN_IF_ERROR(store_->Open());
  MS_ASSIGN_OR_RETURN(const auto entries, files_->List(folder_));
  std::vector<uint64_t> generations;
  for (const env::FolderEntry& entry : entries) {
    uint64_t generation = 0;
    if (ParseSnapshotName(entry.name, &generation)) generations.push_back(generation);
  }
  std::sort(generations.rbegin(), generations.rend());
  if (!generations.empty()) next_snapshot_ = generations.front() + 1;

  // The newest that is intact. Behind an older one the log still has what the newer one knew; without a log nothing
  // has, and an older one would silently be a loss.
  Status damage;
  for (const uint64_t generation : generations) {
    const std::string path = env::JoinPath(folder_, SnapshotName(generation));
    auto header = LoadSnapshot(path);
    if (header.ok()) {
      newest_snapshot_ = {generation, header->next_offset};
      return log_ == nullptr ? Status::Ok() : ReplayBehind(path, header->next_offset, damage);
    }
    if (header.status().code() != StatusCode::kDataLoss) return header.status();
    if (damage.ok()) damage = header.status();
    if (log_ == nullptr) return damage;
  }
  return log_ == nullptr ? Status::Ok() : ReplayBehind("an empty head", 0, damage);
}

Status PartitionImpl::ReplayBehind(const std::string& snapshot, uint64_t next_offset, const Status& damage) {
  if (log_->end().value() < next_offset || log_->start().value() > next_offset) {
    if (!damage.ok()) return damage;
    return DataLoss("{}: {} goes on at log offset {}, but the log has the offsets {} to {}", folder_, snapshot,
                    next_offset, log_->start().value(), log_->end().value());
  }
  MS_ASSIGN_OR_RETURN(const auto reader, log_->Read(Offset(next_offset)));
  while (true) {
    MS_ASSIGN_OR_RETURN(const auto record, reader->Next());
    if (!record.has_value()) return Status::Ok();
    if (Status status = ApplyRecord(record->payload, record->offset); !status.ok()) {
      return status.WithContext(fmt::format("log record {}", record->offset.value()));
    }
  }
}

Result<SnapshotHeader> PartitionImpl::LoadSnapshot(const std::string& path) {
  // First a pass that only checks: a snapshot that is corrupt at its end must not leave half of itself in the head.
  MS_RETURN_IF_ERROR(ReadSnapshot(*files_, path, [](const SnapshotPage&) { return Status::Ok(); }).status());
  int64_t sample_bytes = 0;
  std::set<uint64_t> refs;
  uint64_t refs_end = 0;
  const auto apply = [&](SnapshotPage page) -> Status {
    if (page.kind == SnapshotPage::Kind::kHeader) {
      refs_end = page.header.next_ref;
      return Status::Ok();
    }
    TenantHead& tenant = TenantFor(page.tenant);
    for (const model::MetricMetadata& metadata : page.metadata) tenant.SetMetadata(metadata);
    for (const model::SeriesExemplars& exemplar : page.exemplars) {
      tenant.exemplars().Add(exemplar.series, exemplar.exemplars.front());
    }
    std::vector<TenantHead::NewSeries> series;
    for (const SnapshotSeries& item : page.series) {
      if (item.ref.value() >= refs_end || !refs.insert(item.ref.value()).second ||
          tenant.FindByLabels(item.labels) != nullptr) {
        return DataLoss("series {} is there twice, or beyond the last", item.ref.value());
      }
      series.push_back({item.ref, item.labels});
    }
    const std::vector<MemSeries*> created = tenant.Create(std::move(series));
    for (size_t i = 0; i < created.size(); ++i) {
      MutexLock lock(created[i]->mutex);
      MS_RETURN_IF_ERROR(created[i]->data.Restore(std::move(page.series[i].state)));
      sample_bytes += created[i]->data.memory_bytes();
    }
    return Status::Ok();
  };
  auto read = ReadSnapshot(*files_, path, apply);
  // It passed the first time: half of it is in the head now, and no other snapshot can follow.
  if (!read.ok()) return Internal("{}", read.status().message());
  const SnapshotHeader header = *read;
  sample_bytes_.fetch_add(sample_bytes, std::memory_order_relaxed);
  next_ref_ = std::max(next_ref_, header.next_ref);
  store_->ReserveSequences(header.next_block);
  next_offset_.store(header.next_offset, std::memory_order_release);  // see applied_offset()
  return header;
}

std::optional<TimestampMs> PartitionImpl::MaxTimeInBlocks(TenantId tenant, const model::Labels& labels) const {
  const auto set = Blocks();
  if (set->blocks.empty()) return std::nullopt;
  TimestampMs newest = INT64_MIN;
  for (const auto& block : set->blocks) newest = std::max(newest, block->meta().max_time);
  // A series that has been silent for longer than the window starts anew: looking at every block there ever was for
  // every new series would cost too much.
  TimestampMs since = 0;
  if (__builtin_sub_overflow(newest, options_.out_of_order_window_ms, &since)) since = INT64_MIN;
  std::optional<TimestampMs> max_time;
  for (const auto& block : set->blocks) {
    if (block->meta().max_time < since) continue;
    // What cannot be read cannot be compared with either; readers are told of it.
    const auto index = block->Tenant(tenant);
    if (!index.ok() || *index == nullptr) continue;
    const BlockSeries* series = (*index)->Find(labels);
    if (series == nullptr) continue;
    for (const BlockChunk& chunk : series->chunks) {
      max_time = max_time.has_value() ? std::max(*max_time, chunk.max_time) : chunk.max_time;
    }
  }
  return max_time;
}

std::optional<SampleValue> PartitionImpl::FindInBlocks(TenantId tenant, const model::Labels& labels,
                                                       TimestampMs timestamp) const {
  const storage::TimeRange range{timestamp, timestamp};
  const std::shared_ptr<const BlockSet> set = Blocks();
  for (const auto& block : set->blocks) {
    if (!block->Overlaps(range)) continue;
    const auto index = block->Tenant(tenant);
    if (!index.ok() || *index == nullptr) continue;
    const BlockSeries* series = (*index)->Find(labels);
    if (series == nullptr) continue;
    for (const BlockChunk& place : series->chunks) {
      if (!place.Overlaps(range)) continue;
      if (cached_chunk_ == nullptr || cached_block_ != block->meta().sequence ||
          cached_position_ != place.page.position) {
        auto chunk = block->ReadChunk(place);
        if (!chunk.ok()) continue;
        cached_chunk_ = std::move(chunk).value();
        cached_block_ = block->meta().sequence;
        cached_position_ = place.page.position;
      }
      storage::SampleColumns found;
      if (!cached_chunk_->Decode(range, &found).ok()) continue;
      if (!found.values.empty()) return SampleValue{found.values.front(), nullptr};
      if (!found.histograms.empty()) return SampleValue{0, found.histograms.front()};
    }
  }
  return std::nullopt;
}

TimestampMs PartitionImpl::CutLimit() {
  TimestampMs newest = INT64_MIN;
  for (TenantHead* tenant : TenantsOfWriter()) {
    for (const SeriesPtr& series : tenant->AllSeries()) {
      MutexLock lock(series->mutex);
      if (!series->data.empty()) newest = std::max(newest, series->data.TimeSpan().max);
    }
  }
  // A sample from the future must not empty the head.
  newest = std::min(newest, clock_->WallNow());
  // The range before the current one stays for half a range: late samples find it in memory.
  TimestampMs limit = 0;
  if (__builtin_sub_overflow(newest, options_.block_range_ms / 2, &limit)) return INT64_MIN;
  return RangeStart(limit, options_.block_range_ms);
}

std::vector<PartitionImpl::SeriesCut> PartitionImpl::CollectCuts(TimestampMs limit) {
  std::vector<SeriesCut> cuts;
  for (TenantHead* tenant : TenantsOfWriter()) {
    const size_t begin = cuts.size();
    for (SeriesPtr& series : tenant->AllSeries()) {
      SeriesCut cut{tenant->id(), nullptr, {}};
      {
        MutexLock lock(series->mutex);
        const int64_t before = series->data.memory_bytes();
        cut.chunks = series->data.ChunksBefore(limit);
        sample_bytes_.fetch_add(series->data.memory_bytes() - before, std::memory_order_relaxed);
      }
      if (cut.chunks.empty()) continue;
      cut.series = std::move(series);
      cuts.push_back(std::move(cut));
    }
    std::sort(cuts.begin() + static_cast<ptrdiff_t>(begin), cuts.end(),
              [](const SeriesCut& a, const SeriesCut& b) { return a.series->labels < b.series->labels; });
  }
  return cuts;
}

Result<std::vector<std::shared_ptr<const Block>>> PartitionImpl::WriteBlocks(const std::vector<SeriesCut>& cuts) {
  // The narrowest ranges that make no more than kBlocksPerCheckpoint blocks.
  int64_t range = options_.block_range_ms;
  std::set<int64_t> numbers;
  while (true) {
    numbers.clear();
    for (const SeriesCut& cut : cuts) {
      for (const auto& chunk : cut.chunks) numbers.insert(BlockNumber(chunk->min_time(), range));
    }
    if (numbers.size() <= kBlocksPerCheckpoint || range > INT64_MAX / 2) break;
    range *= 2;
  }
  std::vector<std::shared_ptr<const Block>> blocks;
  const auto write_one = [&](int64_t number) -> Status {
    MS_ASSIGN_OR_RETURN(const auto writer, BlockWriter::Create(*files_, folder_, store_->TakeSequence()));
    for (const SeriesCut& cut : cuts) {
      std::vector<std::shared_ptr<const Chunk>> chunks;
      for (const auto& chunk : cut.chunks) {
        if (BlockNumber(chunk->min_time(), range) == number) chunks.push_back(chunk);
      }
      if (!chunks.empty()) MS_RETURN_IF_ERROR(writer->AddSeries(cut.tenant, cut.series->labels, chunks));
    }
    MS_ASSIGN_OR_RETURN(const std::string folder, writer->Finish({}));
    MS_ASSIGN_OR_RETURN(auto block, store_->OpenBlock(folder));
    blocks.push_back(std::move(block));
    return Status::Ok();
  };
  for (const int64_t number : numbers) {
    if (Status status = write_one(number); !status.ok()) {
      // Should this fail too, a block stays, and after the next start its samples are there twice and merged.
      for (const auto& block : blocks) (void)store_->RemoveFolder(*block);
      return status;
    }
  }
  return blocks;
}

Status PartitionImpl::WriteSnapshot(uint64_t generation) {
  SnapshotHeader header;
  header.next_offset = begun_offset_;
  header.next_ref = begun_ref_;
  header.next_block = store_->next_sequence();
  MS_ASSIGN_OR_RETURN(const auto writer, SnapshotWriter::Create(*files_, folder_, generation, header));
  for (TenantHead* tenant : TenantsOfWriter()) {
    MS_RETURN_IF_ERROR(writer->AddMetadata(tenant->id(), tenant->Metadata("", 0)));
    MS_RETURN_IF_ERROR(writer->AddExemplars(tenant->id(), tenant->exemplars().All()));
    for (const SeriesPtr& series : tenant->AllSeries()) {
      // Made since: the log makes it again.
      if (series->ref.value() >= begun_ref_) continue;
      SeriesData::State state;
      {
        MutexLock lock(series->mutex);
        state = series->data.Save();
      }
      MS_RETURN_IF_ERROR(writer->AddSeries(tenant->id(), series->ref, series->labels, state));
    }
  }
  // Series may hold samples that were written since the checkpoint began. They must be in the log before the snapshot
  // counts, for the same reason as in RunCheckpoint; read again from there, they are known already.
  if (log_ != nullptr) MS_RETURN_IF_ERROR(log_->Sync());
  return writer->Finish();
}

void PartitionImpl::DropFromHead(const std::vector<SeriesCut>& cuts) {
  for (const SeriesCut& cut : cuts) {
    MutexLock lock(cut.series->mutex);
    const int64_t before = cut.series->data.memory_bytes();
    cut.series->data.Drop(cut.chunks);
    sample_bytes_.fetch_add(cut.series->data.memory_bytes() - before, std::memory_order_relaxed);
  }
}

void PartitionImpl::FindSilent(TimestampMs limit) {
  // One more range: a series that comes back soon keeps its ref.
  TimestampMs silent_since = 0;
  if (__builtin_sub_overflow(limit, options_.block_range_ms, &silent_since)) silent_since = INT64_MIN;
  silent_.clear();
  for (TenantHead* tenant : TenantsOfWriter()) {
    for (SeriesPtr& series : tenant->AllSeries()) {
      bool silent = false;
      {
        MutexLock lock(series->mutex);
        const std::optional<TimestampMs> newest = series->data.max_time();
        silent = series->data.empty() && (!newest.has_value() || *newest < silent_since);
      }
      if (silent) silent_.push_back({tenant, std::move(series), silent_since});
    }
  }
}

void PartitionImpl::RemoveSilent() {
  std::map<TenantHead*, std::vector<MemSeries*>> gone;
  for (const Silent& candidate : silent_) {
    MemSeries* const series = candidate.series.get();
    MutexLock lock(series->mutex);
    const std::optional<TimestampMs> newest = series->data.max_time();
    if (!series->data.empty() || (newest.has_value() && *newest >= candidate.since)) continue;
    sample_bytes_.fetch_sub(series->data.memory_bytes(), std::memory_order_relaxed);
    gone[candidate.tenant].push_back(series);
  }
  for (auto& [tenant, series] : gone) tenant->Remove(series);
  silent_.clear();
}

void PartitionImpl::RemoveOtherSnapshots(uint64_t newest, uint64_t before) {
  const auto entries = files_->List(folder_);
  if (!entries.ok()) return;
  for (const env::FolderEntry& entry : *entries) {
    uint64_t generation = 0;
    if (!ParseSnapshotName(entry.name, &generation) || generation == newest || generation == before) continue;
    (void)files_->Remove(env::JoinPath(folder_, entry.name));
  }
}

void PartitionImpl::BeginCheckpoint() {
  RemoveSilent();
  begun_offset_ = next_offset_.load(std::memory_order_relaxed);
  begun_ref_ = next_ref_;
}

Status PartitionImpl::Checkpoint() {
  BeginCheckpoint();
  Status status = RunCheckpoint();
  RemoveSilent();
  return status;
}

Status PartitionImpl::RunCheckpoint() {
  if (files_ == nullptr) return Status::Ok();
  const TimestampMs limit = CutLimit();
  const std::vector<SeriesCut> cuts = CollectCuts(limit);
  // The files must not know more than the log after a power cut: its next records would then be taken for known ones.
  if (log_ != nullptr) MS_RETURN_IF_ERROR(log_->Sync());
  if (!cuts.empty()) {
    MS_ASSIGN_OR_RETURN(const auto blocks, WriteBlocks(cuts));
    // Readers look at the head first and at the blocks then: the blocks must be there before the head forgets. Should
    // the snapshot fail below, a restart finds these samples in the blocks and in the log, and merges them.
    store_->Exchange(blocks, {});
    DropFromHead(cuts);
  }
  FindSilent(limit);
  const uint64_t generation = next_snapshot_++;
  if (Status status = WriteSnapshot(generation); !status.ok()) {
    (void)files_->Remove(env::JoinPath(folder_, TemporarySnapshotName(generation)));
    return status;
  }
  // The log keeps what the snapshot before needs, so that a corrupt newest one is no loss. What fails from here on is
  // done again by the next checkpoint.
  const SnapshotPlace before = newest_snapshot_;
  newest_snapshot_ = {generation, begun_offset_};
  RemoveOtherSnapshots(generation, before.generation);
  if (log_ != nullptr && before.next_offset > 0) (void)log_->TruncateBefore(Offset(before.next_offset));
  Compact(limit);
  return Status::Ok();
}

TimestampMs PartitionImpl::RetentionBound() const {
  TimestampMs bound = 0;
  if (clock_ == nullptr || options_.retention_ms <= 0 ||
      __builtin_sub_overflow(clock_->WallNow(), options_.retention_ms, &bound)) {
    return std::numeric_limits<TimestampMs>::min();
  }
  return bound;
}

Status PartitionImpl::DropExpiredBlocks() {
  const TimestampMs bound = RetentionBound();
  std::vector<uint64_t> expired;
  std::vector<std::shared_ptr<const Block>> gone;
  const std::shared_ptr<const BlockSet> set = Blocks();
  for (const auto& block : set->blocks) {
    if (block->meta().max_time >= bound) continue;
    expired.push_back(block->meta().sequence);
    gone.push_back(block);
  }
  if (expired.empty()) return Status::Ok();
  store_->Exchange({}, expired);
  for (const auto& block : gone) MS_RETURN_IF_ERROR(store_->RemoveFolder(*block));
  return Status::Ok();
}

}  // namespace millstream::tsdb

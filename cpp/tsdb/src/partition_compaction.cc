// How small blocks become large ones.
#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "partition_impl.h"
#include "sample_merge.h"

namespace millstream::tsdb {
namespace {

// Blocks grow in two steps: with ranges of two hours to half a day, then to a week.
constexpr int64_t kCompactionRanges[] = {6, 84};
// Late samples make small blocks all the time: a large block is written anew only for as much again, or for many.
constexpr size_t kBlocksAlwaysMerged = 6;

bool WorthMerging(const std::vector<std::shared_ptr<const Block>>& blocks) {
  if (blocks.size() < 2) return false;
  if (blocks.size() >= kBlocksAlwaysMerged) return true;
  uint64_t total = 0;
  uint64_t largest = 0;
  for (const auto& block : blocks) {
    total += block->bytes();
    largest = std::max(largest, block->bytes());
  }
  return largest <= total / 2;
}

bool AnyOverlap(std::vector<std::shared_ptr<const Chunk>> chunks) {
  std::sort(chunks.begin(), chunks.end(), [](const auto& a, const auto& b) { return a->min_time() < b->min_time(); });
  for (size_t i = 1; i < chunks.size(); ++i) {
    if (chunks[i]->min_time() <= chunks[i - 1]->max_time()) return true;
  }
  return false;
}

// The same samples in chunks that do not overlap, each timestamp once.
Result<std::vector<std::shared_ptr<const Chunk>>> Resealed(std::vector<std::shared_ptr<const Chunk>> chunks,
                                                           const ChunkLimits& limits) {
  SampleSources sources;
  sources.chunks = std::move(chunks);
  storage::SampleColumns merged;
  MS_RETURN_IF_ERROR(MergeSamples({INT64_MIN, INT64_MAX}, sources, &merged));
  SeriesData series;
  size_t f = 0;
  size_t h = 0;
  const auto start = [](const std::vector<TimestampMs>& starts, size_t i) { return starts.empty() ? 0 : starts[i]; };
  while (f < merged.timestamps.size() || h < merged.histogram_timestamps.size()) {
    const bool take_float = h == merged.histogram_timestamps.size() ||
                            (f < merged.timestamps.size() && merged.timestamps[f] < merged.histogram_timestamps[h]);
    if (take_float) {
      series.Append({merged.timestamps[f], start(merged.start_timestamps, f), {merged.values[f], nullptr}}, limits);
      ++f;
    } else {
      series.Append(
          {merged.histogram_timestamps[h], start(merged.histogram_start_timestamps, h), {0, merged.histograms[h]}},
          limits);
      ++h;
    }
  }
  SeriesData::State state = series.Save();
  if (state.open != nullptr) state.sealed.push_back(std::move(state.open));
  return std::move(state.sealed);
}

// A series of one of the blocks that are merged.
struct Source {
  const BlockSeries* series;
  const Block* block;
};

Status MergeTenant(TenantId tenant, const std::vector<std::shared_ptr<const Block>>& blocks, const ChunkLimits& limits,
                   BlockWriter& writer) {
  std::vector<std::shared_ptr<const TenantBlock>> indexes;
  std::vector<Source> sources;
  for (const auto& block : blocks) {
    MS_ASSIGN_OR_RETURN(auto index, block->Tenant(tenant));
    if (index == nullptr) continue;
    for (const BlockSeries& series : index->series) sources.push_back({&series, block.get()});
    indexes.push_back(std::move(index));
  }
  std::sort(sources.begin(), sources.end(), [](const Source& a, const Source& b) {
    if (const auto order = a.series->labels <=> b.series->labels; order != 0) return order < 0;
    return a.block->meta().sequence < b.block->meta().sequence;
  });
  for (size_t begin = 0; begin < sources.size();) {
    const model::Labels& labels = sources[begin].series->labels;
    std::vector<std::shared_ptr<const Chunk>> chunks;
    size_t end = begin;
    for (; end < sources.size() && sources[end].series->labels == labels; ++end) {
      for (const BlockChunk& place : sources[end].series->chunks) {
        MS_ASSIGN_OR_RETURN(auto chunk, sources[end].block->ReadChunk(place));
        chunks.push_back(std::move(chunk));
      }
    }
    if (AnyOverlap(chunks)) {
      MS_ASSIGN_OR_RETURN(chunks, Resealed(std::move(chunks), limits));
    }
    MS_RETURN_IF_ERROR(writer.AddSeries(tenant, labels, chunks));
    begin = end;
  }
  return Status::Ok();
}

}  // namespace

Status PartitionImpl::MergeBlocks(const std::vector<std::shared_ptr<const Block>>& blocks) {
  std::set<uint32_t> tenants;
  std::set<uint64_t> replaces;
  std::vector<uint64_t> sequences;
  for (const auto& block : blocks) {
    MS_ASSIGN_OR_RETURN(const std::vector<TenantId> of_block, block->Tenants());
    for (const TenantId tenant : of_block) tenants.insert(tenant.value());
    sequences.push_back(block->meta().sequence);
    // Also what those replaced: should one of their folders be left over, it must not come back.
    replaces.insert(block->meta().sequence);
    replaces.insert(block->meta().replaces.begin(), block->meta().replaces.end());
  }
  MS_ASSIGN_OR_RETURN(const auto writer, BlockWriter::Create(*files_, folder_, store_->TakeSequence()));
  for (const uint32_t tenant : tenants) MS_RETURN_IF_ERROR(MergeTenant(TenantId(tenant), blocks, limits_, *writer));
  MS_ASSIGN_OR_RETURN(const std::string folder, writer->Finish({replaces.begin(), replaces.end()}));
  MS_ASSIGN_OR_RETURN(auto merged, store_->OpenBlock(folder));
  store_->Exchange({std::move(merged)}, sequences);
  // What cannot be removed now is removed when the partition is opened: the new block's meta names it.
  for (const auto& block : blocks) (void)store_->RemoveFolder(*block);
  return Status::Ok();
}

void PartitionImpl::Compact(TimestampMs limit) {
  for (const int64_t ranges : kCompactionRanges) {
    int64_t range = 0;
    if (__builtin_mul_overflow(options_.block_range_ms, ranges, &range)) return;
    std::map<int64_t, std::vector<std::shared_ptr<const Block>>> windows;
    const std::shared_ptr<const BlockSet> set = Blocks();
    for (const auto& block : set->blocks) {
      const int64_t number = BlockNumber(block->meta().min_time, range);
      // Only windows that are over, and blocks that lie within one.
      if (!block->broken().ok() || uncompactable_.contains(block->meta().sequence) ||
          BlockNumber(block->meta().max_time, range) != number || BlockNumber(limit, range) <= number) {
        continue;
      }
      windows[number].push_back(block);
    }
    for (const auto& [number, blocks] : windows) {
      if (!WorthMerging(blocks)) continue;
      const Status merged = MergeBlocks(blocks);
      if (merged.code() == StatusCode::kDataLoss) {
        // Readers are told of the corruption; trying again at each checkpoint would help nobody.
        for (const auto& block : blocks) uncompactable_.insert(block->meta().sequence);
      }
      if (!merged.ok()) return;
    }
  }
}

}  // namespace millstream::tsdb

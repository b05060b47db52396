// SeriesData: the samples of one series that are in the head. MemSeries: a series of the head.
//
// In-order samples go to the open chunk, which is sealed when it is full, when the kind of sample or the block range
// changes, and when a histogram cannot follow the one before (a counter reset, another schema). Samples out of order
// go to a buffer of their own, which is sealed to overlapping chunks.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "chunk.h"
#include "millstream/base/mutex.h"
#include "millstream/base/strong_int.h"
#include "millstream/model/labels.h"
#include "millstream/storage/queryable.h"
#include "sample_merge.h"

namespace millstream::tsdb {

struct ChunkLimits {
  int64_t block_range_ms;
  uint32_t float_samples_max;
  uint32_t histogram_samples_max;
};

// The value of a sample: a float, or a histogram when `histogram` is set.
struct SampleValue {
  double value = 0;
  HistogramPtr histogram;

  // Bit by bit; counter reset hints do not count, for they say something about the neighbour.
  bool SameAs(const SampleValue& other) const;
};

struct TimedSample {
  TimestampMs timestamp = 0;
  TimestampMs start = 0;
  SampleValue value;
};

// floor(timestamp / range).
int64_t BlockNumber(TimestampMs timestamp, int64_t range_ms);

class SeriesData {
 public:
  // The newest sample ever appended in order, also when it has left the head.
  std::optional<TimestampMs> max_time() const { return max_time_; }
  // Its value, when known.
  const std::optional<SampleValue>& last() const { return last_; }
  // For a series whose older samples are in blocks only.
  void SetMaxTime(TimestampMs max_time) { max_time_ = max_time; }

  // Requires timestamp > max_time().
  void Append(const TimedSample& sample, const ChunkLimits& limits);
  // Requires that there is no sample at the timestamp yet.
  void AppendOutOfOrder(const TimedSample& sample, const ChunkLimits& limits);

  // The sample at `timestamp`. A corrupt chunk counts as one without it.
  std::optional<SampleValue> Find(TimestampMs timestamp) const;

  bool empty() const { return open_.timestamps.empty() && sealed_.empty() && OutOfOrderEmpty(); }
  bool Overlaps(storage::TimeRange range) const;
  // The least and greatest timestamp; requires !empty().
  storage::TimeRange TimeSpan() const;
  size_t chunks() const;

  // What is needed to read `range`.
  void Collect(storage::TimeRange range, SampleSources* sources) const;

  // Chunks all of whose samples are before `limit`, the open one and the buffer sealed when that holds for them.
  std::vector<std::shared_ptr<const Chunk>> ChunksBefore(TimestampMs limit);
  // Forgets these chunks, which ChunksBefore returned; what came in since stays.
  void Drop(std::span<const std::shared_ptr<const Chunk>> gone);

  // For snapshots. Restore requires an empty series.
  struct State {
    std::optional<TimestampMs> max_time;
    std::vector<std::shared_ptr<const Chunk>> sealed;
    std::shared_ptr<const Chunk> open;  // null: none
    std::vector<std::shared_ptr<const Chunk>> out_of_order;
  };
  State Save() const;
  Status Restore(State state);

  // Approximate.
  int64_t memory_bytes() const;

 private:
  struct Open {
    SampleKind kind = SampleKind::kFloat;
    bool gauge = false;
    std::vector<TimestampMs> timestamps;
    std::vector<TimestampMs> starts;  // empty, or as long as timestamps
    std::vector<double> values;
    std::vector<HistogramPtr> histograms;
    size_t buckets = 0;

    void Clear();
    ChunkColumns columns() const { return {timestamps, starts, values, histograms}; }
    ChunkHints hints() const { return gauge ? ChunkHints::kGauge : ChunkHints::kCounter; }
  };

  bool OutOfOrderEmpty() const { return out_of_order_.size() == 0 && out_of_order_sealed_.empty(); }
  bool FitsOpen(const TimedSample& sample, const ChunkLimits& limits) const;
  std::shared_ptr<const Chunk> MakeOpenChunk() const;
  void SealOpen();
  std::vector<std::shared_ptr<const Chunk>> MakeOutOfOrderChunks() const;
  void SealOutOfOrder();
  void CopyOpen(storage::TimeRange range, storage::SampleColumns* out) const;

  std::optional<TimestampMs> max_time_;
  std::optional<SampleValue> last_;
  Open open_;
  std::vector<std::shared_ptr<const Chunk>> sealed_;  // ascending, disjoint
  storage::SampleColumns out_of_order_;
  std::vector<std::shared_ptr<const Chunk>> out_of_order_sealed_;
  int64_t sealed_bytes_ = 0;
  int64_t histogram_bytes_ = 0;  // of histograms not yet sealed
};

// Threads     `labels` is immutable. `slot`, `ref`, `staged_*` belong to the writer thread; `data` to the mutex.
struct MemSeries {
  MemSeries(SeriesRef r, uint32_t s, model::Labels l) : labels(std::move(l)), slot(s), ref(r) {}

  const model::Labels labels;
  const uint32_t slot;  // in the tenant's index
  SeriesRef ref;
  uint64_t staged_epoch = 0;  // the batch that `staged_index` belongs to
  uint32_t staged_index = 0;

  mutable Mutex mutex;
  SeriesData data GUARDED_BY(mutex);
};

}  // namespace millstream::tsdb

// Partition: the metrics view of one log partition: series, their samples, and the index that finds them.
//
// A write is staged, appended to the log as one record, and then applied; applying the records of the log in order to
// an empty partition rebuilds it. Samples live in the head, in memory; Checkpoint moves those that are old enough to
// immutable blocks on disk, writes the rest as a snapshot and lets the log forget what neither needs any more.
//
// Threads     Write, ApplyRecord, BeginCheckpoint and Checkpoint from one thread, the writer. RunCheckpoint and
//             DropExpiredBlocks from one thread at a time, which may be another than the writer's, also while the
//             writer writes, but not while it is in BeginCheckpoint or Checkpoint. Everything else from any thread.
// Ownership   Borrows the file system, the clock and the log; they outlive it. Queriers must not outlive it.
// Invariants  (1) A series has at most one sample per timestamp. (2) Refs ascend in order of creation and are never
//             given again. (3) A sample is readable when Write returned, not before its record is in the log.
// Errors      kDataLoss for corrupt files, naming file and offset: what does not touch them stays readable.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/base/status.h"
#include "millstream/base/strong_int.h"
#include "millstream/model/exemplar.h"
#include "millstream/model/metadata.h"
#include "millstream/storage/queryable.h"
#include "millstream/storage/write_batch.h"
#include "millstream/tsdb/series_counts.h"

namespace millstream::env {
class Clock;
class FileSystem;
}  // namespace millstream::env
namespace millstream::storage {
class Log;
}  // namespace millstream::storage

namespace millstream::tsdb {

inline constexpr int64_t kHourMs = 3'600'000;
inline constexpr size_t kMetadataMetricsMax = 100'000;  // per tenant

struct PartitionOptions {
  // How far behind a series' newest sample an older one may come; 0 refuses every sample out of order.
  int64_t out_of_order_window_ms = 24 * kHourMs;
  // Chunks end at multiples of it, and a block covers one multiple.
  int64_t block_range_ms = 2 * kHourMs;
  // Older samples are refused, and blocks whose newest sample is older are dropped; 0 keeps all. Of a partition on
  // disk.
  int64_t retention_ms = 0;
  // Series in the head, per tenant.
  uint64_t series_max = 10'000'000;
  // Where the series of a tenant are counted over all partitions, for the limits that batches bring; null counts this
  // partition alone.
  std::shared_ptr<SeriesCounts> series_counts = nullptr;
  // Memory for exemplars, per tenant; the oldest make room for new ones. 0 keeps none.
  uint64_t exemplar_bytes_max = 8 << 20;
  uint32_t float_chunk_samples_max = 240;
  uint32_t histogram_chunk_samples_max = 120;
};

// One line of a top list.
struct NamedCount {
  std::string name;
  uint64_t count = 0;
};

// What /api/v1/status/tsdb tells of a tenant's head.
struct TenantStatus {
  uint64_t series = 0;
  uint64_t chunks = 0;
  uint64_t label_pairs = 0;
  TimestampMs min_time = 0;  // both 0 when there are no samples
  TimestampMs max_time = 0;
  std::vector<NamedCount> series_count_by_metric_name;
  std::vector<NamedCount> label_value_count_by_label_name;
  std::vector<NamedCount> memory_bytes_by_label_name;
  std::vector<NamedCount> series_count_by_label_pair;  // "name=value"
};

// Totals over all tenants, for the engine's own metrics.
struct PartitionStats {
  uint64_t series = 0;
  uint64_t head_bytes = 0;  // approximate memory of the head
  uint64_t blocks = 0;
  uint64_t block_bytes = 0;
  uint64_t samples_appended = 0;
  uint64_t samples_out_of_order = 0;  // of them
  uint64_t samples_duplicate = 0;     // written before with the same value, and left out
  uint64_t samples_rejected = 0;
  uint64_t exemplars = 0;
  uint64_t exemplar_bytes = 0;  // within head_bytes
  uint64_t exemplars_appended = 0;
};

// The newest sample of a series; `histogram` is null for a float.
struct LastSample {
  TimestampMs timestamp = 0;
  TimestampMs start = 0;  // 0 is unknown
  double value = 0;
  std::shared_ptr<const model::Histogram> histogram;
};

class PartitionImpl;

class Partition final : public storage::Queryable {
 public:
  // Lives in memory only, with no log: for scripts and tests.
  static std::unique_ptr<Partition> MakeInMemory(PartitionOptions options);

  // Opens or creates the partition in `folder`: the newest snapshot, the blocks, then the log's records after the
  // snapshot. `log` may be null: then only what Checkpoint wrote survives.
  static Result<std::unique_ptr<Partition>> Open(PartitionOptions options, env::FileSystem& files, env::Clock& clock,
                                                 std::string folder, storage::Log* log);

  ~Partition() override;
  Partition(const Partition&) = delete;
  Partition& operator=(const Partition&) = delete;

  // Writes what is acceptable and tells in *outcome what was not; sets batch.series[i].ref. Labels must be valid and
  // not empty. An error means that nothing was written (the log refused the record).
  // Returns the offset whose durability covers this write, also for samples that were there before; nothing without a
  // log or when there is nothing to wait for.
  //   older than the window          kOutOfRange, "too old sample" (without a window: "out of order sample")
  //   other value at the same time   kAlreadyExists, "duplicate sample for timestamp"
  //   a series beyond series_max     kResourceExhausted; the same beyond the batch's own
  //   an invalid histogram           kInvalidArgument
  //   an exemplar behind the window  kOutOfRange, "out of order exemplar"
  //   one too large for its memory   kResourceExhausted
  Result<std::optional<Offset>> Write(storage::WriteBatch& batch, storage::WriteOutcome* outcome);

  // Applies one record that Write made, at its offset in the log; a record at or below the last applied one is left
  // out. kDataLoss when the bytes are not such a record; the partition is then unchanged.
  Status ApplyRecord(std::string_view record, Offset offset);

  // Writes blocks for whole block ranges that are over, then a snapshot of the rest, then lets the log forget what the
  // snapshot before this one does not need, then merges small blocks. After an error everything is as readable and as
  // safe as before; try again later. No-op in memory.
  Status Checkpoint();

  // The same in two steps, of which the second, which takes long, lets the writer write meanwhile: what it writes is in
  // the log behind the checkpoint, and perhaps in the checkpoint too, where a restart finds it once. Series that have
  // fallen silent leave the head with the next BeginCheckpoint.
  void BeginCheckpoint();
  Status RunCheckpoint();

  // Drops blocks beyond the retention.
  Status DropExpiredBlocks();

  // The last record that the head holds; nothing before the first.
  std::optional<Offset> applied_offset() const;

  Result<std::unique_ptr<storage::Querier>> MakeQuerier(TenantId tenant) const override;

  // Of the series with exactly these labels; nothing when the head, which has the newest samples, has none of it.
  // Cost  A look-up by the labels, and the decoding of at most one chunk.
  std::optional<LastSample> Last(TenantId tenant, const model::Labels& labels) const;

  // By metric name; an empty `metric` is all, `limit` 0 is none.
  std::vector<model::MetricMetadata> Metadata(TenantId tenant, std::string_view metric, size_t limit) const;

  // Exemplars within `range` of the series that any of `selectors` matches, ascending by series, then by time.
  std::vector<model::SeriesExemplars> Exemplars(TenantId tenant, storage::TimeRange range,
                                                std::span<const std::vector<model::Matcher>> selectors) const;

  TenantStatus StatusOf(TenantId tenant, size_t limit) const;
  PartitionStats Stats() const;

 private:
  explicit Partition(std::unique_ptr<PartitionImpl> impl);

  std::unique_ptr<PartitionImpl> impl_;
};

}  // namespace millstream::tsdb

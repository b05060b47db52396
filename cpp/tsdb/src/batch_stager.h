// BatchStager: decides what of a batch is written, before anything is.
//
// Threads     The writer thread.
// Ownership   Borrows everything that it is given.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "millstream/storage/write_batch.h"
#include "partition_impl.h"

namespace millstream::tsdb {

// A series as it will be after the samples accepted so far.
struct StagedSeries {
  MemSeries* series = nullptr;            // null: new
  const model::Labels* labels = nullptr;  // of the batch or the series
  SeriesRef ref{0};                       // of new ones: once Finish was called
  std::optional<TimestampMs> max_time;
  std::optional<SampleValue> last;  // at max_time, when known
  bool used = false;                // has accepted samples
};

struct StagedSample {
  uint32_t series;  // index into series()
  bool in_order;
  TimedSample sample;
};

class BatchStager {
 public:
  BatchStager(PartitionImpl& partition, TenantHead& tenant, storage::WriteBatch& batch, storage::WriteOutcome* outcome);
  ~BatchStager() { tenant_.ReleasePlaces(); }
  BatchStager(const BatchStager&) = delete;
  BatchStager& operator=(const BatchStager&) = delete;

  // Resolves all series and judges all samples.
  Status Stage();
  // Gives refs from `next_ref` on to the new series that have samples.
  void Finish(uint64_t* next_ref);
  // Tells the batch the refs of its series: not before they are certain to exist.
  void PublishRefs();

  const std::vector<StagedSeries>& series() const { return series_; }
  const std::vector<StagedSample>& samples() const { return samples_; }
  uint64_t duplicates() const { return duplicates_; }
  uint64_t out_of_order() const { return out_of_order_; }

 private:
  static constexpr uint32_t kUnknown = UINT32_MAX;         // an unknown ref without labels
  static constexpr uint32_t kNoLabels = UINT32_MAX - 1;    // no labels at all
  static constexpr uint32_t kTooMany = UINT32_MAX - 2;     // beyond series_max
  static constexpr uint32_t kTenantFull = UINT32_MAX - 3;  // beyond the batch's tenant_series.most
  static constexpr uint32_t kTooFast = UINT32_MAX - 4;     // beyond its new_per_second

  struct SampleKey {
    uint32_t series;
    TimestampMs timestamp;
    friend bool operator==(const SampleKey&, const SampleKey&) = default;
  };
  struct SampleKeyHash {
    size_t operator()(const SampleKey& key) const {
      return (static_cast<size_t>(key.timestamp) ^ (size_t{key.series} << 40)) * size_t{0x9E3779B97F4A7C15};
    }
  };

  Status CheckShape() const;
  void ResolveSeries();
  uint32_t StageExisting(MemSeries* series);
  uint32_t StageNew(const model::Labels& labels);
  void StageFloat(size_t i);
  void StageHistogram(size_t i);
  // `item` is the caller's number of the sample.
  void StageSample(uint32_t batch_series, uint32_t item, TimedSample sample);
  void Accept(uint32_t series, bool in_order, TimedSample sample);
  std::optional<SampleValue> FindExisting(uint32_t series, TimestampMs timestamp);
  void Reject(uint32_t item, Status reason);

  PartitionImpl& partition_;
  TenantHead& tenant_;
  storage::WriteBatch& batch_;
  storage::WriteOutcome* const outcome_;
  const TimestampMs retention_bound_;
  std::vector<uint32_t> staged_of_;  // by index in the batch
  std::vector<StagedSeries> series_;
  std::vector<StagedSample> samples_;
  std::unordered_map<std::string_view, uint32_t> new_by_labels_;
  // Accepted samples by time; filled from the first sample on that is not in order.
  std::unordered_map<SampleKey, size_t, SampleKeyHash> by_time_;
  bool by_time_filled_ = false;
  uint64_t duplicates_ = 0;
  uint64_t out_of_order_ = 0;
};

}  // namespace millstream::tsdb

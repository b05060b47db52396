// RequestWriter: carries the samples of one request to their partitions and gathers what became of them.
//
// Samples are added series by series and go out in batches of at most kRequestBatchSamples; a request of any size needs
// bounded memory on top of itself.
// Threads     One.
// Errors      The first error of a partition is returned by Finish: some partitions may have written their part then.
//             Resending is harmless, since a sample that is there already is accepted.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "metric_feed.h"
#include "millstream/engine/database.h"
#include "millstream/model/histogram.h"
#include "millstream/storage/log.h"
#include "millstream/storage/write_batch.h"
#include "partition_worker.h"
#include "series_cache.h"

namespace millstream::engine {

inline constexpr size_t kRequestBatchSamples = 200'000;
static_assert(kRequestBatchSamples <= storage::kBatchSamplesMax);

// Where a request's series come from. `origin` is the caller's own number of a series.
class SeriesSource {
 public:
  virtual ~SeriesSource() = default;

  virtual Result<model::Labels> LabelsOf(uint32_t origin) = 0;
  // The same of a series that was found where it was thought to be.
  virtual Result<model::Labels> LabelsOfKnown(uint32_t origin) { return LabelsOf(origin); }
  // The series of `origin` was found or made.
  virtual void Resolved(uint32_t origin, SeriesPlace place) = 0;
};

// One partition as a request sees it.
struct PartitionDoor {
  PartitionWorker* worker;
  storage::Log* log;  // null in memory
};

class RequestWriter {
 public:
  RequestWriter(TenantId tenant, std::span<const PartitionDoor> doors, SeriesSource& source, PushOutcome* outcome,
                const storage::SeriesLimits& series, std::chrono::nanoseconds now, storage::FutureLimit future,
                MetricFeed* feed = nullptr);
  // Waits for what Start sent.
  ~RequestWriter();
  RequestWriter(const RequestWriter&) = delete;
  RequestWriter& operator=(const RequestWriter&) = delete;

  // Samples of one series, as parallel columns; `item` of the i-th sample is first_item + i * item_step. `ref` 0 makes
  // the partition look the series up by its labels.
  struct Target {
    uint32_t origin;
    SeriesPlace place;
    const model::Labels* labels;  // may be null when place.ref is known
    uint32_t first_item;
    uint32_t item_step;
  };
  // `starts` may be shorter than `timestamps`: what is missing is unknown.
  Status AddFloats(const Target& target, std::span<const TimestampMs> timestamps, std::span<const double> values,
                   std::span<const TimestampMs> starts = {});
  Status AddHistograms(const Target& target, std::span<const TimestampMs> timestamps,
                       std::span<model::Histogram> histograms, std::span<const TimestampMs> starts = {});
  Status AddExemplars(PartitionId partition, const model::Labels& series, uint32_t item,
                      std::span<model::Exemplar> exemplars);
  void AddMetadata(PartitionId partition, model::MetricMetadata metadata);

  // Sends what was added, without waiting, so that several requests can be on their way at once. Nothing may be added
  // any more.
  void Start();
  // Sends what is left and waits until all is acknowledged.
  Status Finish();
  // Whether Finish failed when all was stored, at a topic that is fed from it.
  bool is_unfed() const { return is_unfed_; }

 private:
  struct Lane {
    storage::WriteBatch batch;
    std::vector<uint32_t> origins;  // of batch.series
    std::vector<bool> asked;        // whether the series went out without a ref
    WriteTask task;
  };

  // Lanes that were sent and not waited for yet.
  struct Flight {
    explicit Flight(std::vector<Lane> taken) : lanes(std::move(taken)) {}
    std::vector<Lane> lanes;
    std::vector<size_t> sent;  // indexes of lanes
    TaskGroup group;
    Status first_error;
  };

  uint32_t Slot(const Target& target);
  Status Flush();
  std::unique_ptr<Flight> Send(std::vector<Lane> lanes);
  Status Await(Flight& flight);
  void Collect(const WriteTask& task);
  // Sends what partitions no longer knew by ref once more, by labels.
  Status Resend(std::vector<Lane>& lanes);
  std::vector<Lane> MakeLanes() const;

  const TenantId tenant_;
  const storage::SeriesLimits series_;  // of the tenant
  const std::chrono::nanoseconds now_;  // of the monotonic clock
  const storage::FutureLimit future_;
  MetricFeed* const feed_;  // may be null
  const std::shared_ptr<const MetricFeed::Selection> wanted_;
  const std::span<const PartitionDoor> doors_;
  SeriesSource& source_;
  PushOutcome* const outcome_;
  std::vector<Lane> lanes_;
  std::unique_ptr<Flight> flight_;
  std::vector<std::optional<Offset>> offsets_;
  std::vector<MetricFeed::Sample> fed_;  // what topics get when all is written
  size_t pending_ = 0;
  bool is_unfed_ = false;
};

}  // namespace millstream::engine

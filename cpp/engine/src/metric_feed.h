// MetricFeed: acknowledged samples of series that topics ask for (their option `from_metrics`, selectors of PromQL), as
// events of these topics: {"name":"up","labels":{"job":"a"},"value":1,"timestamp":1700000000000}.
//
// A write that has such samples is acknowledged when its events are, too: what the topic's durability promises holds
// for each of them. When a topic cannot take them for now, the write fails and is to be sent again; its samples are
// there already, which does no harm. It never waits for a subscription that holds a topic in memory, which would hold
// up writes of others. The events of a series have its labels' hash as their key, so that they stay in
// order within one partition, and an id made of series, timestamp and value: of a write that comes again the topic
// keeps one event, as long as it remembers the id.
//
// No loops      Samples that metric rules make of events do not come here: nothing that was an event becomes one again.
// Left out      Histograms and staleness markers. NaN and infinities are the texts "NaN", "+Inf" and "-Inf".
// Threads       Any.
// Limits        kFeedSeriesMax decided series; kFeedBytesMax of payloads at a time.
// Cost          Without such a topic, two atomic loads for a write; else a look-up for each series of it, and the
//               publishing of what is wanted.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "millstream/base/mutex.h"
#include "millstream/base/result.h"
#include "millstream/events/broker.h"
#include "millstream/model/labels.h"
#include "millstream/storage/series_filter.h"
#include "millstream/storage/write_batch.h"

namespace millstream::engine {

inline constexpr size_t kFeedSeriesMax = 1'000'000;
inline constexpr uint64_t kFeedBytesMax = 4 << 20;

class MetricFeed {
 public:
  // What the topics of a tenant want.
  struct Selection;
  // A series that is wanted.
  struct Series {
    std::string head;  // of its events' JSON, up to the value
    std::string key;
    std::vector<std::string> topics;
  };
  struct Sample {
    std::shared_ptr<const Series> series;
    TimestampMs timestamp = 0;
    double value = 0;
  };
  using LabelsOf = std::function<Result<model::Labels>(size_t series)>;

  explicit MetricFeed(events::Broker& broker) : broker_(broker) {}

  // Whether a topic may have these; which one is wrong, and where.
  static Status Check(const std::vector<std::string>& selectors);

  // Null when no topic of the tenant wants anything.
  std::shared_ptr<const Selection> Wanted(TenantId tenant) EXCLUDES(selection_mutex_);

  // Adds the samples of a batch that was written, and listed what it rejected, that are wanted. `labels` says those of
  // a series of the batch.
  Status Select(const Selection& selection, PartitionId partition, const storage::WriteBatch& batch,
                const storage::WriteOutcome& outcome, const LabelsOf& labels, std::vector<Sample>* out);

  // Returns when the topics have the samples. An event that its topic will never take (its schema, its size) is counted
  // and left out.
  Status Publish(TenantId tenant, const std::vector<Sample>& samples);

  std::map<std::string, double> Stats() const;

 private:
  using Selections = std::map<TenantId, std::shared_ptr<const Selection>>;
  struct Decision {
    uint64_t version = 0;
    std::shared_ptr<const Series> series;  // null: nobody wants it
  };
  struct SeriesKey {
    TenantId tenant;
    PartitionId partition;
    SeriesRef ref;
    friend bool operator==(const SeriesKey&, const SeriesKey&) = default;
  };
  struct SeriesKeyHash {
    size_t operator()(const SeriesKey& key) const {
      return (key.ref.value() * 0x9E3779B97F4A7C15) ^ (uint64_t{key.partition.value()} << 32) ^
             (uint64_t{key.tenant.value()} << 20);
    }
  };
  struct Shard {
    Mutex mutex;
    std::unordered_map<SeriesKey, Decision, SeriesKeyHash> decisions GUARDED_BY(mutex);
  };
  static constexpr size_t kShards = 16;

  Result<std::shared_ptr<const Series>> Decide(const Selection& selection, const SeriesKey& key, size_t index,
                                               const LabelsOf& labels);
  Status Send(TenantId tenant, std::span<const events::PublishEvent> events);

  events::Broker& broker_;
  std::atomic<size_t> fed_tenants_{0};              // written under selection_mutex_
  std::atomic<uint64_t> seen_version_{UINT64_MAX};  // likewise
  Mutex selection_mutex_;
  Selections selections_ GUARDED_BY(selection_mutex_);
  std::array<Shard, kShards> shards_;

  // Whoever publishes writes these.
  std::atomic<uint64_t> published_{0};
  std::atomic<uint64_t> refused_{0};
  std::atomic<uint64_t> failures_{0};
};

}  // namespace millstream::engine

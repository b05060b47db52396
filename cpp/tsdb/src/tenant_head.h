// TenantHead: one tenant's series in memory, found by ref, by labels, or by matchers; and its metadata.
//
// Threads     Calls marked "writer" from the writer thread only; the others from any thread.
// Ownership   A series that was removed lives on while a reader holds it.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "exemplar_store.h"
#include "label_index.h"
#include "millstream/base/mutex.h"
#include "millstream/base/result.h"
#include "millstream/model/metadata.h"
#include "millstream/storage/query_control.h"
#include "millstream/storage/series_limits.h"
#include "millstream/tsdb/partition.h"
#include "series.h"

namespace millstream::tsdb {

using SeriesPtr = std::shared_ptr<MemSeries>;

class TenantHead {
 public:
  TenantHead(TenantId id, uint64_t exemplar_bytes_max, std::shared_ptr<SeriesCount> count)
      : id_(id), count_(std::move(count)), exemplars_(exemplar_bytes_max) {}

  TenantId id() const { return id_; }

  // Writer. Null when unknown.
  MemSeries* FindByRef(SeriesRef ref) const;
  MemSeries* FindByLabels(const model::Labels& labels) const;
  uint64_t series_count() const { return by_labels_.size(); }

  // Writer. Keeps a place for one more series, for Create to take, unless the tenant's limits in all partitions forbid
  // it at this time of the monotonic clock. What Create did not take goes back with ReleasePlaces; its turn does not.
  enum class Place { kKept, kFull, kTooFast };
  Place ReservePlace(const storage::SeriesLimits& limits, std::chrono::nanoseconds now);
  void ReleasePlaces();

  // Null when unknown.
  SeriesPtr Find(const model::Labels& labels) const EXCLUDES(mutex_);

  // Writer. Adds series whose labels and refs are new; the result has their order.
  struct NewSeries {
    SeriesRef ref;
    model::Labels labels;
  };
  std::vector<MemSeries*> Create(std::vector<NewSeries> series) EXCLUDES(mutex_);
  // Writer. Gives the series `ref` as its newest name; the old one keeps working.
  void Rename(MemSeries* series, SeriesRef ref);
  // Writer.
  void Remove(std::span<MemSeries* const> series) EXCLUDES(mutex_);
  // Writer. In order of creation.
  std::vector<SeriesPtr> AllSeries() const EXCLUDES(mutex_);

  Result<std::vector<SeriesPtr>> Select(std::span<const model::Matcher> matchers, storage::QueryControl& control) const
      EXCLUDES(mutex_);
  // Of all series, without looking at times; at most `limit` + 1 when it is not 0.
  std::vector<std::string> LabelNames(size_t limit) const EXCLUDES(mutex_);
  std::vector<std::string> LabelValues(std::string_view name, size_t limit) const EXCLUDES(mutex_);

  // True when the entry is new or differs and may be stored.
  bool WouldChange(const model::MetricMetadata& metadata) const EXCLUDES(metadata_mutex_);
  void SetMetadata(const model::MetricMetadata& metadata) EXCLUDES(metadata_mutex_);
  std::vector<model::MetricMetadata> Metadata(std::string_view metric, size_t limit) const EXCLUDES(metadata_mutex_);

  ExemplarStore& exemplars() { return exemplars_; }
  const ExemplarStore& exemplars() const { return exemplars_; }

  TenantStatus Status(size_t limit) const EXCLUDES(mutex_);
  // Approximate, without the samples.
  int64_t index_bytes() const EXCLUDES(mutex_);
  uint64_t series_in_index() const EXCLUDES(mutex_);

 private:
  static constexpr size_t kPageRefs = 64;
  struct Page {
    std::array<MemSeries*, kPageRefs> series{};
    size_t used = 0;
  };

  void SetRef(SeriesRef ref, MemSeries* series);

  const TenantId id_;
  const std::shared_ptr<SeriesCount> count_;  // in all partitions, with the places that are kept

  // The writer's own. It changes by_labels_ only with mutex_ held, so whoever holds that may read it, too.
  std::vector<std::unique_ptr<Page>> by_ref_;
  std::unordered_map<std::string_view, MemSeries*> by_labels_;  // keys live in the series
  std::unordered_multimap<MemSeries*, uint64_t> older_refs_;    // only of renamed series
  std::vector<uint32_t> free_slots_;
  uint64_t places_ = 0;

  mutable SharedMutex mutex_;
  LabelIndex index_ GUARDED_BY(mutex_);
  std::vector<SeriesPtr> by_slot_ GUARDED_BY(mutex_);
  int64_t series_bytes_ GUARDED_BY(mutex_) = 0;

  ExemplarStore exemplars_;

  mutable Mutex metadata_mutex_;
  std::map<std::string, model::MetricMetadata, std::less<>> metadata_ GUARDED_BY(metadata_mutex_);
};

}  // namespace millstream::tsdb

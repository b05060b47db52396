// DeltaAccumulator: adds up samples of delta temporality, so that what is stored is cumulative.
//
// Of each series it keeps the running total and the interval that was added last. A series begins, or begins anew with
// the sample's own value and start, when it is not known here or paused longer than its limits allow: a reader sees a
// counter reset. A gap or an overlap that is shorter is added like what joins without one. A sample that ends no later
// than the last one is refused, but for the last one itself, sent again: that gives the same total again.
//
// A histogram whose bounds are not those of its last point begins anew, too, with all its series: a bucket's total of
// one set of bounds says nothing next to one of another. Series of buckets that there are no longer end with a
// staleness marker at the time of the point.
//
// A point whose value or sum is NaN is refused: the total would be NaN from then on.
//
// Within one request the order is that of the samples' times, not that in which they stand.
//
// Nothing of this is stored by itself: a series that is not known here, after a restart or a long silence, goes on from
// the newest sample that the store has of it. A histogram's bounds have changed then when one of its buckets is not
// stored as late as the bucket of all is; buckets that are no longer sent cannot be told then, and get no marker.
//
// Threads     Any; one tenant's requests one at a time.
// Limits      DeltaLimits::series_max for each tenant, kDeltaSeriesMax for all; a series past either is refused. Series
//             that paused too long are dropped.
// Source      OpenTelemetry metrics data model, "Sums: Delta-to-Cumulative".
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "millstream/base/mutex.h"
#include "millstream/base/status.h"
#include "millstream/base/strong_int.h"
#include "millstream/model/histogram.h"
#include "millstream/storage/future_limit.h"
#include "millstream/tsdb/partition.h"
#include "millstream/wire/decoded_write.h"

namespace millstream::engine {

inline constexpr uint64_t kDeltaSeriesMax = 2'000'000;

class DeltaAccumulator {
 public:
  // The newest stored sample of a series of the request.
  using Newest = std::function<std::optional<tsdb::LastSample>(const wire::DecodedSeries& series)>;

  // Replaces the samples of delta series by totals with the total's start. A refused one is taken out and in the
  // request's errors. One that `future` does not admit is left to the store, which refuses it.
  void Apply(TenantId tenant, TimestampMs now, const storage::FutureLimit& future, const Newest& newest,
             wire::DecodedWrite* decoded) EXCLUDES(mutex_);

  // Of all tenants.
  uint64_t series() const { return series_.load(std::memory_order_relaxed); }

 private:
  struct Total {
    TimestampMs start = 0;  // of the total; 0 is unknown, as below
    TimestampMs last_start = 0;
    TimestampMs last_end = 0;
    TimestampMs touched = 0;  // on the clock of this machine
    double value = 0;
    std::unique_ptr<model::Histogram> histogram;
    // Of the last bucket of a histogram, which stands for all its series: the ends of their raw labels that say `le`.
    std::unique_ptr<std::vector<std::string>> bounds;
  };
  struct TextHash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  struct Tenant {
    Mutex mutex;
    std::unordered_map<std::string, Total, TextHash, std::equal_to<>> totals GUARDED_BY(mutex);
    TimestampMs swept GUARDED_BY(mutex) = 0;
  };

  // The series of one point, [begin, end) of decoded->series.
  void AddPoint(Tenant& tenant, TimestampMs now, const Newest& newest, uint32_t begin, uint32_t end,
                wire::DecodedWrite* decoded) REQUIRES(tenant.mutex);
  Status Add(Tenant& tenant, TimestampMs now, const Newest& newest, uint32_t index, bool anew,
             wire::DecodedWrite* decoded) REQUIRES(tenant.mutex);
  static bool HaveBoundsChanged(const Tenant& tenant, const Newest& newest,
                                std::span<const wire::DecodedSeries> buckets) REQUIRES(tenant.mutex);
  void KeepBounds(Tenant& tenant, uint32_t begin, uint32_t end, wire::DecodedWrite* decoded) REQUIRES(tenant.mutex);
  // Whether there was something to go on from.
  static bool GoOn(const std::optional<tsdb::LastSample>& stored, Total* total);
  void Sweep(Tenant& tenant, TimestampMs now, int64_t stale_ms) REQUIRES(tenant.mutex);

  Mutex mutex_;
  std::unordered_map<TenantId, std::unique_ptr<Tenant>> tenants_ GUARDED_BY(mutex_);
  std::atomic<uint64_t> series_{0};  // written under the tenants' mutexes
};

}  // namespace millstream::engine

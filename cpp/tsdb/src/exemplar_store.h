// ExemplarStore: the newest exemplars of one tenant in one partition, within a fixed number of bytes.
//
// A ring in order of arrival: one more drops the oldest ones until it fits. Exemplars are found by the labels of their
// series, which need not be in the head any more.
// Threads     Add and Judge from the writer thread; the others from any thread.
// Invariants  (1) bytes() <= bytes_max. (2) A series has an exemplar (timestamp, value, labels) at most once.
// Cost        Add: O(log n). Select: every series is matched; at most bytes_max / kExemplarBytes of them.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string_view>
#include <vector>

#include "millstream/base/mutex.h"
#include "millstream/model/exemplar.h"
#include "millstream/model/matcher.h"
#include "millstream/storage/queryable.h"
#include "millstream/tsdb/partition.h"

namespace millstream::tsdb {

// What one takes beside its labels: the object, its node, its place in the ring.
inline constexpr uint64_t kExemplarBytes = 160;
inline constexpr uint64_t kExemplarSeriesBytes = 256;

class ExemplarStore {
 public:
  explicit ExemplarStore(uint64_t bytes_max) : bytes_max_(bytes_max) {}

  enum class Verdict : uint8_t { kNew, kKnown, kTooOld, kTooLarge };
  // What Add would make of it. `window_ms` is how far behind the series' newest exemplar an older one may come.
  Verdict Judge(const model::Labels& series, const model::Exemplar& exemplar, int64_t window_ms) const EXCLUDES(mutex_);
  // Leaves out what is known or too large.
  void Add(const model::Labels& series, const model::Exemplar& exemplar) EXCLUDES(mutex_);

  // Those of series that any of `selectors` matches, within `range`, ascending by series and then by time.
  std::vector<model::SeriesExemplars> Select(storage::TimeRange range,
                                             std::span<const std::vector<model::Matcher>> selectors) const
      EXCLUDES(mutex_);
  // Each with its series, in order of arrival.
  std::vector<model::SeriesExemplars> All() const EXCLUDES(mutex_);

  uint64_t bytes() const EXCLUDES(mutex_);
  uint64_t count() const EXCLUDES(mutex_);

 private:
  struct Order {
    bool operator()(const model::Exemplar& a, const model::Exemplar& b) const;
  };
  using Exemplars = std::set<model::Exemplar, Order>;
  struct Series {
    model::Labels labels;
    Exemplars exemplars;
  };
  struct Arrival {
    Series* series;
    Exemplars::iterator exemplar;
  };

  uint64_t Size(const model::Labels& series, const model::Exemplar& exemplar) const;
  void DropOldest() REQUIRES(mutex_);

  const uint64_t bytes_max_;
  mutable Mutex mutex_;
  std::map<std::string_view, std::unique_ptr<Series>> series_ GUARDED_BY(mutex_);  // keys live in the series
  std::deque<Arrival> arrivals_ GUARDED_BY(mutex_);
  uint64_t bytes_ GUARDED_BY(mutex_) = 0;
};

}  // namespace millstream::tsdb

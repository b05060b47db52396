// Queryable: what PromQL reads from. The evaluator runs on any implementation: a partition, many, a remote node, a
// test.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/base/strong_int.h"
#include "millstream/model/histogram.h"
#include "millstream/model/labels.h"
#include "millstream/model/matcher.h"
#include "millstream/model/metadata.h"
#include "millstream/storage/query_control.h"

namespace millstream::storage {

// Samples of one series in columns. Floats and histograms stand apart, each ascending in time; a timestamp is in at
// most one of the two. Staleness markers are included: a float column's is model::StaleNan(), a histogram column's is a
// histogram whose sum is model::StaleNan().
struct SampleColumns {
  std::vector<TimestampMs> timestamps;
  std::vector<double> values;
  std::vector<TimestampMs> histogram_timestamps;
  std::vector<std::shared_ptr<const model::Histogram>> histograms;
  // When the counting of each float or histogram sample began; 0 is unknown. Empty when unknown for all.
  std::vector<TimestampMs> start_timestamps;
  std::vector<TimestampMs> histogram_start_timestamps;

  size_t size() const { return timestamps.size() + histogram_timestamps.size(); }
  void Clear() {
    timestamps.clear();
    values.clear();
    histogram_timestamps.clear();
    histograms.clear();
    start_timestamps.clear();
    histogram_start_timestamps.clear();
  }
};

// A closed interval of time.
struct TimeRange {
  TimestampMs min;
  TimestampMs max;
};

struct SelectHints {
  // Everything that the evaluator will read lies within the selection's range; these say how it is used, and an
  // implementation may ignore them.
  int64_t step_ms = 0;        // 0: one evaluation
  int64_t range_ms = 0;       // the range selector's window, 0 for an instant selector
  std::string_view function;  // the function or aggregation directly above, or empty
};

// One series of a selection.
//
// Threads     Different series of one selection may be read from different threads; one series from one at a time.
class SelectedSeries {
 public:
  virtual ~SelectedSeries() = default;

  virtual const model::Labels& labels() const = 0;

  // Replaces *out by the series' samples in `range`, which lies within the range of the Select. kDataLoss when stored
  // bytes are corrupt, naming file and offset.
  virtual Status Read(TimeRange range, SampleColumns* out) const = 0;
};

// A consistent view of a store: what was acknowledged before it was made is in it.
//
// Threads     Select and the label calls may be made from several threads. Selected series must not outlive the
//             querier.
class Querier {
 public:
  virtual ~Querier() = default;

  // The series that all of `matchers` match and that may have samples in `range`, in ascending order of labels, each
  // label set once. `control` is checked and charged while selecting.
  virtual Result<std::vector<std::unique_ptr<SelectedSeries>>> Select(TimeRange range,
                                                                      std::span<const model::Matcher> matchers,
                                                                      const SelectHints& hints,
                                                                      QueryControl& control) const = 0;

  // Sorted and unique, of series that match and may have samples in `range`; no matchers: of all series. `limit` 0 is
  // none; else at most `limit` + 1 are returned, so that the caller can tell that there are more.
  virtual Result<std::vector<std::string>> LabelNames(TimeRange range, std::span<const model::Matcher> matchers,
                                                      size_t limit, QueryControl& control) const = 0;
  virtual Result<std::vector<std::string>> LabelValues(std::string_view name, TimeRange range,
                                                       std::span<const model::Matcher> matchers, size_t limit,
                                                       QueryControl& control) const = 0;
};

// Threads     Safe from any thread.
class Queryable {
 public:
  virtual ~Queryable() = default;

  virtual Result<std::unique_ptr<Querier>> MakeQuerier(TenantId tenant) const = 0;
};

}  // namespace millstream::storage

// Sums and means of native histograms, as sum() and sum_over_time() and their averages need them.
#pragma once

#include "exec/annotations.h"
#include "exec/series.h"
#include "millstream/model/histogram_math.h"

namespace millstream::promql::exec {

class HistogramFold {
 public:
  // `average`: the result is the mean. Like that of floats it is the sum divided by the count unless the sum overflows,
  // then a running mean.
  HistogramFold(const model::Histogram& first, bool average) : sum_(first), average_(average) { Note(first); }

  // Once histograms with exponential and custom buckets have met, there is no result.
  void Add(const model::Histogram& histogram);
  bool incompatible() const { return incompatible_; }

  // The result, compacted if so told. Conflicts go to the annotations at `position`; of incompatible histograms the
  // metric's name too.
  HistogramPtr Finish(Annotations* annotations, std::string_view metric, PositionRange position, bool compact) const;

 private:
  void Note(const model::Histogram& histogram);
  void Take(const Result<model::CombineOutcome>& outcome);

  model::HistogramSum sum_;
  double count_ = 1;
  bool average_;
  bool incremental_ = false;
  bool incompatible_ = false;
  bool reset_seen_ = false;
  bool not_reset_seen_ = false;
  bool reconciled_ = false;
};

}  // namespace millstream::promql::exec

#include "exec/histogram_fold.h"

namespace millstream::promql::exec {

void HistogramFold::Note(const model::Histogram& histogram) {
  reset_seen_ = reset_seen_ || histogram.counter_reset_hint == model::CounterResetHint::kReset;
  not_reset_seen_ = not_reset_seen_ || histogram.counter_reset_hint == model::CounterResetHint::kNotReset;
}

void HistogramFold::Take(const Result<model::CombineOutcome>& outcome) {
  if (!outcome.ok()) {
    incompatible_ = true;
  } else if (outcome->bounds_reconciled) {
    reconciled_ = true;
  }
}

void HistogramFold::Add(const model::Histogram& histogram) {
  if (incompatible_) return;
  Note(histogram);
  ++count_;
  if (!average_) {
    Take(sum_.Add(histogram));
    return;
  }
  if (!incremental_) {
    model::HistogramSum next = sum_;
    Take(next.Add(histogram));
    if (incompatible_) return;
    if (!next.HasOverflow()) {
      sum_ = std::move(next);
      return;
    }
    incremental_ = true;
    sum_.Divide(count_ - 1);
  }
  sum_.Multiply((count_ - 1) / count_);
  model::Histogram share = histogram;
  model::Divide(&share, count_);
  Take(sum_.Add(share));
}

HistogramPtr HistogramFold::Finish(Annotations* annotations, std::string_view metric, PositionRange position,
                                   bool compact) const {
  if (reset_seen_ && not_reset_seen_) {
    annotations->CounterResetCollision(HistogramOperation::kAggregation, position);
  }
  if (reconciled_) annotations->MismatchedCustomBuckets(HistogramOperation::kAggregation, position);
  if (incompatible_) {
    annotations->MixedExponentialCustom(metric, position);
    return nullptr;
  }
  auto result = std::make_shared<model::Histogram>(sum_.Total(average_ && !incremental_ ? count_ : 1));
  if (compact) model::Compact(result.get());
  return result;
}

}  // namespace millstream::promql::exec

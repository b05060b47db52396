#include "exec/histogram_rate.h"

#include <algorithm>
#include <span>

#include "exec/window_bounds.h"
#include "millstream/model/histogram_math.h"

namespace millstream::promql::exec {
namespace {

bool IsGauge(const model::Histogram& histogram) {
  return histogram.counter_reset_hint == model::CounterResetHint::kGauge;
}

bool Noted(const RangeCall& call, const Result<model::CombineOutcome>& outcome, HistogramOperation operation) {
  if (!outcome.ok()) {
    call.ctx.annotations.MixedExponentialCustom(call.metric(), call.position);
    return false;
  }
  if (outcome->bounds_reconciled) call.ctx.annotations.MismatchedCustomBuckets(operation, call.position);
  return true;
}

// Whether sample `index` of the window, not the first, begins a new count after `previous`.
bool IsReset(const SampleSpan& samples, size_t index, const model::Histogram& previous) {
  if (!samples.histogram_starts.empty() &&
      IsStartTimestampReset(samples.histogram_starts[index - 1], samples.histogram_times[index - 1],
                            samples.histogram_starts[index], samples.histogram_times[index])) {
    return true;
  }
  return model::DetectReset(*samples.histograms[index], previous);
}

// Gauges make no counter, and samples of the two kinds of buckets no difference.
bool CheckKinds(const RangeCall& call, std::span<const HistogramPtr> histograms, bool is_counter) {
  const bool custom = histograms.front()->uses_custom_buckets();
  for (const HistogramPtr& histogram : histograms) {
    if (histogram->uses_custom_buckets() != custom) {
      call.ctx.annotations.MixedExponentialCustom(call.metric(), call.position);
      return false;
    }
    if (is_counter && IsGauge(*histogram)) call.ctx.annotations.NotCounter(call.metric(), call.position);
  }
  return true;
}

// Adds to *result what the counter had counted at each reset between the bounds.
bool CorrectResets(const RangeCall& call, const Window& window, const Bounds& bounds, const model::Histogram& left,
                   const model::Histogram& right, model::Histogram* result) {
  const SampleSpan& samples = window.samples;
  size_t next = bounds.first + 1;
  const model::Histogram* previous = &left;
  if (call.modifier == RangeModifier::kSmoothed && samples.histogram_times[bounds.first] < window.start &&
      model::DetectReset(*samples.histograms[bounds.first + 1], *samples.histograms[bounds.first])) {
    // The left bound was interpolated across this reset.
    previous = samples.histograms[bounds.first + 1].get();
    ++next;
  }
  // The last sample is represented by `right`.
  if (next > bounds.last) return true;
  for (; next < bounds.last; ++next) {
    const model::Histogram& current = *samples.histograms[next];
    if (model::DetectReset(current, *previous) && !AddNoted(call, result, *previous)) return false;
    previous = &current;
  }
  return !model::DetectReset(right, *previous) || AddNoted(call, result, *previous);
}

}  // namespace

bool AddNoted(const RangeCall& call, model::Histogram* sum, const model::Histogram& other) {
  return Noted(call, model::Add(sum, other), HistogramOperation::kAddition);
}

bool SubtractNoted(const RangeCall& call, model::Histogram* sum, const model::Histogram& other) {
  return Noted(call, model::Subtract(sum, other), HistogramOperation::kSubtraction);
}

MutableHistogram InterpolateHistogram(const RangeCall& call, const SampleSpan& samples, size_t left, TimestampMs time,
                                      bool is_counter) {
  const model::Histogram& before = *samples.histograms[left];
  const model::Histogram& after = *samples.histograms[left + 1];
  const TimestampMs before_time = samples.histogram_times[left];
  const TimestampMs after_time = samples.histogram_times[left + 1];
  if (time == before_time) return std::make_shared<model::Histogram>(before);
  auto result = std::make_shared<model::Histogram>(after);
  if (time == after_time) return result;
  const double fraction = static_cast<double>(time - before_time) / static_cast<double>(after_time - before_time);
  if (is_counter && model::DetectReset(after, before)) {
    model::Multiply(result.get(), fraction);
    return result;
  }
  if (!SubtractNoted(call, result.get(), before)) return nullptr;
  model::Multiply(result.get(), fraction);
  if (!AddNoted(call, result.get(), before)) return nullptr;
  return result;
}

MutableHistogram HistogramDifference(const RangeCall& call, const Window& window, bool is_counter) {
  const SampleSpan& samples = window.samples;
  const std::span<const HistogramPtr> histograms = samples.histograms;
  const model::Histogram& last = *histograms.back();
  const model::Histogram* first = histograms.front().get();
  if (is_counter && (IsGauge(*first) || IsGauge(last))) {
    call.ctx.annotations.NotCounter(call.metric(), call.position);
  }
  // When the counter is reset right after it, the first sample plays no part, whatever its buckets.
  model::Histogram nothing;
  if (is_counter && IsReset(samples, 1, *first)) {
    nothing.schema = histograms[1]->schema;
    nothing.custom_values = histograms[1]->custom_values;
    first = &nothing;
  }
  if (last.uses_custom_buckets() != first->uses_custom_buckets()) {
    call.ctx.annotations.MixedExponentialCustom(call.metric(), call.position);
    return nullptr;
  }
  int32_t schema = std::min(last.schema, first->schema);
  if (is_counter && histograms.size() > 2) {
    const auto between = histograms.subspan(1, histograms.size() - 2);
    if (between.front()->uses_custom_buckets() != first->uses_custom_buckets()) {
      call.ctx.annotations.MixedExponentialCustom(call.metric(), call.position);
      return nullptr;
    }
    if (!CheckKinds(call, between, true)) return nullptr;
    for (const HistogramPtr& histogram : between) schema = std::min(schema, histogram->schema);
  }

  auto result = std::make_shared<model::Histogram>(last);
  model::ReduceResolution(result.get(), schema);
  if (!SubtractNoted(call, result.get(), *first)) return nullptr;
  if (is_counter) {
    const model::Histogram* previous = first;
    for (size_t i = 1; i < histograms.size(); ++i) {
      if (IsReset(samples, i, *previous) && !AddNoted(call, result.get(), *previous)) return nullptr;
      previous = histograms[i].get();
    }
  } else if (!IsGauge(*histograms.front()) || !IsGauge(last)) {
    call.ctx.annotations.NotGauge(call.metric(), call.position);
  }
  result->counter_reset_hint = model::CounterResetHint::kGauge;
  model::Compact(result.get());
  return result;
}

MutableHistogram ExtendedHistogramDifference(const RangeCall& call, const Window& window, bool is_counter) {
  const SampleSpan& samples = window.samples;
  const bool smoothed = call.modifier == RangeModifier::kSmoothed;
  const Bounds bounds = FindBounds(window, samples.histogram_times, smoothed);
  if (!bounds.found) return nullptr;
  if (!CheckKinds(call, samples.histograms.subspan(bounds.first, bounds.last - bounds.first + 1), is_counter)) {
    return nullptr;
  }
  const bool left_between = smoothed && samples.histogram_times[bounds.first] < window.start;
  const bool right_between = smoothed && bounds.last > 0 && samples.histogram_times[bounds.last] > window.end;
  const MutableHistogram left = left_between
                                    ? InterpolateHistogram(call, samples, bounds.first, window.start, is_counter)
                                    : std::make_shared<model::Histogram>(*samples.histograms[bounds.first]);
  if (left == nullptr) return nullptr;
  const MutableHistogram right = right_between
                                     ? InterpolateHistogram(call, samples, bounds.last - 1, window.end, is_counter)
                                     : std::make_shared<model::Histogram>(*samples.histograms[bounds.last]);
  if (right == nullptr) return nullptr;
  if (!is_counter && (!IsGauge(*left) || !IsGauge(*right))) {
    call.ctx.annotations.NotGauge(call.metric(), call.position);
  }
  auto result = std::make_shared<model::Histogram>(*right);
  if (!SubtractNoted(call, result.get(), *left)) return nullptr;
  if (is_counter && !CorrectResets(call, window, bounds, *left, *right, result.get())) return nullptr;
  result->counter_reset_hint = model::CounterResetHint::kGauge;
  return result;
}

}  // namespace millstream::promql::exec

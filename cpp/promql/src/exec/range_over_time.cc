// Aggregations over time, and what fits lines and curves to a window.

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>

#include "exec/histogram_fold.h"
#include "exec/kahan.h"
#include "exec/kernels.h"
#include "exec/numbers.h"
#include "exec/quantile.h"
#include "exec/range_function.h"
#include "exec/window_math.h"

namespace millstream::promql::exec {
namespace {

bool HasFloats(const Window& window) {
  return !window.samples.times.empty();
}
bool HasHistograms(const Window& window) {
  return !window.samples.histogram_times.empty();
}

// Functions on floats leave histograms out, and say so when there are floats too.
void NoteIgnoredHistograms(const RangeCall& call, const Window& window) {
  if (HasHistograms(window)) call.ctx.annotations.HistogramIgnoredInMixedRange(call.metric(), call.position);
}

struct Line {
  double slope = 0;
  double intercept = 0;
};

// Least squares; the intercept is the line's value at `origin`.
Line FitLine(std::span<const TimestampMs> times, std::span<const double> values, TimestampMs origin) {
  KahanSum x_sum;
  KahanSum y_sum;
  KahanSum xy_sum;
  KahanSum xx_sum;
  bool constant = true;
  for (size_t i = 0; i < values.size(); ++i) {
    if (i > 0 && values[i] != values[0]) constant = false;
    const double x = static_cast<double>(times[i] - origin) / 1e3;
    x_sum.Add(x);
    y_sum.Add(values[i]);
    xy_sum.Add(x * values[i]);
    xx_sum.Add(x * x);
  }
  if (constant) {
    if (std::isinf(values[0])) return {kNan, kNan};
    return {0, values[0]};
  }
  const double n = static_cast<double>(values.size());
  const double x_total = x_sum.Total();
  const double y_total = y_sum.Total();
  const double covariance = xy_sum.Total() - x_total * y_total / n;
  const double variance = xx_sum.Total() - x_total * x_total / n;
  const double slope = covariance / variance;
  return {slope, y_total / n - slope * x_total / n};
}

template <bool kAverage>
Status FoldOverTime(const RangeCall& call, const Window& window, RangeOutput* out) {
  if (HasFloats(window) && HasHistograms(window)) {
    call.ctx.annotations.MixedFloatsHistograms(call.metric(), call.position);
    return Status::Ok();
  }
  if (HasFloats(window)) {
    out->Set(kAverage ? AverageOf(window.samples.values) : SumOf(window.samples.values));
    return Status::Ok();
  }
  const std::span<const HistogramPtr> histograms = window.samples.histograms;
  HistogramFold fold(*histograms.front(), kAverage);
  for (const HistogramPtr& histogram : histograms.subspan(1)) fold.Add(*histogram);
  HistogramPtr result = fold.Finish(&call.ctx.annotations, call.metric(), call.position, false);
  if (result != nullptr) out->Set(std::move(result));
  return Status::Ok();
}

Status CountOverTime(const RangeCall&, const Window& window, RangeOutput* out) {
  out->Set(static_cast<double>(window.samples.size()));
  return Status::Ok();
}

Status PresentOverTime(const RangeCall&, const Window&, RangeOutput* out) {
  out->Set(1.0);
  return Status::Ok();
}

Status FirstOverTime(const RangeCall&, const Window& window, RangeOutput* out) {
  const SampleSpan& samples = window.samples;
  if (!HasHistograms(window) || (HasFloats(window) && samples.times.front() < samples.histogram_times.front())) {
    out->Set(samples.values.front());
  } else {
    out->Set(samples.histograms.front());
  }
  return Status::Ok();
}

Status LastOverTime(const RangeCall&, const Window& window, RangeOutput* out) {
  const SampleSpan& samples = window.samples;
  if (!HasHistograms(window) || (HasFloats(window) && samples.histogram_times.back() < samples.times.back())) {
    out->Set(samples.values.back());
  } else {
    out->Set(samples.histograms.back());
  }
  return Status::Ok();
}

Status TsOfFirstOverTime(const RangeCall&, const Window& window, RangeOutput* out) {
  TimestampMs first = std::numeric_limits<TimestampMs>::max();
  if (HasFloats(window)) first = window.samples.times.front();
  if (HasHistograms(window)) first = std::min(first, window.samples.histogram_times.front());
  out->Set(static_cast<double>(first) / 1000);
  return Status::Ok();
}

Status TsOfLastOverTime(const RangeCall&, const Window& window, RangeOutput* out) {
  TimestampMs last = std::numeric_limits<TimestampMs>::min();
  if (HasFloats(window)) last = window.samples.times.back();
  if (HasHistograms(window)) last = std::max(last, window.samples.histogram_times.back());
  out->Set(static_cast<double>(last) / 1000);
  return Status::Ok();
}

template <bool kGreatest>
Status ExtremeOverTime(const RangeCall& call, const Window& window, RangeOutput* out) {
  if (!HasFloats(window)) return Status::Ok();
  NoteIgnoredHistograms(call, window);
  out->Set(kGreatest ? GreatestOf(window.samples.values) : LeastOf(window.samples.values));
  return Status::Ok();
}

// When the extreme was, at its last occurrence: `Better` when a sample replaces another. NaN gives way to anything.
template <typename Better>
Status TsOfExtremeOverTime(const RangeCall& call, const Window& window, RangeOutput* out) {
  if (!HasFloats(window)) return Status::Ok();
  NoteIgnoredHistograms(call, window);
  const std::span<const double> values = window.samples.values;
  size_t best = 0;
  for (size_t i = 1; i < values.size(); ++i) {
    if (Better()(values[i], values[best]) || std::isnan(values[best])) best = i;
  }
  out->Set(static_cast<double>(window.samples.times[best]) / 1000);
  return Status::Ok();
}

template <bool kDeviation>
Status VarianceOverTime(const RangeCall& call, const Window& window, RangeOutput* out) {
  if (!HasFloats(window)) return Status::Ok();
  NoteIgnoredHistograms(call, window);
  const double variance = VarianceOf(window.samples.values);
  out->Set(kDeviation ? std::sqrt(variance) : variance);
  return Status::Ok();
}

Status QuantileOverTime(const RangeCall& call, const Window& window, RangeOutput* out) {
  if (!HasFloats(window)) return Status::Ok();
  const double q = call.args[0];
  if (!(q >= 0 && q <= 1)) call.ctx.annotations.InvalidQuantile(q, call.position);
  NoteIgnoredHistograms(call, window);
  std::vector<double> values(window.samples.values.begin(), window.samples.values.end());
  out->Set(Quantile(q, &values));
  return Status::Ok();
}

Status MadOverTime(const RangeCall& call, const Window& window, RangeOutput* out) {
  if (!HasFloats(window)) return Status::Ok();
  NoteIgnoredHistograms(call, window);
  std::vector<double> values(window.samples.values.begin(), window.samples.values.end());
  // Sorted away, a NaN would hide.
  if (std::any_of(values.begin(), values.end(), [](double value) { return std::isnan(value); })) {
    out->Set(kNan);
    return Status::Ok();
  }
  const double median = Quantile(0.5, &values);
  for (double& value : values) value = std::fabs(value - median);
  out->Set(Quantile(0.5, &values));
  return Status::Ok();
}

// Whether there are floats enough for a line; tells of histograms next to any float.
bool EnoughForLine(const RangeCall& call, const Window& window) {
  if (HasFloats(window)) NoteIgnoredHistograms(call, window);
  return window.samples.times.size() >= 2;
}

Status Deriv(const RangeCall& call, const Window& window, RangeOutput* out) {
  if (!EnoughForLine(call, window)) return Status::Ok();
  // An origin near the samples keeps the squares small.
  out->Set(FitLine(window.samples.times, window.samples.values, window.samples.times.front()).slope);
  return Status::Ok();
}

Status PredictLinear(const RangeCall& call, const Window& window, RangeOutput* out) {
  if (!EnoughForLine(call, window)) return Status::Ok();
  const Line line = FitLine(window.samples.times, window.samples.values, window.time);
  out->Set(line.slope * call.args[0] + line.intercept);
  return Status::Ok();
}

Status DoubleExponentialSmoothing(const RangeCall& call, const Window& window, RangeOutput* out) {
  const double smoothing = call.args[0];
  const double trend_factor = call.args[1];
  if (!(smoothing > 0 && smoothing < 1)) {
    return FailedPrecondition("invalid smoothing factor. Expected: 0 < sf < 1, got: {:f}", smoothing);
  }
  if (!(trend_factor > 0 && trend_factor < 1)) {
    return FailedPrecondition("invalid trend factor. Expected: 0 < tf < 1, got: {:f}", trend_factor);
  }
  if (!EnoughForLine(call, window)) return Status::Ok();
  const std::span<const double> values = window.samples.values;
  double before = 0;
  double smoothed = values[0];
  double trend = values[1] - values[0];
  for (size_t i = 1; i < values.size(); ++i) {
    if (i > 1) trend = trend_factor * (smoothed - before) + (1 - trend_factor) * trend;
    const double next = smoothing * values[i] + (1 - smoothing) * (smoothed + trend);
    before = smoothed;
    smoothed = next;
  }
  out->Set(smoothed);
  return Status::Ok();
}

// The same of all windows of a series at once.

// The windows' results from a kernel, taken over where there is a sample.
template <auto kKernel>
void ByKernel(const SeriesWindows& windows, Series* out) {
  kKernel({windows.values, windows.begins, windows.ends}, out->values);
  for (size_t step = 0; step < out->kinds.size(); ++step) {
    if (windows.Count(step) > 0) out->kinds[step] = SampleKind::kFloat;
  }
}

void DeviationsByKernel(const SeriesWindows& windows, Series* out) {
  ByKernel<WindowVariances>(windows, out);
  for (double& value : out->values) value = std::sqrt(value);
}

void Counts(const SeriesWindows& windows, Series* out) {
  for (size_t step = 0; step < out->kinds.size(); ++step) {
    if (windows.Count(step) > 0) out->SetFloat(step, static_cast<double>(windows.Count(step)));
  }
}

constexpr std::array kOverTimeFunctions = {
    RangeFunctionEntry{.name = "avg_over_time", .function = FoldOverTime<true>, .columns = ByKernel<WindowAverages>},
    RangeFunctionEntry{.name = "sum_over_time", .function = FoldOverTime<false>, .columns = ByKernel<WindowSums>},
    RangeFunctionEntry{.name = "count_over_time", .function = CountOverTime, .columns = Counts},
    RangeFunctionEntry{.name = "min_over_time", .function = ExtremeOverTime<false>, .columns = ByKernel<WindowMinima>},
    RangeFunctionEntry{.name = "max_over_time", .function = ExtremeOverTime<true>, .columns = ByKernel<WindowMaxima>},
    RangeFunctionEntry{.name = "stddev_over_time", .function = VarianceOverTime<true>, .columns = DeviationsByKernel},
    RangeFunctionEntry{
        .name = "stdvar_over_time", .function = VarianceOverTime<false>, .columns = ByKernel<WindowVariances>},
    RangeFunctionEntry{.name = "quantile_over_time", .function = QuantileOverTime},
    RangeFunctionEntry{.name = "mad_over_time", .function = MadOverTime},
    RangeFunctionEntry{.name = "present_over_time", .function = PresentOverTime},
    RangeFunctionEntry{.name = "first_over_time", .function = FirstOverTime, .keeps_name = true},
    RangeFunctionEntry{.name = "last_over_time", .function = LastOverTime, .keeps_name = true},
    RangeFunctionEntry{.name = "ts_of_first_over_time", .function = TsOfFirstOverTime},
    RangeFunctionEntry{.name = "ts_of_last_over_time", .function = TsOfLastOverTime},
    RangeFunctionEntry{.name = "ts_of_min_over_time", .function = TsOfExtremeOverTime<std::less_equal<double>>},
    RangeFunctionEntry{.name = "ts_of_max_over_time", .function = TsOfExtremeOverTime<std::greater_equal<double>>},
    RangeFunctionEntry{.name = "deriv", .function = Deriv},
    RangeFunctionEntry{.name = "predict_linear", .function = PredictLinear},
    RangeFunctionEntry{.name = "double_exponential_smoothing", .function = DoubleExponentialSmoothing},
};

}  // namespace

std::span<const RangeFunctionEntry> OverTimeFunctions() {
  return kOverTimeFunctions;
}

}  // namespace millstream::promql::exec

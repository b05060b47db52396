// Aggregations over time, and what fits lines and curves to a window.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "exec/histogram_fold.h"
#include "exec/kahan.h"
#include "exec/quantile.h"
#include "exec/range_function.h"

namespace millstream::promql::exec {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

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

double Sum(std::span<const double> values) {
  KahanSum sum;
  for (const double value : values) sum.Add(value);
  return std::isinf(sum.sum) ? sum.sum : sum.Total();
}

// The mean by the sum, unless that overflows: then by a running mean from there on.
double Average(std::span<const double> values) {
  KahanSum sum{values[0], 0};
  double count = 1;
  bool incremental = false;
  for (size_t i = 1; i < values.size(); ++i) {
    count = static_cast<double>(i + 1);
    if (!incremental) {
      KahanSum next = sum;
      next.Add(values[i]);
      if (!std::isinf(next.sum)) {
        sum = next;
        continue;
      }
      incremental = true;
      sum.sum /= count - 1;
      sum.compensation /= count - 1;
    }
    const double shrink = (count - 1) / count;
    sum.sum *= shrink;
    sum.compensation *= shrink;
    sum.Add(values[i] / count);
  }
  if (incremental) return sum.Total();
  return sum.sum / count + sum.compensation / count;
}

double Variance(std::span<const double> values) {
  double count = 0;
  KahanSum mean;
  KahanSum squares;
  for (const double value : values) {
    ++count;
    const double delta = value - mean.Total();
    mean.Add(delta / count);
    squares.Add(delta * (value - mean.Total()));
  }
  return squares.Total() / count;
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
    out->Set(kAverage ? Average(window.samples.values) : Sum(window.samples.values));
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

// The position of the extreme: `better(a, b)` when a replaces b. NaN gives way to anything.
template <typename Better>
size_t Extreme(std::span<const double> values, Better better) {
  size_t best = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (better(values[i], values[best]) || std::isnan(values[best])) best = i;
  }
  return best;
}

template <typename Better, bool kTime>
Status ExtremeOverTime(const RangeCall& call, const Window& window, RangeOutput* out) {
  if (!HasFloats(window)) return Status::Ok();
  NoteIgnoredHistograms(call, window);
  const size_t best = Extreme(window.samples.values, Better());
  out->Set(kTime ? static_cast<double>(window.samples.times[best]) / 1000 : window.samples.values[best]);
  return Status::Ok();
}

template <bool kDeviation>
Status VarianceOverTime(const RangeCall& call, const Window& window, RangeOutput* out) {
  if (!HasFloats(window)) return Status::Ok();
  NoteIgnoredHistograms(call, window);
  const double variance = Variance(window.samples.values);
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

using Greater = std::greater<double>;
using Less = std::less<double>;
using GreaterEqual = std::greater_equal<double>;
using LessEqual = std::less_equal<double>;

constexpr std::array kFunctions = {
    RangeFunctionEntry{"avg_over_time", FoldOverTime<true>},
    RangeFunctionEntry{"sum_over_time", FoldOverTime<false>},
    RangeFunctionEntry{"count_over_time", CountOverTime},
    RangeFunctionEntry{"min_over_time", ExtremeOverTime<Less, false>},
    RangeFunctionEntry{"max_over_time", ExtremeOverTime<Greater, false>},
    RangeFunctionEntry{"stddev_over_time", VarianceOverTime<true>},
    RangeFunctionEntry{"stdvar_over_time", VarianceOverTime<false>},
    RangeFunctionEntry{"quantile_over_time", QuantileOverTime},
    RangeFunctionEntry{"mad_over_time", MadOverTime},
    RangeFunctionEntry{"present_over_time", PresentOverTime},
    RangeFunctionEntry{"first_over_time", FirstOverTime, false, true},
    RangeFunctionEntry{"last_over_time", LastOverTime, false, true},
    RangeFunctionEntry{"ts_of_first_over_time", TsOfFirstOverTime},
    RangeFunctionEntry{"ts_of_last_over_time", TsOfLastOverTime},
    RangeFunctionEntry{"ts_of_min_over_time", ExtremeOverTime<LessEqual, true>},
    RangeFunctionEntry{"ts_of_max_over_time", ExtremeOverTime<GreaterEqual, true>},
    RangeFunctionEntry{"deriv", Deriv},
    RangeFunctionEntry{"predict_linear", PredictLinear},
    RangeFunctionEntry{"double_exponential_smoothing", DoubleExponentialSmoothing},
};

}  // namespace

std::span<const RangeFunctionEntry> OverTimeFunctions() {
  return kFunctions;
}

}  // namespace millstream::promql::exec

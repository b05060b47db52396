// rate() and its kin: differences over a window, with a counter's resets made good.

#include <algorithm>
#include <array>
#include <cmath>

#include "exec/histogram_rate.h"
#include "exec/kernels.h"
#include "exec/range_function.h"
#include "exec/window_bounds.h"
#include "exec/window_math.h"
#include "millstream/model/histogram_math.h"

namespace millstream::promql::exec {
namespace {

// Whether a sample says that it began counting before the sample ahead of it was taken, and not with it.
bool StartsOverlap(std::span<const TimestampMs> starts, std::span<const TimestampMs> times) {
  for (size_t i = 1; i < starts.size(); ++i) {
    if (starts[i] != 0 && starts[i] < times[i - 1] && starts[i] != starts[i - 1]) return true;
  }
  return false;
}

// The difference of a window's floats, before extrapolation. The window begins at position `begin` of its series;
// `resets` are those of the series, none for what is no counter.
double FloatDifference(std::span<const double> values, size_t begin, std::span<const uint32_t> resets) {
  double difference = values.back() - values.front();
  const auto first = std::upper_bound(resets.begin(), resets.end(), begin);
  for (auto reset = first; reset != resets.end() && *reset < begin + values.size(); ++reset) {
    difference += values[*reset - begin - 1];
  }
  return difference;
}

Extrapolation ExtrapolationOf(const Window& window, std::span<const TimestampMs> times) {
  return {static_cast<double>(times.back() - times.front()), static_cast<double>(times.size() - 1),
          static_cast<double>(times.front() - window.start), static_cast<double>(window.end - times.back())};
}

// Whether the first sample's count began inside the window: there, the counter stood at zero.
bool BeginsInWindow(const Window& window, std::span<const TimestampMs> times, std::span<const TimestampMs> starts) {
  return !starts.empty() && starts.front() != 0 && starts.front() > window.start && starts.front() < times.front();
}

double Seconds(int64_t ms) {
  return static_cast<double>(ms) / 1000;
}

Status ExtrapolatedFloats(const RangeCall& call, const Window& window, bool is_counter, bool per_second,
                          RangeOutput* out) {
  const std::span<const TimestampMs> times = window.samples.times;
  const std::span<const TimestampMs> starts = window.samples.starts;
  const bool begins = is_counter && BeginsInWindow(window, times, starts);
  if (times.size() < 2 && !begins) return Status::Ok();
  if (is_counter && StartsOverlap(starts, times)) {
    call.ctx.annotations.StartTimeOverlap(call.metric(), call.position);
  }

  double difference = FloatDifference(window.samples.values, window.first_float, window.resets);
  Extrapolation reach = ExtrapolationOf(window, times);
  if (begins) {
    reach.to_start_seconds = 0;
    reach.sampled_seconds = Seconds(times.back() - starts.front());
    difference += window.samples.values.front();
  } else {
    reach.LimitStart();
    if (is_counter) reach.LimitStartToZero(window.samples.values.front(), difference);
  }
  reach.LimitEnd();
  double factor = reach.Factor();
  if (per_second) factor /= Seconds(window.range_ms);
  out->Set(difference * factor);
  return Status::Ok();
}

Status ExtendedFloats(const RangeCall& call, const Window& window, bool is_counter, bool per_second, RangeOutput* out) {
  const SampleSpan& samples = window.samples;
  const bool smoothed = call.modifier == RangeModifier::kSmoothed;
  const Bounds bounds = FindBounds(window, samples.times, smoothed);
  if (!bounds.found) return Status::Ok();

  const auto [left, right] = FloatsAtBounds(samples, window, bounds, smoothed, is_counter);
  double difference = right - left;
  if (is_counter) {
    // Only samples inside the bounds: what lies on or beyond them is in left and right already.
    const size_t begin = bounds.first + (samples.times[bounds.first] <= window.start ? 1 : 0);
    const size_t end = bounds.last + (samples.times[bounds.last] >= window.end ? 0 : 1);
    double previous = left;
    double correction = 0;
    for (size_t i = begin; i < end; ++i) {
      if (samples.values[i] < previous) correction += previous;
      previous = samples.values[i];
    }
    if (right < previous) correction += previous;
    difference += correction;
  }
  if (per_second) difference /= Seconds(window.range_ms);
  out->Set(difference);
  return Status::Ok();
}

Status ExtrapolatedHistograms(const RangeCall& call, const Window& window, bool is_counter, bool per_second,
                              RangeOutput* out) {
  const std::span<const TimestampMs> times = window.samples.histogram_times;
  const std::span<const TimestampMs> starts = window.samples.histogram_starts;
  const bool begins = is_counter && BeginsInWindow(window, times, starts);
  if (times.size() < 2 && !begins) return Status::Ok();
  if (is_counter && StartsOverlap(starts, times)) {
    call.ctx.annotations.StartTimeOverlap(call.metric(), call.position);
  }
  const model::Histogram& first = *window.samples.histograms.front();
  MutableHistogram difference;
  if (times.size() > 1) {
    difference = HistogramDifference(call, window, is_counter);
    if (difference == nullptr) return Status::Ok();
  }
  Extrapolation reach = ExtrapolationOf(window, times);
  if (begins) {
    reach.to_start_seconds = 0;
    reach.sampled_seconds = Seconds(times.back() - starts.front());
    if (difference == nullptr) {
      difference = std::make_shared<model::Histogram>(first);
    } else if (!AddNoted(call, difference.get(), first)) {
      return Status::Ok();
    }
  } else {
    reach.LimitStart();
    if (is_counter) reach.LimitStartToZero(first.count, difference->count);
  }
  reach.LimitEnd();
  double factor = reach.Factor();
  if (per_second) factor /= Seconds(window.range_ms);
  model::Multiply(difference.get(), factor);
  out->Set(HistogramPtr(std::move(difference)));
  return Status::Ok();
}

Status ExtendedHistograms(const RangeCall& call, const Window& window, bool is_counter, bool per_second,
                          RangeOutput* out) {
  MutableHistogram difference = ExtendedHistogramDifference(call, window, is_counter);
  if (difference == nullptr) return Status::Ok();
  if (per_second) model::Divide(difference.get(), Seconds(window.range_ms));
  model::Compact(difference.get());
  out->Set(HistogramPtr(std::move(difference)));
  return Status::Ok();
}

template <bool kCounter, bool kPerSecond>
Status Difference(const RangeCall& call, const Window& window, RangeOutput* out) {
  if (!window.samples.times.empty() && !window.samples.histogram_times.empty()) {
    call.ctx.annotations.MixedFloatsHistograms(call.metric(), call.position);
    return Status::Ok();
  }
  const bool extended = call.modifier != RangeModifier::kNone;
  if (window.samples.times.empty()) {
    return extended ? ExtendedHistograms(call, window, kCounter, kPerSecond, out)
                    : ExtrapolatedHistograms(call, window, kCounter, kPerSecond, out);
  }
  return extended ? ExtendedFloats(call, window, kCounter, kPerSecond, out)
                  : ExtrapolatedFloats(call, window, kCounter, kPerSecond, out);
}

// ExtrapolatedFloats of all windows of a series at once, block by block.
template <bool kCounter, bool kPerSecond>
void Differences(const SeriesWindows& windows, Series* out) {
  constexpr size_t kBlock = 128;
  std::array<size_t, kBlock> steps;
  std::array<double, kBlock> firsts;
  std::array<double, kBlock> differences;
  std::array<double, kBlock> sampled_ms;
  std::array<double, kBlock> intervals;
  std::array<double, kBlock> to_start_ms;
  std::array<double, kBlock> to_end_ms;
  std::array<double, kBlock> results;
  const double divisor = kPerSecond ? Seconds(windows.shape.range_ms) : 1;
  const size_t step_count = out->kinds.size();
  size_t step = 0;
  while (step < step_count) {
    size_t used = 0;
    for (; step < step_count && used < kBlock; ++step) {
      const size_t count = windows.Count(step);
      if (count < 2) continue;
      const auto begin = static_cast<size_t>(windows.begins[step]);
      const TimestampMs first_time = windows.times[begin];
      const TimestampMs last_time = windows.times[begin + count - 1];
      const TimestampMs end = windows.EndTime(step);
      steps[used] = step;
      firsts[used] = windows.values[begin];
      differences[used] = FloatDifference(windows.values.subspan(begin, count), begin, windows.resets);
      sampled_ms[used] = static_cast<double>(last_time - first_time);
      intervals[used] = static_cast<double>(count - 1);
      to_start_ms[used] = static_cast<double>(first_time - (end - windows.shape.range_ms));
      to_end_ms[used] = static_cast<double>(end - last_time);
      ++used;
    }
    const auto column = [used](std::array<double, kBlock>& array) { return std::span(array.data(), used); };
    ExtrapolateDifferences({column(firsts), column(differences), column(sampled_ms), column(intervals),
                            column(to_start_ms), column(to_end_ms)},
                           kCounter, divisor, column(results));
    for (size_t i = 0; i < used; ++i) out->SetFloat(steps[i], results[i]);
  }
}

// One sample of either kind.
struct Point {
  TimestampMs time = 0;
  TimestampMs start = 0;
  double value = 0;
  const HistogramPtr* histogram = nullptr;
};

Point FloatPoint(const SampleSpan& samples, size_t index) {
  return {samples.times[index], samples.starts.empty() ? 0 : samples.starts[index], samples.values[index], nullptr};
}

Point HistogramPoint(const SampleSpan& samples, size_t index) {
  return {samples.histogram_times[index], samples.histogram_starts.empty() ? 0 : samples.histogram_starts[index], 0,
          &samples.histograms[index]};
}

bool IsGauge(const Point& point) {
  return (*point.histogram)->counter_reset_hint == model::CounterResetHint::kGauge;
}

bool IsReset(const Point& before, const Point& after) {
  if (IsStartTimestampReset(before.start, before.time, after.start, after.time)) return true;
  if (after.histogram != nullptr) return model::DetectReset(**after.histogram, **before.histogram);
  return after.value < before.value;
}

Status InstantHistograms(const RangeCall& call, const Point& before, const Point& after, bool is_counter,
                         RangeOutput* out) {
  if (is_counter && (IsGauge(before) || IsGauge(after))) {
    call.ctx.annotations.NotCounter(call.metric(), call.position);
  }
  if (!is_counter && (!IsGauge(before) || !IsGauge(after))) {
    call.ctx.annotations.NotGauge(call.metric(), call.position);
  }
  auto difference = std::make_shared<model::Histogram>(**after.histogram);
  if (!is_counter || !IsReset(before, after)) {
    if (!SubtractNoted(call, difference.get(), **before.histogram)) return Status::Ok();
  }
  difference->counter_reset_hint = model::CounterResetHint::kGauge;
  model::Compact(difference.get());
  if (is_counter) model::Divide(difference.get(), Seconds(after.time - before.time));
  out->Set(HistogramPtr(std::move(difference)));
  return Status::Ok();
}

// irate() and idelta(): the difference of the last two samples.
template <bool kCounter>
Status InstantDifference(const RangeCall& call, const Window& window, RangeOutput* out) {
  const SampleSpan& samples = window.samples;
  if (samples.size() < 2) return Status::Ok();
  std::array<Point, 2> last;
  size_t floats = samples.times.size();
  size_t histograms = samples.histogram_times.size();
  for (size_t i = 2; i-- > 0;) {
    const bool take_float =
        floats > 0 && (histograms == 0 || samples.times[floats - 1] > samples.histogram_times[histograms - 1]);
    last[i] = take_float ? FloatPoint(samples, --floats) : HistogramPoint(samples, --histograms);
  }
  const auto& [before, after] = last;
  if (after.time == before.time) return Status::Ok();
  if ((before.histogram == nullptr) != (after.histogram == nullptr)) {
    call.ctx.annotations.MixedFloatsHistograms(call.metric(), call.position);
    return Status::Ok();
  }
  if (after.histogram != nullptr) return InstantHistograms(call, before, after, kCounter, out);
  double difference = after.value;
  if (!kCounter || !IsReset(before, after)) difference = after.value - before.value;
  if (kCounter) difference /= Seconds(after.time - before.time);
  out->Set(difference);
  return Status::Ok();
}

// Where an anchored window begins among the floats and the histograms: at the newest sample at or before its start, of
// either kind. False when no sample lies after the start.
bool FindAnchor(const Window& window, size_t* first_float, size_t* first_histogram) {
  const auto after_start = [&](std::span<const TimestampMs> times) {
    return static_cast<size_t>(std::upper_bound(times.begin(), times.end(), window.start) - times.begin());
  };
  const SampleSpan& samples = window.samples;
  *first_float = after_start(samples.times);
  *first_histogram = after_start(samples.histogram_times);
  if (*first_float == samples.times.size() && *first_histogram == samples.histogram_times.size()) return false;
  if (*first_float == 0 && *first_histogram == 0) return true;
  const bool anchor_is_float =
      *first_histogram == 0 ||
      (*first_float > 0 && samples.times[*first_float - 1] >= samples.histogram_times[*first_histogram - 1]);
  --*(anchor_is_float ? first_float : first_histogram);
  return true;
}

// Walks floats and histograms in order of time and counts the pairs of neighbours that differ.
template <typename Differ>
Status CountPairs(const RangeCall& call, const Window& window, RangeOutput* out, Differ differ) {
  const SampleSpan& samples = window.samples;
  size_t next_float = 0;
  size_t next_histogram = 0;
  if (call.modifier == RangeModifier::kAnchored && !FindAnchor(window, &next_float, &next_histogram)) {
    return Status::Ok();
  }
  int64_t count = 0;
  Point previous;
  bool first = true;
  while (next_float < samples.times.size() || next_histogram < samples.histogram_times.size()) {
    const bool take_float =
        next_float < samples.times.size() && (next_histogram == samples.histogram_times.size() ||
                                              samples.times[next_float] < samples.histogram_times[next_histogram]);
    const Point current = take_float ? FloatPoint(samples, next_float++) : HistogramPoint(samples, next_histogram++);
    if (!first && differ(previous, current)) ++count;
    previous = current;
    first = false;
  }
  out->Set(static_cast<double>(count));
  return Status::Ok();
}

Status Changes(const RangeCall& call, const Window& window, RangeOutput* out) {
  return CountPairs(call, window, out, [](const Point& before, const Point& after) {
    if ((before.histogram == nullptr) != (after.histogram == nullptr)) return true;
    if (after.histogram != nullptr) return !model::SameDistribution(**after.histogram, **before.histogram);
    return after.value != before.value && !(std::isnan(after.value) && std::isnan(before.value));
  });
}

Status Resets(const RangeCall& call, const Window& window, RangeOutput* out) {
  return CountPairs(call, window, out, [](const Point& before, const Point& after) {
    if ((before.histogram == nullptr) != (after.histogram == nullptr)) return true;
    return IsReset(before, after);
  });
}

constexpr std::array kRateFunctions = {
    RangeFunctionEntry{.name = "rate",
                       .function = Difference<true, true>,
                       .columns = Differences<true, true>,
                       .is_counter = true,
                       .checks_counter = true},
    RangeFunctionEntry{.name = "increase",
                       .function = Difference<true, false>,
                       .columns = Differences<true, false>,
                       .is_counter = true,
                       .checks_counter = true},
    RangeFunctionEntry{.name = "delta", .function = Difference<false, false>, .columns = Differences<false, false>},
    RangeFunctionEntry{.name = "irate", .function = InstantDifference<true>},
    RangeFunctionEntry{.name = "idelta", .function = InstantDifference<false>},
    RangeFunctionEntry{.name = "changes", .function = Changes},
    RangeFunctionEntry{.name = "resets", .function = Resets},
};

}  // namespace

std::span<const RangeFunctionEntry> RateFunctions() {
  return kRateFunctions;
}

}  // namespace millstream::promql::exec

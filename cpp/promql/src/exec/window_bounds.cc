#include "exec/window_bounds.h"

#include <algorithm>

namespace millstream::promql::exec {

Bounds FindBounds(const Window& window, std::span<const TimestampMs> times, bool smoothed) {
  Bounds bounds{0, times.size() - 1, true};
  const auto last = times.begin() + static_cast<std::ptrdiff_t>(bounds.last);
  const auto after_start = std::upper_bound(times.begin(), last, window.start);
  bounds.first = after_start == times.begin() ? 0 : static_cast<size_t>(after_start - times.begin()) - 1;
  if (smoothed) bounds.last = static_cast<size_t>(std::lower_bound(times.begin(), last, window.end) - times.begin());
  bounds.found = times[bounds.last] > window.start && !(smoothed && times[bounds.first] > window.end);
  return bounds;
}

double InterpolateFloat(const SampleSpan& samples, size_t left, TimestampMs time, bool is_counter) {
  double before = samples.values[left];
  const double after = samples.values[left + 1];
  if (is_counter && after < before) before = 0;
  return before + (after - before) * static_cast<double>(time - samples.times[left]) /
                      static_cast<double>(samples.times[left + 1] - samples.times[left]);
}

BoundValues FloatsAtBounds(const SampleSpan& samples, const Window& window, const Bounds& bounds, bool smoothed,
                           bool is_counter) {
  BoundValues values{samples.values[bounds.first], samples.values[bounds.last]};
  if (smoothed && samples.times[bounds.first] < window.start) {
    values.left = InterpolateFloat(samples, bounds.first, window.start, is_counter);
  }
  if (smoothed && bounds.last > 0 && samples.times[bounds.last] > window.end) {
    values.right = InterpolateFloat(samples, bounds.last - 1, window.end, is_counter);
  }
  return values;
}

ExtendedWindow ExtendFloats(const Window& window, bool smoothed) {
  ExtendedWindow out;
  const SampleSpan& samples = window.samples;
  if (samples.times.empty()) return out;
  const Bounds bounds = FindBounds(window, samples.times, smoothed);
  if (samples.times[bounds.last] <= window.start) return out;
  const BoundValues values = FloatsAtBounds(samples, window, bounds, smoothed, false);
  out.times.push_back(window.start);
  out.values.push_back(values.left);
  for (size_t i = bounds.first; i <= bounds.last; ++i) {
    // Samples on the bounds are replaced by those that stand for the bounds.
    if (samples.times[i] <= window.start || samples.times[i] >= window.end) continue;
    out.times.push_back(samples.times[i]);
    out.values.push_back(samples.values[i]);
  }
  out.times.push_back(window.end);
  out.values.push_back(values.right);
  return out;
}

}  // namespace millstream::promql::exec

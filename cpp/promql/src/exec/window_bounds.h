// The bounds of anchored and smoothed windows: the samples, or the values between samples, that stand for them.
#pragma once

#include <span>
#include <vector>

#include "exec/range_function.h"

namespace millstream::promql::exec {

// The first and the last position of the samples that stand for a window's bounds.
struct Bounds {
  size_t first = 0;   // the last sample at or before the window's start, or the first of all
  size_t last = 0;    // the last sample; smoothed: the first at or after the window's end
  bool found = true;  // whether anything of the window lies between them
};
// There must be at least one sample.
Bounds FindBounds(const Window& window, std::span<const TimestampMs> times, bool smoothed);

// The line between sample `left` and the next at a time; a counter that was reset between them rises from zero.
double InterpolateFloat(const SampleSpan& samples, size_t left, TimestampMs time, bool is_counter);

// The values at the window's start and end.
struct BoundValues {
  double left = 0;
  double right = 0;
};
BoundValues FloatsAtBounds(const SampleSpan& samples, const Window& window, const Bounds& bounds, bool smoothed,
                           bool is_counter);

// The window's floats with a sample at each bound: what an instant query for an anchored or smoothed range gives.
struct ExtendedWindow {
  std::vector<TimestampMs> times;
  std::vector<double> values;
};
ExtendedWindow ExtendFloats(const Window& window, bool smoothed);

}  // namespace millstream::promql::exec

// Differences of native histograms over a window, for rate() and its kin.
#pragma once

#include <memory>
#include <span>

#include "exec/range_function.h"

namespace millstream::promql::exec {

using MutableHistogram = std::shared_ptr<model::Histogram>;

// The first and the last position of the samples that stand for a window's bounds.
struct Bounds {
  size_t first = 0;   // the last sample at or before the window's start, or the first of all
  size_t last = 0;    // the last sample; smoothed: the first at or after the window's end
  bool found = true;  // whether anything of the window lies between them
};
Bounds FindBounds(const Window& window, std::span<const TimestampMs> times, bool smoothed);

// The last histogram less the first, with a counter's resets made good. At least two histograms. Null, with a note,
// when they do not fit together.
MutableHistogram HistogramDifference(const RangeCall& call, const Window& window, bool is_counter);

// The same between the window's bounds, for anchored and smoothed windows.
MutableHistogram ExtendedHistogramDifference(const RangeCall& call, const Window& window, bool is_counter);

// *sum += or -= other, with the notes that follow; false when they do not fit together.
bool AddNoted(const RangeCall& call, model::Histogram* sum, const model::Histogram& other);
bool SubtractNoted(const RangeCall& call, model::Histogram* sum, const model::Histogram& other);

}  // namespace millstream::promql::exec

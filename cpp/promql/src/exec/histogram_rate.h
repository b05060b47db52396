// Differences of native histograms over a window, for rate() and its kin.
#pragma once

#include <memory>

#include "exec/range_function.h"

namespace millstream::promql::exec {

using MutableHistogram = std::shared_ptr<model::Histogram>;

// The last histogram less the first, with a counter's resets made good. At least two histograms. Null, with a note,
// when they do not fit together.
MutableHistogram HistogramDifference(const RangeCall& call, const Window& window, bool is_counter);

// The same between the window's bounds, for anchored and smoothed windows.
MutableHistogram ExtendedHistogramDifference(const RangeCall& call, const Window& window, bool is_counter);

// The histogram at a time on the line between sample `left` and the next; a counter that was reset between them rises
// from zero. Null, with a note, when they do not fit together.
MutableHistogram InterpolateHistogram(const RangeCall& call, const SampleSpan& samples, size_t left, TimestampMs time,
                                      bool is_counter);

// *sum += or -= other, with the notes that follow; false when they do not fit together.
bool AddNoted(const RangeCall& call, model::Histogram* sum, const model::Histogram& other);
bool SubtractNoted(const RangeCall& call, model::Histogram* sum, const model::Histogram& other);

}  // namespace millstream::promql::exec

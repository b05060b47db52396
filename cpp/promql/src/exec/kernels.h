// Kernels: the executor's inner loops over doubles, in vectors as wide as the processor has. Highway picks the
// instructions at run time; one binary runs on all of them.
//
// Exactness   Each result is that of the scalar definition named with it, to the bit, whatever the width: steps,
//             windows and groups lie side by side in a vector, and no sum is ever reordered. Only the payload of a NaN
//             is open.
// Memory      Nothing outside the given columns is read or written. Columns need no alignment.
// Threads     Any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace millstream::promql::exec {

// Windows over the values of one series: window i holds values[begins[i]] up to values[ends[i]], without the latter.
// An empty window is allowed, also at the end; what comes out for it means nothing.
struct WindowColumns {
  std::span<const double> values;
  std::span<const int64_t> begins;
  std::span<const int64_t> ends;
};

// One result a window: SumOf, AverageOf, VarianceOf, LeastOf, GreatestOf (window_math.h) of each.
void WindowSums(const WindowColumns& windows, std::span<double> out);
void WindowAverages(const WindowColumns& windows, std::span<double> out);
void WindowVariances(const WindowColumns& windows, std::span<double> out);
void WindowMinima(const WindowColumns& windows, std::span<double> out);
void WindowMaxima(const WindowColumns& windows, std::span<double> out);

// What extrapolating a difference needs of each window with two samples or more, in columns of equal length.
struct DifferenceColumns {
  std::span<const double> firsts;  // the first sample's value
  std::span<const double> differences;
  std::span<const double> sampled_ms;
  std::span<const double> intervals;
  std::span<const double> to_start_ms;
  std::span<const double> to_end_ms;
};

// out[i] = differences[i] · Extrapolation::Factor() / divisor, the start limited to where a counter is zero when
// `is_counter`. `divisor`: the window in seconds for what is per second, else 1.
void ExtrapolateDifferences(const DifferenceColumns& columns, bool is_counter, double divisor, std::span<double> out);

// Columns of an aggregation over steps: how many values each step has gathered, and what they come to.
struct FoldColumns {
  std::span<double> counts;
  std::span<double> values;
  std::span<double> compensations;  // of sums
};

// Takes values[i] into step i: the first is the value itself, the others are added by KahanAdd.
void FoldSums(std::span<const double> values, const FoldColumns& columns);
// As FoldSums, but ends before a sum overflows, at the latest. The number of steps that were taken in.
size_t FoldFiniteSums(std::span<const double> values, const FoldColumns& columns);
// Takes values[i] into step i where it is less, or greater, or the first, or where NaN stands.
void FoldMinima(std::span<const double> values, const FoldColumns& columns);
void FoldMaxima(std::span<const double> values, const FoldColumns& columns);

}  // namespace millstream::promql::exec

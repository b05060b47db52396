#include "exec/kernels.h"

#include <algorithm>
#include <cmath>

#include "exec/kahan.h"
#include "exec/window_math.h"
#include "millstream/base/check.h"

// Highway compiles what stands between its namespace macros once for each set of instructions, by including this file.
// Vectors whose width only the running processor knows cannot be members, as they are here.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "exec/kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace millstream::promql::exec {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Doubles = hn::ScalableTag<double>;
using Integers = hn::RebindToSigned<Doubles>;
using DoubleVector = hn::Vec<Doubles>;
using IntegerVector = hn::Vec<Integers>;

// Sums and their compensations, side by side: KahanAdd.
struct SumVector {
  DoubleVector sum;
  DoubleVector compensation;

  DoubleVector Total() const { return hn::Add(sum, compensation); }
};

HWY_INLINE SumVector KahanAdd(DoubleVector increment, const SumVector& to) {
  const Doubles d;
  const DoubleVector total = hn::Add(to.sum, increment);
  const DoubleVector sum_lost = hn::Add(hn::Sub(increment, total), to.sum);
  const DoubleVector increment_lost = hn::Add(hn::Sub(to.sum, total), increment);
  const auto sum_is_greater = hn::Ge(hn::Abs(to.sum), hn::Abs(increment));
  const DoubleVector lost = hn::IfThenElse(sum_is_greater, increment_lost, sum_lost);
  const auto infinite = hn::Eq(hn::Abs(total), hn::Inf(d));
  return {total, hn::IfThenZeroElse(infinite, hn::Add(to.compensation, lost))};
}

// Each kind of window is a State that takes the windows' values one after the other: Start with the first of each, Take
// the others, where `taken` says which windows have one still, and Finish with how many each had.

struct SumState {
  SumVector sum;

  HWY_INLINE void Start(DoubleVector first) {
    const Doubles d;
    sum = KahanAdd(first, {hn::Zero(d), hn::Zero(d)});
  }
  template <typename Mask>
  HWY_INLINE void Take(DoubleVector value, Mask taken) {
    const SumVector next = KahanAdd(value, sum);
    sum.sum = hn::IfThenElse(taken, next.sum, sum.sum);
    sum.compensation = hn::IfThenElse(taken, next.compensation, sum.compensation);
  }
  HWY_INLINE void TakeAll(DoubleVector value) { sum = KahanAdd(value, sum); }
  HWY_INLINE DoubleVector Finish(DoubleVector /*count*/) const {
    const Doubles d;
    return hn::IfThenElse(hn::Eq(hn::Abs(sum.sum), hn::Inf(d)), sum.sum, sum.Total());
  }
};

// Right as long as no sum overflows; else the result is not finite.
struct AverageState : SumState {
  HWY_INLINE void Start(DoubleVector first) {
    const Doubles d;
    sum = {first, hn::Zero(d)};
  }
  HWY_INLINE DoubleVector Finish(DoubleVector count) const {
    return hn::Add(hn::Div(sum.sum, count), hn::Div(sum.compensation, count));
  }
};

struct VarianceState {
  DoubleVector count;
  SumVector mean;
  SumVector squares;

  HWY_INLINE void Start(DoubleVector first) {
    const Doubles d;
    count = hn::Zero(d);
    mean = {hn::Zero(d), hn::Zero(d)};
    squares = mean;
    TakeAll(first);
  }
  template <typename Mask>
  HWY_INLINE void Take(DoubleVector value, Mask taken) {
    VarianceState next = *this;
    next.TakeAll(value);
    count = hn::IfThenElse(taken, next.count, count);
    mean.sum = hn::IfThenElse(taken, next.mean.sum, mean.sum);
    mean.compensation = hn::IfThenElse(taken, next.mean.compensation, mean.compensation);
    squares.sum = hn::IfThenElse(taken, next.squares.sum, squares.sum);
    squares.compensation = hn::IfThenElse(taken, next.squares.compensation, squares.compensation);
  }
  HWY_INLINE void TakeAll(DoubleVector value) {
    const Doubles d;
    count = hn::Add(count, hn::Set(d, 1));
    const DoubleVector delta = hn::Sub(value, mean.Total());
    mean = KahanAdd(hn::Div(delta, count), mean);
    squares = KahanAdd(hn::Mul(delta, hn::Sub(value, mean.Total())), squares);
  }
  HWY_INLINE DoubleVector Finish(DoubleVector total_count) const { return hn::Div(squares.Total(), total_count); }
};

template <bool kGreatest>
struct ExtremeState {
  DoubleVector best;

  HWY_INLINE void Start(DoubleVector first) { best = first; }
  template <typename Mask>
  HWY_INLINE void Take(DoubleVector value, Mask taken) {
    best = hn::IfThenElse(hn::And(taken, Replaces(value)), value, best);
  }
  HWY_INLINE void TakeAll(DoubleVector value) { best = hn::IfThenElse(Replaces(value), value, best); }
  HWY_INLINE DoubleVector Finish(DoubleVector /*count*/) const { return best; }

 private:
  HWY_INLINE hn::Mask<Doubles> Replaces(DoubleVector value) const {
    return hn::Or(kGreatest ? hn::Gt(value, best) : hn::Lt(value, best), hn::IsNaN(best));
  }
};

// Fills out[i] for as many windows as whole vectors hold, and returns how many those are.
template <typename State>
HWY_INLINE size_t ForWindows(const double* values, size_t size, const int64_t* begins, const int64_t* ends,
                             size_t windows, double* out) {
  const Doubles d;
  const Integers di;
  const size_t lanes = hn::Lanes(d);
  const IntegerVector last_value = hn::Set(di, static_cast<int64_t>(size) - 1);
  size_t i = 0;
  for (; i + lanes <= windows; i += lanes) {
    int64_t shortest = ends[i] - begins[i];
    int64_t longest = shortest;
    bool neighbours = true;  // each window begins one value after the one before
    for (size_t lane = 1; lane < lanes; ++lane) {
      const int64_t length = ends[i + lane] - begins[i + lane];
      shortest = std::min(shortest, length);
      longest = std::max(longest, length);
      neighbours = neighbours && begins[i + lane] == begins[i + lane - 1] + 1;
    }
    const IntegerVector begin = hn::LoadU(di, begins + i);
    const IntegerVector length = hn::Sub(hn::LoadU(di, ends + i), begin);
    const auto gather = [&](int64_t at)
                            HWY_ATTR { return hn::GatherIndex(d, values, hn::Add(begin, hn::Set(di, at))); };
    // A window that has no such value yields another, which is not taken.
    const auto gather_inside = [&](int64_t at) HWY_ATTR {
      return hn::GatherIndex(d, values, hn::Min(hn::Add(begin, hn::Set(di, at)), last_value));
    };
    State state;
    state.Start(gather_inside(0));
    int64_t at = 1;
    if (neighbours) {
      const double* from = values + begins[i];
      for (; at < shortest; ++at) state.TakeAll(hn::LoadU(d, from + at));
    } else {
      for (; at < shortest; ++at) state.TakeAll(gather(at));
    }
    for (; at < longest; ++at) {
      state.Take(gather_inside(at), hn::RebindMask(d, hn::Gt(length, hn::Set(di, at))));
    }
    hn::StoreU(state.Finish(hn::ConvertTo(d, length)), d, out + i);
  }
  return i;
}

size_t Sums(const double* values, size_t size, const int64_t* begins, const int64_t* ends, size_t n, double* out) {
  return ForWindows<SumState>(values, size, begins, ends, n, out);
}
size_t Averages(const double* values, size_t size, const int64_t* begins, const int64_t* ends, size_t n, double* out) {
  return ForWindows<AverageState>(values, size, begins, ends, n, out);
}
size_t Variances(const double* values, size_t size, const int64_t* begins, const int64_t* ends, size_t n, double* out) {
  return ForWindows<VarianceState>(values, size, begins, ends, n, out);
}
size_t Minima(const double* values, size_t size, const int64_t* begins, const int64_t* ends, size_t n, double* out) {
  return ForWindows<ExtremeState<false>>(values, size, begins, ends, n, out);
}
size_t Maxima(const double* values, size_t size, const int64_t* begins, const int64_t* ends, size_t n, double* out) {
  return ForWindows<ExtremeState<true>>(values, size, begins, ends, n, out);
}

// Extrapolation, side by side.
size_t Extrapolate(const DifferenceColumns& columns, bool is_counter, double divisor, double* out) {
  const Doubles d;
  const size_t lanes = hn::Lanes(d);
  const DoubleVector zero = hn::Zero(d);
  const DoubleVector thousand = hn::Set(d, 1000);
  const DoubleVector divisors = hn::Set(d, divisor);
  size_t i = 0;
  for (; i + lanes <= columns.firsts.size(); i += lanes) {
    const DoubleVector first = hn::LoadU(d, columns.firsts.data() + i);
    const DoubleVector difference = hn::LoadU(d, columns.differences.data() + i);
    const DoubleVector sampled = hn::Div(hn::LoadU(d, columns.sampled_ms.data() + i), thousand);
    const DoubleVector average = hn::Div(sampled, hn::LoadU(d, columns.intervals.data() + i));
    const DoubleVector threshold = hn::Mul(average, hn::Set(d, 1.1));
    const DoubleVector half = hn::Div(average, hn::Set(d, 2));
    DoubleVector to_start = hn::Div(hn::LoadU(d, columns.to_start_ms.data() + i), thousand);
    DoubleVector to_end = hn::Div(hn::LoadU(d, columns.to_end_ms.data() + i), thousand);
    to_start = hn::IfThenElse(hn::Ge(to_start, threshold), half, to_start);
    to_end = hn::IfThenElse(hn::Ge(to_end, threshold), half, to_end);
    if (is_counter) {
      const DoubleVector to_zero = hn::Mul(sampled, hn::Div(first, difference));
      const auto rises = hn::And(hn::Gt(difference, zero), hn::Ge(first, zero));
      to_start = hn::IfThenElse(hn::And(rises, hn::Lt(to_zero, to_start)), to_zero, to_start);
    }
    const DoubleVector reached = hn::Add(hn::Add(sampled, to_start), to_end);
    const DoubleVector factor = hn::IfThenElse(hn::Eq(sampled, zero), hn::Set(d, 1), hn::Div(reached, sampled));
    hn::StoreU(hn::Mul(difference, hn::Div(factor, divisors)), d, out + i);
  }
  return i;
}

// Takes whole vectors of values into sums and returns how many values those were. With kFinite it ends before a sum
// that overflows.
template <bool kFinite>
HWY_INLINE size_t FoldSumVectors(const double* values, size_t steps, double* counts, double* sums,
                                 double* compensations) {
  const Doubles d;
  const size_t lanes = hn::Lanes(d);
  const DoubleVector one = hn::Set(d, 1);
  size_t i = 0;
  for (; i + lanes <= steps; i += lanes) {
    const DoubleVector value = hn::LoadU(d, values + i);
    const DoubleVector count = hn::LoadU(d, counts + i);
    const auto is_first = hn::Eq(count, hn::Zero(d));
    const SumVector next = KahanAdd(value, {hn::LoadU(d, sums + i), hn::LoadU(d, compensations + i)});
    if (kFinite && !hn::AllFalse(d, hn::AndNot(is_first, hn::Eq(hn::Abs(next.sum), hn::Inf(d))))) return i;
    hn::StoreU(hn::Add(count, one), d, counts + i);
    hn::StoreU(hn::IfThenElse(is_first, value, next.sum), d, sums + i);
    hn::StoreU(hn::IfThenZeroElse(is_first, next.compensation), d, compensations + i);
  }
  return i;
}

size_t FoldAnySums(const double* values, size_t steps, double* counts, double* sums, double* compensations) {
  return FoldSumVectors<false>(values, steps, counts, sums, compensations);
}
size_t FoldFiniteSumVectors(const double* values, size_t steps, double* counts, double* sums, double* compensations) {
  return FoldSumVectors<true>(values, steps, counts, sums, compensations);
}

template <bool kGreatest>
HWY_INLINE size_t FoldExtremes(const double* values, size_t steps, double* counts, double* extremes) {
  const Doubles d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= steps; i += lanes) {
    const DoubleVector value = hn::LoadU(d, values + i);
    const DoubleVector count = hn::LoadU(d, counts + i);
    const DoubleVector best = hn::LoadU(d, extremes + i);
    const auto better = kGreatest ? hn::Gt(value, best) : hn::Lt(value, best);
    const auto replaces = hn::Or(hn::Or(better, hn::IsNaN(best)), hn::Eq(count, hn::Zero(d)));
    hn::StoreU(hn::Add(count, hn::Set(d, 1)), d, counts + i);
    hn::StoreU(hn::IfThenElse(replaces, value, best), d, extremes + i);
  }
  return i;
}

size_t FoldLeast(const double* values, size_t steps, double* counts, double* extremes) {
  return FoldExtremes<false>(values, steps, counts, extremes);
}
size_t FoldGreatest(const double* values, size_t steps, double* counts, double* extremes) {
  return FoldExtremes<true>(values, steps, counts, extremes);
}

}  // namespace HWY_NAMESPACE
}  // namespace millstream::promql::exec
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace millstream::promql::exec {
namespace {

HWY_EXPORT(Sums);
HWY_EXPORT(Averages);
HWY_EXPORT(Variances);
HWY_EXPORT(Minima);
HWY_EXPORT(Maxima);
HWY_EXPORT(Extrapolate);
HWY_EXPORT(FoldAnySums);
HWY_EXPORT(FoldFiniteSumVectors);
HWY_EXPORT(FoldLeast);
HWY_EXPORT(FoldGreatest);

using WindowKernel = size_t (*)(const double*, size_t, const int64_t*, const int64_t*, size_t, double*);

// Whole vectors by the kernel, the rest by its definition.
template <typename Definition>
void Run(WindowKernel kernel, Definition definition, const WindowColumns& windows, std::span<double> out) {
  MS_CHECK(windows.begins.size() == out.size() && windows.ends.size() == out.size());
  if (windows.values.empty()) return;
  size_t i = kernel(windows.values.data(), windows.values.size(), windows.begins.data(), windows.ends.data(),
                    out.size(), out.data());
  for (; i < out.size(); ++i) {
    const auto begin = static_cast<size_t>(windows.begins[i]);
    const auto end = static_cast<size_t>(windows.ends[i]);
    if (begin < end) out[i] = definition(windows.values.subspan(begin, end - begin));
  }
}

template <typename Replaces>
void FoldExtremesFrom(size_t i, std::span<const double> values, const FoldColumns& columns, Replaces replaces) {
  for (; i < values.size(); ++i) {
    double& best = columns.values[i];
    if (columns.counts[i]++ == 0 || replaces(values[i], best) || std::isnan(best)) best = values[i];
  }
}

void TakeIntoSum(double value, size_t step, const FoldColumns& columns) {
  if (columns.counts[step]++ == 0) {
    columns.values[step] = value;
  } else {
    KahanAdd(value, &columns.values[step], &columns.compensations[step]);
  }
}

}  // namespace

void WindowSums(const WindowColumns& windows, std::span<double> out) {
  Run(HWY_DYNAMIC_DISPATCH(Sums), SumOf, windows, out);
}

void WindowAverages(const WindowColumns& windows, std::span<double> out) {
  Run(HWY_DYNAMIC_DISPATCH(Averages), AverageOf, windows, out);
  for (size_t i = 0; i < out.size(); ++i) {
    if (std::isfinite(out[i]) || windows.begins[i] >= windows.ends[i]) continue;
    out[i] = AverageOf(windows.values.subspan(static_cast<size_t>(windows.begins[i]),
                                              static_cast<size_t>(windows.ends[i] - windows.begins[i])));
  }
}

void WindowVariances(const WindowColumns& windows, std::span<double> out) {
  Run(HWY_DYNAMIC_DISPATCH(Variances), VarianceOf, windows, out);
}

void WindowMinima(const WindowColumns& windows, std::span<double> out) {
  Run(HWY_DYNAMIC_DISPATCH(Minima), LeastOf, windows, out);
}

void WindowMaxima(const WindowColumns& windows, std::span<double> out) {
  Run(HWY_DYNAMIC_DISPATCH(Maxima), GreatestOf, windows, out);
}

void ExtrapolateDifferences(const DifferenceColumns& columns, bool is_counter, double divisor, std::span<double> out) {
  MS_CHECK(columns.firsts.size() == out.size());
  size_t i = HWY_DYNAMIC_DISPATCH(Extrapolate)(columns, is_counter, divisor, out.data());
  for (; i < out.size(); ++i) {
    Extrapolation reach(columns.sampled_ms[i], columns.intervals[i], columns.to_start_ms[i], columns.to_end_ms[i]);
    reach.LimitStart();
    if (is_counter) reach.LimitStartToZero(columns.firsts[i], columns.differences[i]);
    reach.LimitEnd();
    out[i] = columns.differences[i] * (reach.Factor() / divisor);
  }
}

void FoldSums(std::span<const double> values, const FoldColumns& columns) {
  size_t i = HWY_DYNAMIC_DISPATCH(FoldAnySums)(values.data(), values.size(), columns.counts.data(),
                                               columns.values.data(), columns.compensations.data());
  for (; i < values.size(); ++i) TakeIntoSum(values[i], i, columns);
}

size_t FoldFiniteSums(std::span<const double> values, const FoldColumns& columns) {
  return HWY_DYNAMIC_DISPATCH(FoldFiniteSumVectors)(values.data(), values.size(), columns.counts.data(),
                                                    columns.values.data(), columns.compensations.data());
}

void FoldMinima(std::span<const double> values, const FoldColumns& columns) {
  const size_t done =
      HWY_DYNAMIC_DISPATCH(FoldLeast)(values.data(), values.size(), columns.counts.data(), columns.values.data());
  FoldExtremesFrom(done, values, columns, [](double value, double best) { return value < best; });
}

void FoldMaxima(std::span<const double> values, const FoldColumns& columns) {
  const size_t done =
      HWY_DYNAMIC_DISPATCH(FoldGreatest)(values.data(), values.size(), columns.counts.data(), columns.values.data());
  FoldExtremesFrom(done, values, columns, [](double value, double best) { return value > best; });
}

}  // namespace millstream::promql::exec
#endif  // HWY_ONCE

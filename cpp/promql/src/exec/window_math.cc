#include "exec/window_math.h"

#include <cmath>
#include <cstddef>
#include <functional>

#include "exec/kahan.h"

namespace millstream::promql::exec {
namespace {

template <typename Better>
double ExtremeOf(std::span<const double> values, Better better) {
  double best = values[0];
  for (const double value : values.subspan(1)) {
    if (better(value, best) || std::isnan(best)) best = value;
  }
  return best;
}

}  // namespace

double SumOf(std::span<const double> values) {
  KahanSum sum;
  for (const double value : values) sum.Add(value);
  return std::isinf(sum.sum) ? sum.sum : sum.Total();
}

double AverageOf(std::span<const double> values) {
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

double VarianceOf(std::span<const double> values) {
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

double LeastOf(std::span<const double> values) {
  return ExtremeOf(values, std::less<double>());
}

double GreatestOf(std::span<const double> values) {
  return ExtremeOf(values, std::greater<double>());
}

}  // namespace millstream::promql::exec

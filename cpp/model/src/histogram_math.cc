#include "millstream/model/histogram_math.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "histogram_cells.h"

namespace millstream::model {
namespace {

// The hint of a sum. Returns whether the two contradict each other.
bool CombineHints(CounterResetHint* hint, CounterResetHint other) {
  if (*hint == other || *hint == CounterResetHint::kGauge) return false;
  if (other == CounterResetHint::kGauge) {
    *hint = CounterResetHint::kGauge;
    return false;
  }
  const bool collision = *hint != CounterResetHint::kUnknown && other != CounterResetHint::kUnknown;
  *hint = CounterResetHint::kUnknown;
  return collision;
}

void AddCompensated(double* value, double* compensation, double increment) {
  Compensated sum = {*value, *compensation};
  sum.Add(increment);
  *value = sum.value;
  *compensation = sum.compensation;
}

// *value += sign * other. With a compensation, Kahan's way.
Result<CombineOutcome> Combine(Histogram* value, Histogram* compensation, const Histogram& other, double sign) {
  if (value->uses_custom_buckets() != other.uses_custom_buckets()) {
    return InvalidArgument("incompatible histogram schemas: one has custom buckets, the other has not");
  }
  CombineOutcome outcome;
  outcome.counter_reset_collision = CombineHints(&value->counter_reset_hint, other.counter_reset_hint);
  const bool compensate = compensation != nullptr;
  const auto add = [&](double Histogram::* field) {
    if (compensate) {
      AddCompensated(&(value->*field), &(compensation->*field), sign * (other.*field));
    } else {
      value->*field += sign * (other.*field);
    }
  };
  add(&Histogram::count);
  add(&Histogram::sum);
  if (HaveOneLayout(*value, other)) {
    add(&Histogram::zero_count);
    for (const auto side : {&Histogram::positive_buckets, &Histogram::negative_buckets}) {
      std::vector<double>& counts = value->*side;
      const std::vector<double>& others = other.*side;
      for (size_t i = 0; i < counts.size(); ++i) {
        if (compensate) {
          AddCompensated(&counts[i], &(compensation->*side)[i], sign * others[i]);
        } else {
          counts[i] += sign * others[i];
        }
      }
    }
    return outcome;
  }
  Cells cells = ToCells(*value, compensation);
  Cells other_cells = ToCells(other);
  if (!value->uses_custom_buckets()) {
    ReconcileZeroBuckets(&cells, &other_cells);
    const int32_t schema = std::min(cells.schema, other_cells.schema);
    ReduceCells(&cells, schema);
    ReduceCells(&other_cells, schema);
    if (compensate) {
      cells.zero.Add(sign * other_cells.zero.value);
    } else {
      cells.zero.value += sign * other_cells.zero.value;
    }
  } else if (value->custom_values != other.custom_values) {
    outcome.bounds_reconciled = true;
    std::vector<double> common = CommonBounds(value->custom_values, other.custom_values);
    MapCustomCells(&cells.positive, value->custom_values, common);
    MapCustomCells(&other_cells.positive, other.custom_values, common);
    value->custom_values = std::move(common);
  }
  MergeCells(&cells.positive, other_cells.positive, sign, compensate);
  MergeCells(&cells.negative, other_cells.negative, sign, compensate);
  FromCells(cells, value, compensation);
  return outcome;
}

void Scale(Histogram* histogram, double by, bool divide) {
  const auto scale = [&](double* value) { *value = divide ? *value / by : *value * by; };
  scale(&histogram->zero_count);
  scale(&histogram->count);
  scale(&histogram->sum);
  for (double& count : histogram->positive_buckets) scale(&count);
  for (double& count : histogram->negative_buckets) scale(&count);
  if (by < 0) histogram->counter_reset_hint = CounterResetHint::kGauge;
}

// Of two of one layout.
bool AnyDecrease(const std::vector<double>& current, const std::vector<double>& previous) {
  for (size_t i = 0; i < current.size(); ++i) {
    if (current[i] < previous[i]) return true;
  }
  return false;
}

// Whether a bucket counts less than it did. Buckets that one side lacks count 0.
bool AnyDecrease(const std::vector<Cell>& current, const std::vector<Cell>& previous) {
  size_t i = 0;
  for (const Cell& before : previous) {
    while (i < current.size() && current[i].index < before.index) ++i;
    const double now = i < current.size() && current[i].index == before.index ? current[i].count : 0;
    if (now < before.count) return true;
  }
  return false;
}

void DropEmpty(std::vector<Cell>* cells) {
  std::erase_if(*cells, [](const Cell& cell) { return cell.count == 0; });
}

bool SameCells(const std::vector<Cell>& a, const std::vector<Cell>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Cell& x, const Cell& y) {
    return x.index == y.index && (x.count == y.count || (std::isnan(x.count) && std::isnan(y.count)));
  });
}

}  // namespace

double BucketUpperBound(const Histogram& histogram, int32_t index) {
  if (!histogram.uses_custom_buckets()) return ExponentialBound(index, histogram.schema);
  if (index < 0) return -kInfinity;
  const auto at = static_cast<size_t>(index);
  return at < histogram.custom_values.size() ? histogram.custom_values[at] : kInfinity;
}

std::vector<Bucket> AllBuckets(const Histogram& histogram) {
  const Cells cells = ToCells(histogram);
  std::vector<Bucket> buckets;
  buckets.reserve(cells.positive.size() + cells.negative.size() + 1);
  for (auto cell = cells.negative.rbegin(); cell != cells.negative.rend(); ++cell) {
    buckets.push_back({-ExponentialBound(cell->index, histogram.schema),
                       -ExponentialBound(cell->index - 1, histogram.schema), true, false, cell->count});
  }
  if (histogram.zero_count > 0) {
    buckets.push_back({-histogram.zero_threshold, histogram.zero_threshold, true, true, histogram.zero_count});
  }
  const bool custom = histogram.uses_custom_buckets();
  for (const Cell& cell : cells.positive) {
    buckets.push_back({BucketUpperBound(histogram, cell.index - 1), BucketUpperBound(histogram, cell.index),
                       custom && cell.index == 0, true, cell.count});
  }
  return buckets;
}

Result<CombineOutcome> Add(Histogram* histogram, const Histogram& other) {
  return Combine(histogram, nullptr, other, 1);
}

Result<CombineOutcome> Subtract(Histogram* histogram, const Histogram& other) {
  return Combine(histogram, nullptr, other, -1);
}

HistogramSum::HistogramSum(const Histogram& first) : value_(first), compensation_(first) {
  model::Multiply(&compensation_, 0);
  // Nothing is lost yet, not even where the first value is infinite.
  for (double* field : {&compensation_.count, &compensation_.sum, &compensation_.zero_count}) *field = 0;
  std::fill(compensation_.positive_buckets.begin(), compensation_.positive_buckets.end(), 0.0);
  std::fill(compensation_.negative_buckets.begin(), compensation_.negative_buckets.end(), 0.0);
}

Result<CombineOutcome> HistogramSum::Add(const Histogram& other) {
  return Combine(&value_, &compensation_, other, 1);
}

void HistogramSum::Multiply(double factor) {
  model::Multiply(&value_, factor);
  model::Multiply(&compensation_, factor);
}

void HistogramSum::Divide(double divisor) {
  model::Divide(&value_, divisor);
  model::Divide(&compensation_, divisor);
}

Histogram HistogramSum::Total(double divisor) const {
  Histogram total = value_;
  Histogram rest = compensation_;
  if (divisor != 1) {
    model::Divide(&total, divisor);
    model::Divide(&rest, divisor);
  }
  total.count += rest.count;
  total.sum += rest.sum;
  total.zero_count += rest.zero_count;
  for (const auto side : {&Histogram::positive_buckets, &Histogram::negative_buckets}) {
    for (size_t i = 0; i < (total.*side).size(); ++i) (total.*side)[i] += (rest.*side)[i];
  }
  return total;
}

bool HistogramSum::HasOverflow() const {
  const auto infinite = [](double value) { return std::isinf(value); };
  return infinite(value_.count) || infinite(value_.sum) || infinite(value_.zero_count) ||
         std::any_of(value_.positive_buckets.begin(), value_.positive_buckets.end(), infinite) ||
         std::any_of(value_.negative_buckets.begin(), value_.negative_buckets.end(), infinite);
}

void Multiply(Histogram* histogram, double factor) {
  Scale(histogram, factor, false);
}

void Divide(Histogram* histogram, double divisor) {
  Scale(histogram, divisor, true);
  if (divisor != 0) return;
  // Every bucket there is would count NaN or Inf; the ones in between, which are not listed, would too.
  histogram->positive_spans.clear();
  histogram->positive_buckets.clear();
  histogram->negative_spans.clear();
  histogram->negative_buckets.clear();
}

void ReduceResolution(Histogram* histogram, int32_t schema) {
  if (histogram->uses_custom_buckets() || schema >= histogram->schema) return;
  Cells cells = ToCells(*histogram);
  ReduceCells(&cells, schema);
  FromCells(cells, histogram);
}

void Compact(Histogram* histogram) {
  Cells cells = ToCells(*histogram);
  DropEmpty(&cells.positive);
  DropEmpty(&cells.negative);
  FromCells(cells, histogram);
}

bool HaveOneLayout(const Histogram& a, const Histogram& b) {
  return a.schema == b.schema && a.zero_threshold == b.zero_threshold && a.positive_spans == b.positive_spans &&
         a.negative_spans == b.negative_spans && a.custom_values == b.custom_values;
}

bool DetectReset(const Histogram& current, const Histogram& previous) {
  if (current.counter_reset_hint == CounterResetHint::kReset) return true;
  if (current.counter_reset_hint == CounterResetHint::kNotReset) return false;
  if (current.count < previous.count) return true;
  if (HaveOneLayout(current, previous)) {
    return current.zero_count < previous.zero_count ||
           AnyDecrease(current.positive_buckets, previous.positive_buckets) ||
           AnyDecrease(current.negative_buckets, previous.negative_buckets);
  }
  if (current.uses_custom_buckets() != previous.uses_custom_buckets()) return true;
  if (current.uses_custom_buckets()) {
    Cells now = ToCells(current);
    Cells before = ToCells(previous);
    if (current.custom_values != previous.custom_values) {
      const std::vector<double> common = CommonBounds(current.custom_values, previous.custom_values);
      MapCustomCells(&now.positive, current.custom_values, common);
      MapCustomCells(&before.positive, previous.custom_values, common);
    }
    return AnyDecrease(now.positive, before.positive);
  }
  // A client may lower the resolution or widen the zero bucket, but does the opposite only with a reset.
  if (current.schema > previous.schema || current.zero_threshold < previous.zero_threshold) return true;
  Cells before = ToCells(previous);
  if (current.zero_threshold > previous.zero_threshold) {
    double threshold = current.zero_threshold;
    const Compensated zero = ZeroCountFor(before, &threshold);
    // The new zero bucket would have cut a populated bucket in two.
    if (threshold != current.zero_threshold) return true;
    before.zero = zero;
    const auto covered = [&](const Cell& cell) {
      return ExponentialBound(cell.index, before.schema) <= current.zero_threshold;
    };
    std::erase_if(before.positive, covered);
    std::erase_if(before.negative, covered);
  }
  if (current.zero_count < before.zero.value) return true;
  ReduceCells(&before, current.schema);
  const Cells now = ToCells(current);
  return AnyDecrease(now.positive, before.positive) || AnyDecrease(now.negative, before.negative);
}

bool SameDistribution(const Histogram& a, const Histogram& b) {
  const auto same = [](double x, double y) { return x == y || (std::isnan(x) && std::isnan(y)); };
  if (a.schema != b.schema || !same(a.count, b.count) || !same(a.sum, b.sum)) return false;
  if (a.uses_custom_buckets() && a.custom_values != b.custom_values) return false;
  if (a.zero_threshold != b.zero_threshold || !same(a.zero_count, b.zero_count)) return false;
  Cells left = ToCells(a);
  Cells right = ToCells(b);
  for (Cells* cells : {&left, &right}) {
    DropEmpty(&cells->positive);
    DropEmpty(&cells->negative);
  }
  return SameCells(left.positive, right.positive) && SameCells(left.negative, right.negative);
}

}  // namespace millstream::model

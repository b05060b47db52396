#include "histogram_cells.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "exponential_bounds.h"

namespace millstream::model {
namespace {

std::vector<Cell> SideToCells(std::span<const Span> spans, std::span<const double> buckets,
                              std::span<const double> compensation) {
  std::vector<Cell> cells;
  cells.reserve(buckets.size());
  int32_t index = 0;
  size_t bucket = 0;
  for (const Span& span : spans) {
    index += span.offset;
    for (uint32_t i = 0; i < span.length && bucket < buckets.size(); ++i, ++index, ++bucket) {
      cells.push_back({index, buckets[bucket], compensation.empty() ? 0 : compensation[bucket]});
    }
  }
  return cells;
}

void SideFromCells(std::span<const Cell> cells, std::vector<Span>* spans, std::vector<double>* buckets,
                   std::vector<double>* compensation) {
  spans->clear();
  buckets->clear();
  if (compensation != nullptr) compensation->clear();
  int32_t next = 0;
  for (const Cell& cell : cells) {
    if (spans->empty() || cell.index != next) {
      spans->push_back({cell.index - next, 0});
    }
    ++spans->back().length;
    next = cell.index + 1;
    buckets->push_back(cell.count);
    if (compensation != nullptr) compensation->push_back(cell.compensation);
  }
}

// Adds up neighbours of the same index.
void JoinEqualIndices(std::vector<Cell>* cells) {
  size_t out = 0;
  for (size_t i = 0; i < cells->size(); ++i) {
    if (out > 0 && (*cells)[out - 1].index == (*cells)[i].index) {
      (*cells)[out - 1].count += (*cells)[i].count;
      (*cells)[out - 1].compensation += (*cells)[i].compensation;
    } else {
      (*cells)[out++] = (*cells)[i];
    }
  }
  cells->resize(out);
}

// Drops the buckets that the zero bucket covers.
void TrimZeroBucket(Cells* cells) {
  const auto covered = [&](const Cell& cell) {
    return ExponentialBound(cell.index, cells->schema) <= cells->zero_threshold;
  };
  std::erase_if(cells->positive, covered);
  std::erase_if(cells->negative, covered);
}

void Widen(Cells* cells, double threshold) {
  cells->zero = ZeroCountFor(*cells, &threshold);
  cells->zero_threshold = threshold;
  TrimZeroBucket(cells);
}

}  // namespace

void Compensated::Add(double increment) {
  const double total = value + increment;
  if (std::isinf(total)) {
    compensation = 0;
  } else if (std::abs(value) >= std::abs(increment)) {
    compensation += (value - total) + increment;
  } else {
    compensation += (increment - total) + value;
  }
  value = total;
}

double ExponentialBound(int32_t index, int32_t schema) {
  // The bucket before the overflow bucket ends at the largest finite double rather than at 2^1024.
  if (schema < 0) {
    const int64_t exponent = static_cast<int64_t>(index) * (int64_t{1} << -schema);
    if (exponent == 1024) return std::numeric_limits<double>::max();
    return std::ldexp(1.0, static_cast<int>(std::clamp<int64_t>(exponent, -5000, 5000)));
  }
  const int32_t per_octave = int32_t{1} << schema;
  const int32_t fraction = index & (per_octave - 1);
  const int32_t octave = index >> schema;
  if (fraction == 0 && octave == 1024) return std::numeric_limits<double>::max();
  return std::ldexp(kOctaveBounds[static_cast<size_t>(fraction) << (kExponentialSchemaMax - schema)], octave + 1);
}

Cells ToCells(const Histogram& histogram, const Histogram* compensation) {
  Cells cells;
  cells.schema = histogram.schema;
  cells.zero_threshold = histogram.zero_threshold;
  cells.zero = {histogram.zero_count, compensation != nullptr ? compensation->zero_count : 0};
  const auto of = [&](const std::vector<double> Histogram::* side) {
    return compensation != nullptr ? std::span<const double>(compensation->*side) : std::span<const double>();
  };
  cells.positive = SideToCells(histogram.positive_spans, histogram.positive_buckets, of(&Histogram::positive_buckets));
  cells.negative = SideToCells(histogram.negative_spans, histogram.negative_buckets, of(&Histogram::negative_buckets));
  return cells;
}

void FromCells(const Cells& cells, Histogram* histogram, Histogram* compensation) {
  histogram->schema = cells.schema;
  histogram->zero_threshold = cells.zero_threshold;
  histogram->zero_count = cells.zero.value;
  SideFromCells(cells.positive, &histogram->positive_spans, &histogram->positive_buckets,
                compensation != nullptr ? &compensation->positive_buckets : nullptr);
  SideFromCells(cells.negative, &histogram->negative_spans, &histogram->negative_buckets,
                compensation != nullptr ? &compensation->negative_buckets : nullptr);
  if (compensation != nullptr) {
    compensation->schema = cells.schema;
    compensation->zero_threshold = cells.zero_threshold;
    compensation->zero_count = cells.zero.compensation;
    compensation->positive_spans = histogram->positive_spans;
    compensation->negative_spans = histogram->negative_spans;
    compensation->custom_values = histogram->custom_values;
  }
}

Compensated ZeroCountFor(const Cells& cells, double* threshold) {
  while (true) {
    Compensated zero = cells.zero;
    bool grew = false;
    for (const auto* side : {&cells.positive, &cells.negative}) {
      for (const Cell& cell : *side) {
        if (ExponentialBound(cell.index - 1, cells.schema) >= *threshold) break;
        zero.Add(cell.count);
        zero.compensation += cell.compensation;
        const double upper = ExponentialBound(cell.index, cells.schema);
        if (upper > *threshold) {
          // A populated bucket cannot be cut: the threshold moves to its end.
          if (cell.count != 0) {
            *threshold = upper;
            grew = true;
          }
          break;
        }
      }
    }
    // Once more when the threshold moved: the other side has to follow.
    if (!grew) return zero;
  }
}

void ReconcileZeroBuckets(Cells* a, Cells* b) {
  while (a->zero_threshold != b->zero_threshold) {
    if (a->zero_threshold > b->zero_threshold) {
      Widen(b, a->zero_threshold);
    } else {
      Widen(a, b->zero_threshold);
    }
  }
}

void ReduceCells(Cells* cells, int32_t schema) {
  if (schema >= cells->schema) return;
  const int shift = cells->schema - schema;
  for (auto* side : {&cells->positive, &cells->negative}) {
    for (Cell& cell : *side) cell.index = ((cell.index - 1) >> shift) + 1;
    JoinEqualIndices(side);
  }
  cells->schema = schema;
}

void MapCustomCells(std::vector<Cell>* cells, std::span<const double> from, std::span<const double> to) {
  for (Cell& cell : *cells) {
    const auto index = static_cast<size_t>(cell.index);
    const double upper = index < from.size() ? from[index] : std::numeric_limits<double>::infinity();
    cell.index = static_cast<int32_t>(std::lower_bound(to.begin(), to.end(), upper) - to.begin());
  }
  JoinEqualIndices(cells);
}

std::vector<double> CommonBounds(std::span<const double> a, std::span<const double> b) {
  std::vector<double> common;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(common));
  return common;
}

void MergeCells(std::vector<Cell>* a, std::span<const Cell> b, double sign, bool compensate) {
  std::vector<Cell> merged;
  merged.reserve(a->size() + b.size());
  size_t i = 0;
  for (const Cell& other : b) {
    while (i < a->size() && (*a)[i].index < other.index) merged.push_back((*a)[i++]);
    Cell cell = {other.index, 0, 0};
    if (i < a->size() && (*a)[i].index == other.index) cell = (*a)[i++];
    if (compensate) {
      Compensated sum = {cell.count, cell.compensation};
      sum.Add(sign * other.count);
      cell.count = sum.value;
      cell.compensation = sum.compensation + sign * other.compensation;
    } else {
      cell.count += sign * other.count;
    }
    merged.push_back(cell);
  }
  merged.insert(merged.end(), a->begin() + static_cast<std::ptrdiff_t>(i), a->end());
  *a = std::move(merged);
}

}  // namespace millstream::model

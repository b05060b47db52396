// Cells: the buckets of a histogram in sparse form, for work that changes the layout.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "millstream/model/histogram.h"

namespace millstream::model {

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Cell {
  int32_t index = 0;
  double count = 0;
  double compensation = 0;
};

// A value with Kahan's compensation.
struct Compensated {
  double value = 0;
  double compensation = 0;

  void Add(double increment);
};

struct Cells {
  int32_t schema = 0;
  double zero_threshold = 0;
  Compensated zero;
  std::vector<Cell> positive;  // ascending in index
  std::vector<Cell> negative;
};

// 2^(index·2^-schema); +Inf behind the last finite bound.
double ExponentialBound(int32_t index, int32_t schema);

// `compensation`, unless null, has the same layout.
Cells ToCells(const Histogram& histogram, const Histogram* compensation = nullptr);
void FromCells(const Cells& cells, Histogram* histogram, Histogram* compensation = nullptr);

// Widens both zero buckets to a common threshold that no populated bucket straddles, taking in what they then cover.
void ReconcileZeroBuckets(Cells* a, Cells* b);
// To a coarser exponential schema.
void ReduceCells(Cells* cells, int32_t schema);
// Custom buckets: from the bounds `from` to their subset `to`.
void MapCustomCells(std::vector<Cell>* cells, std::span<const double> from, std::span<const double> to);
std::vector<double> CommonBounds(std::span<const double> a, std::span<const double> b);
// a += sign * b, index by index; compensated or not.
void MergeCells(std::vector<Cell>* a, std::span<const Cell> b, double sign, bool compensate);

// What the zero bucket would count with the larger `threshold`, which grows to the end of a populated bucket that
// straddles it.
Compensated ZeroCountFor(const Cells& cells, double* threshold);

}  // namespace millstream::model

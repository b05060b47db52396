// Binary operators on two samples: what vector/vector and vector/scalar operators do at each step.
#pragma once

#include "exec/context.h"
#include "exec/series.h"
#include "millstream/promql/ast.h"

namespace millstream::promql::exec {

// A sample of a vector, or a scalar.
struct Element {
  double value = 0;
  const HistogramPtr* histogram = nullptr;  // null: a float
};

struct ElementResult {
  bool valid = false;  // the operator has a result for these kinds of samples
  bool keep = false;   // the sample stays: arithmetic always, comparisons when they hold
  double value = 0;
  HistogramPtr histogram;
};

// Arithmetic on floats; comparisons give 0 or 1. `op` is neither a set operator nor a trim.
double FloatArithmetic(BinaryOp op, double left, double right);
bool FloatComparison(BinaryOp op, double left, double right);

// The lesser and the greater of two floats as Go has them: an infinity that decides wins, then NaN does.
double Least(double a, double b);
double Greatest(double a, double b);

// A comparison's value is its left side. Notes on the samples' kinds go to the context's annotations at `position`.
ElementResult ApplyElements(ExecContext& ctx, BinaryOp op, const Element& left, const Element& right,
                            PositionRange position);

// Whether the result is of another nature than the left side, so that its name no longer holds.
bool ChangesMetric(BinaryOp op);

}  // namespace millstream::promql::exec

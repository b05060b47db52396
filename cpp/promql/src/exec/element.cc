#include "exec/element.h"

#include <cmath>

namespace millstream::promql::exec {
namespace {

// Go's math.Pow and C's pow agree on all special cases but one: Pow(-1, ±Inf) is 1 in both, Pow(x, NaN) too.
double Power(double base, double exponent) {
  return std::pow(base, exponent);
}

}  // namespace

double FloatArithmetic(BinaryOp op, double left, double right) {
  switch (op) {
    case BinaryOp::kAdd:
      return left + right;
    case BinaryOp::kSub:
      return left - right;
    case BinaryOp::kMul:
      return left * right;
    case BinaryOp::kDiv:
      return left / right;
    case BinaryOp::kMod:
      return std::fmod(left, right);
    case BinaryOp::kPow:
      return Power(left, right);
    case BinaryOp::kAtan2:
      return std::atan2(left, right);
    default:
      return FloatComparison(op, left, right) ? 1 : 0;
  }
}

bool FloatComparison(BinaryOp op, double left, double right) {
  switch (op) {
    case BinaryOp::kEqual:
      return left == right;
    case BinaryOp::kNotEqual:
      return left != right;
    case BinaryOp::kLess:
      return left < right;
    case BinaryOp::kLessEqual:
      return left <= right;
    case BinaryOp::kGreater:
      return left > right;
    case BinaryOp::kGreaterEqual:
      return left >= right;
    default:
      return false;
  }
}

bool ChangesMetric(BinaryOp op) {
  switch (op) {
    case BinaryOp::kAdd:
    case BinaryOp::kSub:
    case BinaryOp::kMul:
    case BinaryOp::kDiv:
    case BinaryOp::kMod:
    case BinaryOp::kPow:
    case BinaryOp::kAtan2:
      return true;
    default:
      return false;
  }
}

ElementResult ApplyElements(ExecContext& ctx, BinaryOp op, const Element& left, const Element& right,
                            PositionRange position) {
  ElementResult result;
  const bool is_trim = op == BinaryOp::kTrimLower || op == BinaryOp::kTrimUpper;
  if (left.histogram == nullptr && right.histogram == nullptr && !is_trim) {
    result.valid = true;
    if (IsComparison(op)) {
      result.keep = FloatComparison(op, left.value, right.value);
      result.value = left.value;
    } else {
      result.keep = true;
      result.value = FloatArithmetic(op, left.value, right.value);
    }
    return result;
  }
  ctx.annotations.IncompatibleTypes(left.histogram == nullptr ? "float" : "histogram", BinaryOpSymbol(op),
                                    right.histogram == nullptr ? "float" : "histogram", position);
  return result;
}

}  // namespace millstream::promql::exec

#include "exec/element.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "exec/histogram_trim.h"
#include "exec/numbers.h"
#include "millstream/model/histogram_math.h"

namespace millstream::promql::exec {
namespace {

ElementResult Kept(HistogramPtr histogram) {
  ElementResult result;
  result.valid = true;
  result.keep = true;
  result.histogram = std::move(histogram);
  return result;
}

std::shared_ptr<model::Histogram> CopyOf(const Element& element) {
  return std::make_shared<model::Histogram>(**element.histogram);
}

// A float and a histogram, in either order; invalid when the operator knows no such pair.
ElementResult ApplyMixed(BinaryOp op, const Element& left, const Element& right) {
  if (left.histogram == nullptr) {
    if (op != BinaryOp::kMul) return {};
    auto product = CopyOf(right);
    model::Multiply(product.get(), left.value);
    model::Compact(product.get());
    return Kept(std::move(product));
  }
  auto result = CopyOf(left);
  switch (op) {
    case BinaryOp::kMul:
      model::Multiply(result.get(), right.value);
      break;
    case BinaryOp::kDiv:
      model::Divide(result.get(), right.value);
      break;
    case BinaryOp::kTrimUpper:
    case BinaryOp::kTrimLower:
      TrimHistogram(result.get(), right.value, op == BinaryOp::kTrimUpper);
      return Kept(std::move(result));
    default:
      return {};
  }
  model::Compact(result.get());
  return Kept(std::move(result));
}

ElementResult AddHistograms(ExecContext& ctx, BinaryOp op, const Element& left, const Element& right,
                            PositionRange position) {
  const bool add = op == BinaryOp::kAdd;
  const HistogramOperation operation = add ? HistogramOperation::kAddition : HistogramOperation::kSubtraction;
  auto result = CopyOf(left);
  const Result<model::CombineOutcome> outcome =
      add ? model::Add(result.get(), **right.histogram) : model::Subtract(result.get(), **right.histogram);
  if (!outcome.ok()) {
    ctx.annotations.IncompatibleBucketLayout(BinaryOpSymbol(op), position);
    return {};
  }
  // A difference may go down, so it is a gauge.
  if (!add) result->counter_reset_hint = model::CounterResetHint::kGauge;
  if (outcome->counter_reset_collision) {
    ctx.annotations.CounterResetCollision(operation, position);
    return {};
  }
  if (outcome->bounds_reconciled) ctx.annotations.MismatchedCustomBuckets(operation, position);
  model::Compact(result.get());
  return Kept(std::move(result));
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
      return std::pow(left, right);
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

double Least(double a, double b) {
  if (a == -kInf || b == -kInf) return -kInf;
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::quiet_NaN();
  return std::min(a, b);
}

double Greatest(double a, double b) {
  if (a == kInf || b == kInf) return kInf;
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::quiet_NaN();
  return std::max(a, b);
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
  if (left.histogram != nullptr && right.histogram != nullptr) {
    if (op == BinaryOp::kAdd || op == BinaryOp::kSub) return AddHistograms(ctx, op, left, right, position);
    if (op == BinaryOp::kEqual || op == BinaryOp::kNotEqual) {
      result = Kept(*left.histogram);
      result.keep = model::SameDistribution(**left.histogram, **right.histogram) == (op == BinaryOp::kEqual);
      return result;
    }
  } else if (left.histogram != nullptr || right.histogram != nullptr) {
    result = ApplyMixed(op, left, right);
    if (result.valid) return result;
  }
  ctx.annotations.IncompatibleTypes(left.histogram == nullptr ? "float" : "histogram", BinaryOpSymbol(op),
                                    right.histogram == nullptr ? "float" : "histogram", position);
  return result;
}

}  // namespace millstream::promql::exec

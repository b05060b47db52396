#include "rewrite.h"

#include <algorithm>
#include <array>

#include "millstream/promql/functions.h"

namespace millstream::promqltest {
namespace {

using promql::Expr;
using promql::ExprKind;

constexpr auto kTimeDependent = std::to_array<std::string_view>(
    {"days_in_month", "day_of_month", "day_of_week", "day_of_year", "end", "hour", "minute", "month", "year",
     "predict_linear", "range", "start", "step", "time", "timestamp"});

// Calls `visit` for each child of `expr`. The selector within a range selector is no child of its own.
void VisitChildren(Expr& expr, const std::function<void(Expr&)>& visit) {
  switch (expr.kind) {
    case ExprKind::kSubquery:
      visit(*static_cast<promql::SubqueryExpr&>(expr).expr);
      break;
    case ExprKind::kUnary:
      visit(*static_cast<promql::UnaryExpr&>(expr).expr);
      break;
    case ExprKind::kParen:
      visit(*static_cast<promql::ParenExpr&>(expr).expr);
      break;
    case ExprKind::kBinary:
      visit(*static_cast<promql::BinaryExpr&>(expr).left);
      visit(*static_cast<promql::BinaryExpr&>(expr).right);
      break;
    case ExprKind::kAggregate: {
      auto& aggregate = static_cast<promql::AggregateExpr&>(expr);
      if (aggregate.param) visit(*aggregate.param);
      visit(*aggregate.expr);
      break;
    }
    case ExprKind::kCall:
      for (const auto& arg : static_cast<promql::Call&>(expr).args) visit(*arg);
      break;
    default:
      break;
  }
}

bool DependsOnTime(Expr& expr) {
  if (expr.kind == ExprKind::kCall) {
    const std::string_view name = static_cast<promql::Call&>(expr).function->name;
    if (std::find(kTimeDependent.begin(), kTimeDependent.end(), name) != kTimeDependent.end()) return true;
  }
  bool depends = false;
  VisitChildren(expr, [&](Expr& child) { depends = depends || DependsOnTime(child); });
  return depends;
}

template <typename Selector>
void PinOne(Selector& selector, TimestampMs time) {
  if (!selector.at && selector.at_preprocessor == promql::AtPreprocessor::kNone) selector.at = time;
}

void Pin(Expr& expr, TimestampMs time) {
  switch (expr.kind) {
    case ExprKind::kVectorSelector:
      PinOne(static_cast<promql::VectorSelector&>(expr), time);
      break;
    case ExprKind::kMatrixSelector:
      PinOne(*static_cast<promql::MatrixSelector&>(expr).selector, time);
      break;
    case ExprKind::kSubquery:
      PinOne(static_cast<promql::SubqueryExpr&>(expr), time);
      break;
    default:
      VisitChildren(expr, [&](Expr& child) { Pin(child, time); });
  }
}

}  // namespace

std::optional<std::string> PinSelectors(std::string_view expression, const promql::ParserOptions& options,
                                        TimestampMs time) {
  auto expr = promql::ParseExpr(expression, options);
  if (!expr.ok() || DependsOnTime(**expr)) return std::nullopt;
  Pin(**expr, time);
  return promql::Print(**expr);
}

void VisitSelectors(const Expr& expr, const std::function<void(const promql::VectorSelector&)>& visit) {
  if (expr.kind == ExprKind::kVectorSelector) visit(static_cast<const promql::VectorSelector&>(expr));
  if (expr.kind == ExprKind::kMatrixSelector) visit(*static_cast<const promql::MatrixSelector&>(expr).selector);
  // The children are only read.
  VisitChildren(const_cast<Expr&>(expr), [&](Expr& child) { VisitSelectors(child, visit); });
}

}  // namespace millstream::promqltest

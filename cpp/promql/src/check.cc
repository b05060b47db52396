#include "check.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "millstream/base/ascii.h"
#include "millstream/model/labels.h"
#include "millstream/promql/functions.h"

namespace millstream::promql {
namespace {

class Checker {
 public:
  explicit Checker(std::string_view query) : query_(query) {}

  // False once something is wrong; error() says what.
  bool Check(Expr* expr) {
    switch (expr->kind) {
      case ExprKind::kNumberLiteral:
      case ExprKind::kStringLiteral:
        return true;
      case ExprKind::kVectorSelector:
        return CheckSelector(static_cast<VectorSelector*>(expr));
      case ExprKind::kMatrixSelector:
        return CheckSelector(static_cast<MatrixSelector*>(expr)->selector.get());
      case ExprKind::kSubquery: {
        const auto* subquery = static_cast<SubqueryExpr*>(expr);
        if (!Check(subquery->expr.get())) return false;
        if (subquery->expr->type == ValueType::kVector) return true;
        return Fail(expr->position, fmt::format("subquery is only allowed on instant vector, got {} instead",
                                                ShortTypeName(subquery->expr->type)));
      }
      case ExprKind::kUnary: {
        const auto* unary = static_cast<UnaryExpr*>(expr);
        if (!Check(unary->expr.get())) return false;
        expr->type = unary->expr->type;
        if (expr->type == ValueType::kScalar || expr->type == ValueType::kVector) return true;
        return Fail(expr->position,
                    fmt::format("unary expression only allowed on expressions of type scalar or instant vector, got {}",
                                model::Quote(ValueTypeName(expr->type))));
      }
      case ExprKind::kParen: {
        const auto* paren = static_cast<ParenExpr*>(expr);
        if (!Check(paren->expr.get())) return false;
        expr->type = paren->expr->type;
        return true;
      }
      case ExprKind::kBinary:
        return CheckBinary(static_cast<BinaryExpr*>(expr));
      case ExprKind::kAggregate:
        return CheckAggregate(static_cast<AggregateExpr*>(expr));
      case ExprKind::kCall:
        return CheckCall(static_cast<Call*>(expr));
    }
    return true;
  }

  ParseError&& error() && { return std::move(error_); }

 private:
  // The names that Prometheus's subquery message uses.
  static std::string_view ShortTypeName(ValueType type) {
    if (type == ValueType::kVector) return "vector";
    if (type == ValueType::kMatrix) return "matrix";
    return ValueTypeName(type);
  }

  bool Fail(PositionRange at, std::string message) {
    error_ = {at, std::move(message)};
    return false;
  }

  bool Expect(Expr* expr, ValueType want, std::string_view context) {
    if (!Check(expr)) return false;
    if (expr->type == want) return true;
    return Fail(expr->position,
                fmt::format("expected type {} in {}, got {}", ValueTypeName(want), context, ValueTypeName(expr->type)));
  }

  bool CheckSelector(const VectorSelector* selector, bool may_match_everything = false) {
    if (!selector->name.empty()) {
      // The last matcher is that of the name before the braces.
      for (size_t i = 0; i + 1 < selector->matchers.size(); ++i) {
        const model::Matcher& matcher = selector->matchers[i];
        if (matcher.name() == model::kMetricName) {
          return Fail(selector->position, fmt::format("metric name must not be set twice: {} or {}",
                                                      model::Quote(selector->name), model::Quote(matcher.value())));
        }
      }
    }
    const bool selective = std::any_of(selector->matchers.begin(), selector->matchers.end(),
                                       [](const model::Matcher& matcher) { return !matcher.MatchesEmpty(); });
    if (selective || may_match_everything) return true;
    return Fail(selector->position, "vector selector must contain at least one non-empty matcher");
  }

  PositionRange OperatorRange(const BinaryExpr& binary) const {
    PositionRange range = {binary.left->position.end, binary.right->position.start - 1};
    while (range.start < range.end && IsSpace(query_[static_cast<size_t>(range.start)])) ++range.start;
    while (range.end > range.start && IsSpace(query_[static_cast<size_t>(range.end)])) --range.end;
    return range;
  }

  bool CheckBinary(BinaryExpr* binary) {
    if (!Check(binary->left.get()) || !Check(binary->right.get())) return false;
    const ValueType left = binary->left->type;
    const ValueType right = binary->right->type;
    const bool set_operator = IsSetOperator(binary->op);
    VectorMatching& matching = *binary->matching;
    if (binary->return_bool && !IsComparison(binary->op)) {
      return Fail(OperatorRange(*binary), "bool modifier can only be used on comparison operators");
    }
    if (IsComparison(binary->op) && !binary->return_bool && left == ValueType::kScalar && right == ValueType::kScalar) {
      return Fail(OperatorRange(*binary), "comparisons between scalars must use BOOL modifier");
    }
    if (set_operator && matching.cardinality == MatchCardinality::kOneToOne) {
      matching.cardinality = MatchCardinality::kManyToMany;
    }
    if (matching.on) {
      for (const std::string& label : matching.labels) {
        if (std::find(matching.include.begin(), matching.include.end(), label) != matching.include.end()) {
          return Fail(OperatorRange(*binary),
                      fmt::format("label {} must not occur in ON and GROUP clause at once", model::Quote(label)));
        }
      }
    }
    for (const Expr* side : {binary->left.get(), binary->right.get()}) {
      if (side->type != ValueType::kScalar && side->type != ValueType::kVector) {
        return Fail(side->position, "binary expression must contain only scalar and instant vector types");
      }
    }
    const bool fills = matching.fill_left.has_value() || matching.fill_right.has_value();
    const bool both_vectors = left == ValueType::kVector && right == ValueType::kVector;
    if (!both_vectors) {
      if (!matching.labels.empty()) {
        return Fail(binary->position, "vector matching only allowed between instant vectors");
      }
      if (fills) {
        return Fail(binary->position, "filling in missing series only allowed between instant vectors");
      }
      binary->matching = nullptr;
    } else if (set_operator) {
      if (matching.cardinality != MatchCardinality::kManyToMany) {
        return Fail(binary->position,
                    fmt::format("no grouping allowed for {} operation", model::Quote(BinaryOpSymbol(binary->op))));
      }
      if (fills) return Fail(binary->position, "filling in missing series not allowed for set operators");
    }
    if (set_operator && (left == ValueType::kScalar || right == ValueType::kScalar)) {
      return Fail(binary->position, fmt::format("set operator {} not allowed in binary scalar expression",
                                                model::Quote(BinaryOpSymbol(binary->op))));
    }
    binary->type = left == ValueType::kScalar && right == ValueType::kScalar ? ValueType::kScalar : ValueType::kVector;
    return true;
  }

  bool CheckAggregate(AggregateExpr* aggregate) {
    if (!Expect(aggregate->expr.get(), ValueType::kVector, "aggregation expression")) return false;
    if (aggregate->param == nullptr) return true;
    const ValueType want = aggregate->op == AggregateOp::kCountValues ? ValueType::kString : ValueType::kScalar;
    return Expect(aggregate->param.get(), want, "aggregation parameter");
  }

  bool CheckCall(Call* call) {
    const FunctionSignature& function = *call->function;
    const std::string name = model::Quote(function.name);
    const size_t count = call->args.size();
    const size_t declared = function.args.size();
    if (function.variadic == 0) {
      if (count != declared) {
        return Fail(call->position,
                    fmt::format("expected {} argument(s) in call to {}, got {}", declared, name, count));
      }
    } else {
      // The last declared argument is optional; with a positive figure it may occur at most so often.
      const size_t least = declared - 1;
      if (count < least) {
        return Fail(call->position,
                    fmt::format("expected at least {} argument(s) in call to {}, got {}", least, name, count));
      }
      const size_t most = least + static_cast<size_t>(std::max(function.variadic, 0));
      if (function.variadic > 0 && count > most) {
        return Fail(call->position,
                    fmt::format("expected at most {} argument(s) in call to {}, got {}", most, name, count));
      }
    }
    const std::string context = "call to function " + name;
    for (size_t i = 0; i < count; ++i) {
      Expr* arg = call->args[i].get();
      const ValueType want = function.args[std::min(i, declared - 1)];
      // The second argument of info() only lists label matchers, so it may match everything but has no metric name.
      if (function.name == "info" && i == 1 && arg->kind == ExprKind::kVectorSelector) {
        const auto* selector = static_cast<VectorSelector*>(arg);
        if (!selector->name.empty()) {
          return Fail(arg->position, "expected label selectors only, got vector selector instead");
        }
        if (!CheckSelector(selector, /*may_match_everything=*/true)) return false;
        continue;
      }
      if (function.name == "info" && i == 1) {
        if (!Check(arg)) return false;
        if (arg->type == want) return Fail(arg->position, "expected label selectors only");
        return Fail(call->position, fmt::format("expected type {} in {}, got {}", ValueTypeName(want), context,
                                                ValueTypeName(arg->type)));
      }
      if (!Expect(arg, want, context)) return false;
    }
    return true;
  }

  std::string_view query_;
  ParseError error_;
};

}  // namespace

std::optional<ParseError> CheckTypes(Expr* expr, std::string_view query) {
  Checker checker(query);
  if (checker.Check(expr)) return std::nullopt;
  return std::move(checker).error();
}

}  // namespace millstream::promql

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "millstream/model/labels.h"
#include "millstream/promql/functions.h"
#include "millstream/promql/parser.h"

namespace millstream::promql {
namespace {

// A line that is longer is split where the expression nests.
constexpr size_t kPrettyLineBytesMax = 100;
constexpr std::string_view kIndent = "  ";

std::string JoinLabels(std::span<const std::string> labels) {
  std::string out;
  for (const std::string& label : labels) {
    if (!out.empty()) out += ", ";
    out += model::IsLegacyLabelName(label) ? label : model::Quote(label);
  }
  return out;
}

std::string PrintNumber(double value, bool is_duration) {
  if (!is_duration) return FormatNumber(value);
  return FormatDuration(static_cast<int64_t>(std::round(value * 1000)));
}

std::string PrintDurationExpr(const DurationExpr& expr) {
  using Op = DurationExpr::Op;
  const auto infix = [&](std::string_view op) {
    return fmt::format("{} {} {}", PrintDurationExpr(*expr.left), op, PrintDurationExpr(*expr.right));
  };
  switch (expr.op) {
    case Op::kNumber:
      return PrintNumber(expr.seconds, expr.number_is_duration);
    case Op::kStep:
      return "step()";
    case Op::kRange:
      return "range()";
    case Op::kNegate:
      return "-" + PrintDurationExpr(*expr.left);
    case Op::kAdd:
      return infix("+");
    case Op::kSub:
      return infix("-");
    case Op::kMul:
      return infix("*");
    case Op::kDiv:
      return infix("/");
    case Op::kMod:
      return infix("%");
    case Op::kPow:
      return infix("^");
    case Op::kMin:
    case Op::kMax:
      return fmt::format("{}({}, {})", expr.op == Op::kMin ? "min_of" : "max_of", PrintDurationExpr(*expr.left),
                         PrintDurationExpr(*expr.right));
    case Op::kParen:
      return "(" + PrintDurationExpr(*expr.left) + ")";
  }
  return {};
}

std::string PrintDuration(const Duration& duration) {
  return duration.expr ? PrintDurationExpr(*duration.expr) : FormatDuration(duration.ms);
}

std::string PrintOffset(const Duration& offset) {
  if (!offset.expr && offset.ms == 0) return {};
  return " offset " + PrintDuration(offset);
}

std::string PrintAt(const std::optional<TimestampMs>& at, AtPreprocessor preprocessor) {
  if (at) {
    const int64_t ms = *at;
    const auto magnitude = ms < 0 ? 0 - static_cast<uint64_t>(ms) : static_cast<uint64_t>(ms);
    return fmt::format(" @ {}{}.{:03}", ms < 0 ? "-" : "", magnitude / 1000, magnitude % 1000);
  }
  if (preprocessor == AtPreprocessor::kStart) return " @ start()";
  if (preprocessor == AtPreprocessor::kEnd) return " @ end()";
  return {};
}

std::string_view PrintExtended(const VectorSelector& selector) {
  if (selector.anchored) return " anchored";
  return selector.smoothed ? " smoothed" : "";
}

std::string PrintMatchers(const VectorSelector& selector) {
  std::vector<std::string> matchers;
  for (const model::Matcher& matcher : selector.matchers) {
    // The matcher of the name before the braces.
    const bool is_name = matcher.name() == model::kMetricName && matcher.type() == model::MatchType::kEqual;
    if (is_name && !selector.name.empty() && matcher.value() == selector.name) continue;
    matchers.push_back(matcher.ToString());
  }
  std::sort(matchers.begin(), matchers.end());
  std::string out = selector.name;
  if (!matchers.empty() || selector.name.empty()) out += fmt::format("{{{}}}", fmt::join(matchers, ","));
  return out;
}

std::string PrintVectorSelector(const VectorSelector& selector, std::string_view range) {
  return fmt::format("{}{}{}{}{}", PrintMatchers(selector), range, PrintExtended(selector),
                     PrintAt(selector.at, selector.at_preprocessor), PrintOffset(selector.offset));
}

std::string PrintSubqueryTail(const SubqueryExpr& subquery) {
  const bool has_step = subquery.step.expr || subquery.step.ms != 0;
  return fmt::format("[{}:{}]{}{}", PrintDuration(subquery.range), has_step ? PrintDuration(subquery.step) : "",
                     PrintAt(subquery.at, subquery.at_preprocessor), PrintOffset(subquery.offset));
}

std::string PrintMatching(const VectorMatching& matching) {
  std::string out;
  const bool grouped =
      matching.cardinality == MatchCardinality::kManyToOne || matching.cardinality == MatchCardinality::kOneToMany;
  if (!matching.labels.empty() || matching.on || grouped) {
    out += fmt::format(" {} ({})", matching.on ? "on" : "ignoring", JoinLabels(matching.labels));
    if (grouped) {
      out += fmt::format(" group_{} ({})", matching.cardinality == MatchCardinality::kManyToOne ? "left" : "right",
                         JoinLabels(matching.include));
    }
  }
  if (matching.fill_left && matching.fill_right && *matching.fill_left == *matching.fill_right) {
    out += fmt::format(" fill ({})", FormatNumber(*matching.fill_left));
  } else {
    if (matching.fill_left) out += fmt::format(" fill_left ({})", FormatNumber(*matching.fill_left));
    if (matching.fill_right) out += fmt::format(" fill_right ({})", FormatNumber(*matching.fill_right));
  }
  return out;
}

std::string PrintOperator(const BinaryExpr& binary) {
  return fmt::format("{}{}{}", BinaryOpSymbol(binary.op), binary.return_bool ? " bool" : "",
                     binary.matching ? PrintMatching(*binary.matching) : "");
}

// Whether the left operand must be printed without its sign: +Inf ^ x would read as +(Inf ^ x).
bool IsInfinityToAPower(const BinaryExpr& binary) {
  return binary.op == BinaryOp::kPow && binary.left->kind == ExprKind::kNumberLiteral &&
         static_cast<const NumberLiteral&>(*binary.left).value == std::numeric_limits<double>::infinity();
}

// `sum by (job) `, or `sum`: what stands before the parenthesis.
std::string PrintAggregateHead(const AggregateExpr& aggregate) {
  std::string out(AggregateOpName(aggregate.op));
  if (aggregate.without) {
    out += fmt::format(" without ({}) ", JoinLabels(aggregate.grouping));
  } else if (!aggregate.grouping.empty()) {
    out += fmt::format(" by ({}) ", JoinLabels(aggregate.grouping));
  }
  return out;
}

}  // namespace

std::string Print(const Expr& expr) {
  switch (expr.kind) {
    case ExprKind::kNumberLiteral: {
      const auto& number = static_cast<const NumberLiteral&>(expr);
      return PrintNumber(number.value, number.is_duration);
    }
    case ExprKind::kStringLiteral:
      return model::Quote(static_cast<const StringLiteral&>(expr).value);
    case ExprKind::kVectorSelector:
      return PrintVectorSelector(static_cast<const VectorSelector&>(expr), "");
    case ExprKind::kMatrixSelector: {
      const auto& matrix = static_cast<const MatrixSelector&>(expr);
      return PrintVectorSelector(*matrix.selector, "[" + PrintDuration(matrix.range) + "]");
    }
    case ExprKind::kSubquery: {
      const auto& subquery = static_cast<const SubqueryExpr&>(expr);
      return Print(*subquery.expr) + PrintSubqueryTail(subquery);
    }
    case ExprKind::kUnary: {
      const auto& unary = static_cast<const UnaryExpr&>(expr);
      return (unary.negate ? "-" : "+") + Print(*unary.expr);
    }
    case ExprKind::kBinary: {
      const auto& binary = static_cast<const BinaryExpr&>(expr);
      return fmt::format("{} {} {}", IsInfinityToAPower(binary) ? "Inf" : Print(*binary.left), PrintOperator(binary),
                         Print(*binary.right));
    }
    case ExprKind::kAggregate: {
      const auto& aggregate = static_cast<const AggregateExpr&>(expr);
      std::string out = PrintAggregateHead(aggregate) + "(";
      if (aggregate.param) out += Print(*aggregate.param) + ", ";
      return out + Print(*aggregate.expr) + ")";
    }
    case ExprKind::kCall: {
      const auto& call = static_cast<const Call&>(expr);
      std::string out(call.function->name);
      out += "(";
      for (size_t i = 0; i < call.args.size(); ++i) {
        if (i > 0) out += ", ";
        out += Print(*call.args[i]);
      }
      return out + ")";
    }
    case ExprKind::kParen:
      return "(" + Print(*static_cast<const ParenExpr&>(expr).expr) + ")";
  }
  return {};
}

namespace {

std::string Pretty(const Expr& expr, int level) {
  std::string indent;
  for (int i = 0; i < level; ++i) indent += kIndent;
  const std::string flat = Print(expr);
  if (flat.size() <= kPrettyLineBytesMax) return indent + flat;
  switch (expr.kind) {
    case ExprKind::kSubquery: {
      const auto& subquery = static_cast<const SubqueryExpr&>(expr);
      return Pretty(*subquery.expr, level) + PrintSubqueryTail(subquery);
    }
    case ExprKind::kUnary: {
      const auto& unary = static_cast<const UnaryExpr&>(expr);
      const std::string operand = Pretty(*unary.expr, level);
      return indent + (unary.negate ? "-" : "+") + operand.substr(indent.size());
    }
    case ExprKind::kBinary: {
      const auto& binary = static_cast<const BinaryExpr&>(expr);
      const std::string left =
          IsInfinityToAPower(binary) ? fmt::format("{}{}Inf", indent, kIndent) : Pretty(*binary.left, level + 1);
      return fmt::format("{}\n{}{}\n{}", left, indent, PrintOperator(binary), Pretty(*binary.right, level + 1));
    }
    case ExprKind::kAggregate: {
      const auto& aggregate = static_cast<const AggregateExpr&>(expr);
      std::string out = indent + PrintAggregateHead(aggregate) + "(\n";
      if (aggregate.param) out += Pretty(*aggregate.param, level + 1) + ",\n";
      return out + Pretty(*aggregate.expr, level + 1) + "\n" + indent + ")";
    }
    case ExprKind::kCall: {
      const auto& call = static_cast<const Call&>(expr);
      std::string out = fmt::format("{}{}(\n", indent, call.function->name);
      for (size_t i = 0; i < call.args.size(); ++i) {
        if (i > 0) out += ",\n";
        out += Pretty(*call.args[i], level + 1);
      }
      return out + "\n" + indent + ")";
    }
    case ExprKind::kParen:
      return fmt::format("{}(\n{}\n{})", indent, Pretty(*static_cast<const ParenExpr&>(expr).expr, level + 1), indent);
    default:
      return indent + flat;
  }
}

}  // namespace

std::string PrettyPrint(const Expr& expr) {
  return Pretty(expr, 0);
}

}  // namespace millstream::promql

#include "syntax_json.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "millstream/promql/functions.h"
#include "millstream/wire/json_writer.h"

namespace millstream::engine {
namespace {

using promql::AggregateExpr;
using promql::AtPreprocessor;
using promql::BinaryExpr;
using promql::Call;
using promql::Duration;
using promql::DurationExpr;
using promql::Expr;
using promql::ExprKind;
using promql::MatchCardinality;
using promql::MatrixSelector;
using promql::SubqueryExpr;
using promql::UnaryExpr;
using promql::ValueType;
using promql::VectorMatching;
using promql::VectorSelector;

std::string_view TypeName(ValueType type) {
  switch (type) {
    case ValueType::kScalar:
      return "scalar";
    case ValueType::kVector:
      return "vector";
    case ValueType::kMatrix:
      return "matrix";
    case ValueType::kString:
      return "string";
    case ValueType::kNone:
      break;
  }
  return "none";
}

std::string_view CardinalityName(MatchCardinality cardinality) {
  switch (cardinality) {
    case MatchCardinality::kOneToOne:
      return "one-to-one";
    case MatchCardinality::kManyToOne:
      return "many-to-one";
    case MatchCardinality::kOneToMany:
      return "one-to-many";
    case MatchCardinality::kManyToMany:
      break;
  }
  return "many-to-many";
}

std::string_view OperatorName(DurationExpr::Op op) {
  using Op = DurationExpr::Op;
  switch (op) {
    case Op::kStep:
      return "step";
    case Op::kRange:
      return "range";
    case Op::kNegate:
    case Op::kSub:
      return "-";
    case Op::kMul:
      return "*";
    case Op::kDiv:
      return "/";
    case Op::kMod:
      return "%";
    case Op::kPow:
      return "^";
    case Op::kMin:
      return "min_of";
    case Op::kMax:
      return "max_of";
    case Op::kAdd:
    case Op::kNumber:
    case Op::kParen:
      break;
  }
  return "+";
}

// The shortest digits that read back to the same double, without an exponent.
std::string PlainNumber(double value) {
  if (!std::isfinite(value)) return std::isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
  std::string text = fmt::format("{}", value);
  const size_t mark = text.find('e');
  if (mark == std::string::npos) {
    if (text.ends_with(".0")) text.resize(text.size() - 2);
    return text;
  }
  const int exponent = std::stoi(text.substr(mark + 1));
  std::string digits = text.substr(0, mark);
  const std::string sign = digits.starts_with('-') ? "-" : "";
  digits.erase(0, sign.size());
  if (digits.size() > 1) digits.erase(1, 1);
  const auto places = static_cast<size_t>(std::abs(exponent));
  if (exponent < 0) return fmt::format("{}0.{}{}", sign, std::string(places - 1, '0'), digits);
  const size_t whole = places + 1;
  if (digits.size() <= whole) return fmt::format("{}{}{}", sign, digits, std::string(whole - digits.size(), '0'));
  return fmt::format("{}{}.{}", sign, digits.substr(0, whole), digits.substr(whole));
}

// Fields come in the order of their names.
class SyntaxWriter {
 public:
  std::string Write(const Expr& expr) && {
    Node(expr);
    return std::move(out_);
  }

 private:
  template <typename... Args>
  void Format(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(out_), format, std::forward<Args>(args)...);
  }

  void String(std::string_view text) { wire::AppendJsonString(text, &out_); }

  template <typename Item, typename WriteItem>
  void List(std::string_view name, const std::vector<Item>& items, WriteItem write) {
    Format("\"{}\":[", name);
    for (const Item& item : items) {
      if (&item != items.data()) out_ += ',';
      write(item);
    }
    out_ += ']';
  }

  void Strings(std::string_view name, const std::vector<std::string>& texts) {
    List(name, texts, [this](const std::string& text) { String(text); });
  }

  void Node(const Expr* expr) {
    if (expr == nullptr) {
      out_ += "null";
    } else {
      Node(*expr);
    }
  }

  void Node(const Expr& expr) {
    switch (expr.kind) {
      case ExprKind::kNumberLiteral:
        return Format(R"({{"type":"numberLiteral","val":"{}"}})",
                      PlainNumber(static_cast<const promql::NumberLiteral&>(expr).value));
      case ExprKind::kStringLiteral:
        out_ += R"({"type":"stringLiteral","val":)";
        String(static_cast<const promql::StringLiteral&>(expr).value);
        out_ += '}';
        return;
      case ExprKind::kVectorSelector:
        return Selector(static_cast<const VectorSelector&>(expr), nullptr);
      case ExprKind::kMatrixSelector: {
        const auto& matrix = static_cast<const MatrixSelector&>(expr);
        return Selector(*matrix.selector, &matrix.range);
      }
      case ExprKind::kSubquery:
        return Subquery(static_cast<const SubqueryExpr&>(expr));
      case ExprKind::kUnary: {
        const auto& unary = static_cast<const UnaryExpr&>(expr);
        out_ += R"({"expr":)";
        Node(*unary.expr);
        return Format(R"(,"op":"{}","type":"unaryExpr"}})", unary.negate ? '-' : '+');
      }
      case ExprKind::kBinary:
        return Binary(static_cast<const BinaryExpr&>(expr));
      case ExprKind::kAggregate:
        return Aggregate(static_cast<const AggregateExpr&>(expr));
      case ExprKind::kCall:
        return Function(static_cast<const Call&>(expr));
      case ExprKind::kParen:
        out_ += R"({"expr":)";
        Node(*static_cast<const promql::ParenExpr&>(expr).expr);
        out_ += R"(,"type":"parenExpr"})";
        return;
    }
  }

  // `range` of a range vector.
  void Selector(const VectorSelector& selector, const Duration* range) {
    Format(R"({{"anchored":{},)", selector.anchored);
    List("matchers", selector.matchers, [this](const model::Matcher& matcher) {
      out_ += R"({"name":)";
      String(matcher.name());
      Format(R"(,"type":"{}","value":)", model::MatchTypeSymbol(matcher.type()));
      String(matcher.value());
      out_ += '}';
    });
    out_ += R"(,"name":)";
    String(selector.name);
    Length("offset", selector.offset);
    if (range != nullptr) Length("range", *range);
    Format(R"(,"smoothed":{})", selector.smoothed);
    At(selector.at, selector.at_preprocessor, /*step=*/nullptr);
    Format(R"(,"type":"{}"}})", range == nullptr ? "vectorSelector" : "matrixSelector");
  }

  void Subquery(const SubqueryExpr& subquery) {
    out_ += R"({"expr":)";
    Node(*subquery.expr);
    Length("offset", subquery.offset);
    Length("range", subquery.range);
    At(subquery.at, subquery.at_preprocessor, &subquery.step);
    out_ += R"(,"type":"subquery"})";
  }

  void Length(std::string_view name, const Duration& duration) {
    Format(R"(,"{}":{},"{}Expr":)", name, duration.expr ? 0 : duration.ms, name);
    if (duration.expr) {
      DurationNode(*duration.expr, /*wrapped=*/false);
    } else {
      out_ += "null";
    }
  }

  void At(const std::optional<TimestampMs>& at, AtPreprocessor preprocessor, const Duration* step) {
    Format(R"(,"startOrEnd":{})", preprocessor == AtPreprocessor::kStart ? R"("start")"
                                  : preprocessor == AtPreprocessor::kEnd ? R"("end")"
                                                                         : "null");
    if (step != nullptr) Length("step", *step);
    out_ += R"(,"timestamp":)";
    if (at) {
      Format("{}", *at);
    } else {
      out_ += "null";
    }
  }

  void DurationNode(const DurationExpr* expr) {
    if (expr == nullptr) {
      out_ += "null";
    } else {
      DurationNode(*expr, /*wrapped=*/false);
    }
  }

  // `wrapped` in parentheses: a number becomes a sum of itself alone, to have them.
  void DurationNode(const DurationExpr& expr, bool wrapped) {
    using Op = DurationExpr::Op;
    if (expr.op == Op::kParen) return DurationNode(*expr.left, /*wrapped=*/true);
    const bool negated = expr.op == Op::kNegate && expr.left->op == Op::kNumber;
    const bool is_number = expr.op == Op::kNumber || negated;
    if (is_number && !wrapped) {
      const DurationExpr& number = negated ? *expr.left : expr;
      return Format(R"({{"duration":{},"type":"numberLiteral","val":"{}"}})", number.number_is_duration,
                    PlainNumber(negated ? -number.seconds : number.seconds));
    }
    const bool is_unary = is_number || expr.op == Op::kNegate;
    out_ += R"({"lhs":)";
    DurationNode(is_unary ? nullptr : expr.left.get());
    Format(R"(,"op":"{}","rhs":)", is_number ? "+" : OperatorName(expr.op));
    DurationNode(is_number ? &expr : is_unary ? expr.left.get() : expr.right.get());
    Format(R"(,"type":"durationExpr","wrapped":{}}})", wrapped);
  }

  void Binary(const BinaryExpr& binary) {
    Format(R"({{"bool":{},"lhs":)", binary.return_bool);
    Node(*binary.left);
    out_ += R"(,"matching":)";
    if (binary.matching) {
      Matching(*binary.matching);
    } else {
      out_ += "null";
    }
    out_ += R"(,"op":)";
    String(promql::BinaryOpSymbol(binary.op));
    out_ += R"(,"rhs":)";
    Node(*binary.right);
    out_ += R"(,"type":"binaryExpr"})";
  }

  void Matching(const VectorMatching& matching) {
    Format(R"({{"card":"{}","fillValues":{{"lhs":)", CardinalityName(matching.cardinality));
    FillValue(matching.fill_left);
    out_ += R"(,"rhs":)";
    FillValue(matching.fill_right);
    out_ += "},";
    Strings("include", matching.include);
    out_ += ',';
    Strings("labels", matching.labels);
    Format(R"(,"on":{}}})", matching.on);
  }

  // JSON has no number for what is not finite.
  void FillValue(const std::optional<double>& value) {
    out_ += value && std::isfinite(*value) ? PlainNumber(*value) : "null";
  }

  void Aggregate(const AggregateExpr& aggregate) {
    out_ += R"({"expr":)";
    Node(*aggregate.expr);
    out_ += ',';
    Strings("grouping", aggregate.grouping);
    Format(R"(,"op":"{}","param":)", promql::AggregateOpName(aggregate.op));
    Node(aggregate.param.get());
    Format(R"(,"type":"aggregation","without":{}}})", aggregate.without);
  }

  void Function(const Call& call) {
    out_ += '{';
    List("args", call.args, [this](const promql::ExprPtr& arg) { Node(*arg); });
    out_ += R"(,"func":{)";
    List("argTypes", call.function->args, [this](ValueType type) { Format("\"{}\"", TypeName(type)); });
    Format(R"(,"name":"{}","returnType":"{}","variadic":{}}},"type":"call"}})", call.function->name,
           TypeName(call.function->result), call.function->variadic);
  }

  std::string out_;
};

}  // namespace

std::string SyntaxJson(const Expr& expr) {
  return SyntaxWriter().Write(expr);
}

}  // namespace millstream::engine

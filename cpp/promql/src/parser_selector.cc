#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <utility>

#include "millstream/model/labels.h"
#include "parser_impl.h"

namespace millstream::promql {

// Words that can name a metric before braces or alone.
bool CanNameMetric(const Token& token) {
  switch (token.kind) {
    case TokenKind::kIdentifier:
    case TokenKind::kMetricIdentifier:
    case TokenKind::kAnd:
    case TokenKind::kOr:
    case TokenKind::kUnless:
    case TokenKind::kOffset:
    case TokenKind::kAnchored:
    case TokenKind::kSmoothed:
    case TokenKind::kBy:
    case TokenKind::kWithout:
    case TokenKind::kFill:
    case TokenKind::kFillLeft:
    case TokenKind::kFillRight:
    case TokenKind::kStart:
    case TokenKind::kEndFunction:
    case TokenKind::kStep:
    case TokenKind::kRange:
    case TokenKind::kMinOf:
    case TokenKind::kMaxOf:
      return true;
    default:
      return IsAggregatorToken(token.kind);
  }
}

bool CanStartExpr(const Token& token) {
  switch (token.kind) {
    case TokenKind::kNumber:
    case TokenKind::kDuration:
    case TokenKind::kString:
    case TokenKind::kLeftParen:
    case TokenKind::kLeftBrace:
    case TokenKind::kAdd:
    case TokenKind::kSub:
      return true;
    default:
      return CanNameMetric(token);
  }
}

std::unique_ptr<VectorSelector> ParserImpl::ParseSelectorOnly() {
  if (!CanNameMetric(Peek()) && Peek().kind != TokenKind::kLeftBrace) {
    Unexpected();
    return nullptr;
  }
  auto selector = ParseVectorSelector();
  if (selector && Peek().kind != TokenKind::kEnd) {
    Unexpected();
    return nullptr;
  }
  return selector;
}

std::unique_ptr<VectorSelector> ParserImpl::ParseVectorSelector() {
  auto selector = std::make_unique<VectorSelector>();
  selector->position.start = Peek().position;
  if (Peek().kind != TokenKind::kLeftBrace) {
    const Token& name = Take();
    selector->name = name.text;
  }
  if (Accept(TokenKind::kLeftBrace) && !ParseMatchers(&selector->matchers)) return nullptr;
  if (!selector->name.empty()) {
    auto matcher = model::Matcher::Make(model::MatchType::kEqual, std::string(model::kMetricName), selector->name);
    selector->matchers.push_back(std::move(matcher).value());
  }
  selector->position.end = end_;
  return selector;
}

bool ParserImpl::ParseMatchers(std::vector<model::Matcher>* matchers) {
  if (Accept(TokenKind::kRightBrace)) return true;
  while (true) {
    if (!ParseMatcher(matchers)) return false;
    if (Accept(TokenKind::kComma)) {
      if (Accept(TokenKind::kRightBrace)) return true;
      continue;
    }
    if (Accept(TokenKind::kRightBrace)) return true;
    Unexpected({"label matching", "\",\" or \"}\""});
    return false;
  }
}

bool ParserImpl::ParseMatcher(std::vector<model::Matcher>* matchers) {
  const Token& name_token = Peek();
  std::string name;
  if (name_token.kind == TokenKind::kString) {
    auto text = Unquote(name_token.text);
    if (!text) {
      Fail(name_token.range(), "error unquoting string " + model::Quote(name_token.text) + ": invalid syntax");
      return false;
    }
    name = std::move(*text);
  } else if (name_token.kind == TokenKind::kIdentifier) {
    name = name_token.text;
  } else {
    Unexpected({"label matching", "identifier or \"}\""});
    return false;
  }
  Take();
  model::MatchType type = model::MatchType::kEqual;
  switch (Peek().kind) {
    case TokenKind::kMatchEqual:
      break;
    case TokenKind::kNotEqual:
      type = model::MatchType::kNotEqual;
      break;
    case TokenKind::kMatchRegex:
      type = model::MatchType::kRegex;
      break;
    case TokenKind::kMatchNotRegex:
      type = model::MatchType::kNotRegex;
      break;
    default:
      if (name_token.kind != TokenKind::kString) {
        Unexpected({"label matching", "label matching operator"});
        return false;
      }
      // A quoted name alone is the metric's.
      matchers->push_back(
          model::Matcher::Make(model::MatchType::kEqual, std::string(model::kMetricName), name).value());
      return true;
  }
  Take();
  if (Peek().kind != TokenKind::kString) {
    Unexpected({"label matching", "string"});
    return false;
  }
  const Token& value_token = Take();
  auto value = Unquote(value_token.text);
  if (!value) {
    Fail(value_token.range(), "error unquoting string " + model::Quote(value_token.text) + ": invalid syntax");
    return false;
  }
  auto matcher = model::Matcher::Make(type, std::move(name), std::move(*value));
  if (!matcher.ok()) {
    Fail({name_token.position, end_}, std::string(matcher.status().message()));
    return false;
  }
  matchers->push_back(std::move(matcher).value());
  return true;
}

ExprPtr ParserImpl::ParsePostfix(ExprPtr expr) {
  while (expr) {
    switch (Peek().kind) {
      case TokenKind::kOffset:
        expr = ParseOffset(std::move(expr));
        break;
      case TokenKind::kAt:
        expr = ParseAt(std::move(expr));
        break;
      case TokenKind::kLeftBracket:
        expr = ParseBracket(std::move(expr));
        break;
      case TokenKind::kAnchored:
      case TokenKind::kSmoothed:
        expr = ParseExtended(std::move(expr));
        break;
      default:
        return expr;
    }
  }
  return nullptr;
}

ExprPtr ParserImpl::ParseOffset(ExprPtr expr) {
  Take();
  std::unique_ptr<DurationExpr> value;
  {
    const Within within(this, {"offset", kDurationForms});
    value = ParseOffsetValue();
  }
  if (!value) return nullptr;
  Duration* offset = nullptr;
  if (VectorSelector* selector = SelectorOf(expr.get())) {
    offset = &selector->offset;
  } else if (expr->kind == ExprKind::kSubquery) {
    offset = &static_cast<SubqueryExpr*>(expr.get())->offset;
  } else {
    Fail(expr->position,
         "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery");
    return nullptr;
  }
  if (offset->ms != 0 || offset->expr) {
    Fail(expr->position, "offset may not be set multiple times");
    return nullptr;
  }
  *offset = ToDuration(std::move(value));
  expr->position.end = end_;
  return expr;
}

ExprPtr ParserImpl::ParseAt(ExprPtr expr) {
  const PositionRange whole = expr->position;
  Take();
  const Within within(this, {"@", "timestamp"});
  std::optional<TimestampMs> at;
  AtPreprocessor preprocessor = AtPreprocessor::kNone;
  if (Peek().kind == TokenKind::kStart || Peek().kind == TokenKind::kEndFunction) {
    preprocessor = Take().kind == TokenKind::kStart ? AtPreprocessor::kStart : AtPreprocessor::kEnd;
    if (!Require(TokenKind::kLeftParen) || !Require(TokenKind::kRightParen)) return nullptr;
  } else {
    const auto seconds = ParseSignedNumber();
    if (!seconds) return nullptr;
    const double ms = std::round(*seconds * 1000);
    constexpr double kLimit = static_cast<double>(std::numeric_limits<int64_t>::max());
    if (!(ms > -kLimit && ms < kLimit)) {
      Fail(whole, fmt::format("timestamp out of bounds for @ modifier: {:f}", *seconds));
      return nullptr;
    }
    at = static_cast<TimestampMs>(ms);
  }
  std::optional<TimestampMs>* at_field = nullptr;
  AtPreprocessor* preprocessor_field = nullptr;
  if (VectorSelector* selector = SelectorOf(expr.get())) {
    at_field = &selector->at;
    preprocessor_field = &selector->at_preprocessor;
  } else if (expr->kind == ExprKind::kSubquery) {
    auto* subquery = static_cast<SubqueryExpr*>(expr.get());
    at_field = &subquery->at;
    preprocessor_field = &subquery->at_preprocessor;
  } else {
    Fail(whole, "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery");
    return nullptr;
  }
  if (at_field->has_value() || *preprocessor_field != AtPreprocessor::kNone) {
    Fail(whole, "@ <timestamp> may not be set multiple times");
    return nullptr;
  }
  *at_field = at;
  *preprocessor_field = preprocessor;
  expr->position.end = end_;
  return expr;
}

ExprPtr ParserImpl::ParseExtended(ExprPtr expr) {
  const Token& token = Take();
  const bool anchored = token.kind == TokenKind::kAnchored;
  const std::string_view name = anchored ? "anchored" : "smoothed";
  if (!options_.extended_range_selectors) {
    Fail(expr->position, fmt::format("{} modifier is experimental and not enabled", name));
    return nullptr;
  }
  VectorSelector* selector = SelectorOf(expr.get());
  if (selector == nullptr) {
    Fail(expr->position, expr->kind == ExprKind::kSubquery
                             ? fmt::format("{} modifier is not supported for subqueries", name)
                             : fmt::format("{} modifier not implemented", name));
    return nullptr;
  }
  (anchored ? selector->anchored : selector->smoothed) = true;
  if (selector->anchored && selector->smoothed) {
    Fail(expr->position, "anchored and smoothed modifiers cannot be used together");
    return nullptr;
  }
  return expr;
}

ExprPtr ParserImpl::ParseBracket(ExprPtr expr) {
  const Token& bracket = Take();
  std::unique_ptr<DurationExpr> range;
  {
    const Within within(this, {"subquery or range selector", kDurationForms});
    range = ParsePositiveDuration();
  }
  if (!range) return nullptr;
  if (Accept(TokenKind::kColon)) {
    auto subquery = std::make_unique<SubqueryExpr>();
    subquery->range = ToDuration(std::move(range));
    if (Peek().kind != TokenKind::kRightBracket) {
      const Within within(this, {"subquery selector", "number, duration, step(), range(), or \"]\""});
      auto step = ParsePositiveDuration();
      if (!step) return nullptr;
      subquery->step = ToDuration(std::move(step));
    }
    if (!Accept(TokenKind::kRightBracket)) return Unexpected({"subquery selector", "\"]\""});
    subquery->position = {expr->position.start, end_};
    const int height = expr->height;
    subquery->expr = std::move(expr);
    return Nested<ExprPtr>(std::move(subquery), {height});
  }
  if (!Accept(TokenKind::kRightBracket)) return Unexpected({"subquery or range", "\":\" or \"]\""});
  const PositionRange brackets = {bracket.position, end_};
  if (expr->kind != ExprKind::kVectorSelector) {
    Fail(brackets, "ranges only allowed for vector selectors");
    return nullptr;
  }
  auto matrix = std::make_unique<MatrixSelector>();
  matrix->selector.reset(static_cast<VectorSelector*>(expr.release()));
  const VectorSelector& selector = *matrix->selector;
  if (selector.offset.ms != 0 || selector.offset.expr) {
    Fail(brackets, "no offset modifiers allowed before range");
    return nullptr;
  }
  if (selector.at || selector.at_preprocessor != AtPreprocessor::kNone) {
    Fail(brackets, "no @ modifiers allowed before range");
    return nullptr;
  }
  matrix->range = ToDuration(std::move(range));
  matrix->position = {selector.position.start, end_};
  return matrix;
}

}  // namespace millstream::promql

#include "millstream/promql/parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "check.h"
#include "lexer.h"
#include "millstream/model/labels.h"
#include "millstream/promql/functions.h"

namespace millstream::promql {
namespace {

// Seconds that still fit Prometheus's int64 of nanoseconds.
constexpr double kDurationSecondsMax = 9223372036.0;

constexpr std::string_view kDurationForms = "number, duration, step(), or range()";

BinaryOp OperatorOf(TokenKind kind) {
  switch (kind) {
    case TokenKind::kAdd:
      return BinaryOp::kAdd;
    case TokenKind::kSub:
      return BinaryOp::kSub;
    case TokenKind::kMul:
      return BinaryOp::kMul;
    case TokenKind::kDiv:
      return BinaryOp::kDiv;
    case TokenKind::kMod:
      return BinaryOp::kMod;
    case TokenKind::kPow:
      return BinaryOp::kPow;
    case TokenKind::kAtan2:
      return BinaryOp::kAtan2;
    case TokenKind::kEqual:
      return BinaryOp::kEqual;
    case TokenKind::kNotEqual:
      return BinaryOp::kNotEqual;
    case TokenKind::kLess:
      return BinaryOp::kLess;
    case TokenKind::kLessEqual:
      return BinaryOp::kLessEqual;
    case TokenKind::kGreater:
      return BinaryOp::kGreater;
    case TokenKind::kGreaterEqual:
      return BinaryOp::kGreaterEqual;
    case TokenKind::kAnd:
      return BinaryOp::kAnd;
    case TokenKind::kOr:
      return BinaryOp::kOr;
    case TokenKind::kTrimUpper:
      return BinaryOp::kTrimUpper;
    case TokenKind::kTrimLower:
      return BinaryOp::kTrimLower;
    default:
      return BinaryOp::kUnless;
  }
}

constexpr int kUnaryPrecedence = 5;

int Precedence(BinaryOp op) {
  switch (op) {
    case BinaryOp::kOr:
      return 1;
    case BinaryOp::kAnd:
    case BinaryOp::kUnless:
      return 2;
    case BinaryOp::kAdd:
    case BinaryOp::kSub:
      return 4;
    case BinaryOp::kMul:
    case BinaryOp::kDiv:
    case BinaryOp::kMod:
    case BinaryOp::kAtan2:
      return kUnaryPrecedence;
    case BinaryOp::kPow:
      return 6;
    default:
      return 3;
  }
}

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

// Words whose functions the grammar knows by token, in any case.
bool IsFunctionKeyword(TokenKind kind) {
  return kind >= TokenKind::kStart && kind <= TokenKind::kMaxOf;
}

// Recursive descent with precedence climbing. Every function that returns a pointer returns null after Fail.
class Parser {
 public:
  Parser(std::string_view query, const ParserOptions& options)
      : query_(query), options_(options), tokens_(Lex(query)) {}

  ExprPtr ParseWhole() {
    if (Peek().kind == TokenKind::kEnd) {
      Fail({0, 0}, "no expression found in input");
      return nullptr;
    }
    ExprPtr expr = ParseBinary(0);
    if (expr && Peek().kind != TokenKind::kEnd) return Unexpected();
    return expr;
  }

  std::unique_ptr<VectorSelector> ParseSelectorOnly() {
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

  const ParseError& error() const { return error_; }
  bool too_deep() const { return too_deep_; }

 private:
  // Where an unexpected token stands, for the message: `in label matching, expected …`.
  struct Context {
    std::string_view in;
    std::string_view expected;
  };

  // Sets the context for a scope.
  class Within {
   public:
    Within(Parser* parser, Context context) : parser_(parser), saved_(parser->context_) { parser->context_ = context; }
    ~Within() { parser_->context_ = saved_; }
    Within(const Within&) = delete;
    Within& operator=(const Within&) = delete;

   private:
    Parser* parser_;
    Context saved_;
  };

  const Token& Peek(size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  const Token& Take() {
    const Token& token = Peek();
    if (at_ + 1 < tokens_.size()) ++at_;
    end_ = token.range().end;
    return token;
  }
  bool Accept(TokenKind kind) {
    if (Peek().kind != kind) return false;
    Take();
    return true;
  }

  // The first failure counts.
  void Fail(PositionRange at, std::string message) {
    if (failed_) return;
    failed_ = true;
    error_ = {at, std::move(message)};
  }

  std::nullptr_t Unexpected() { return Unexpected(context_); }
  std::nullptr_t Unexpected(Context context) {
    const Token& token = Peek();
    if (token.kind == TokenKind::kError) {
      Fail(token.range(), token.error);
      return nullptr;
    }
    std::string message = "unexpected " + DescribeToken(token);
    if (!context.in.empty()) message += fmt::format(" in {}", context.in);
    if (!context.expected.empty()) message += fmt::format(", expected {}", context.expected);
    Fail(token.range(), std::move(message));
    return nullptr;
  }

  bool Require(TokenKind kind) {
    if (Accept(kind)) return true;
    Unexpected();
    return false;
  }

  // Counts a level of recursion for a scope.
  class Level {
   public:
    explicit Level(Parser* parser) : parser_(parser) { ++parser->depth_; }
    ~Level() { --parser_->depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Parser* parser_;
  };

  bool TooDeep(int depth) {
    if (depth <= kExpressionDepthMax) return false;
    too_deep_ = true;
    Fail(Peek().range(), fmt::format("expression is nested more than {} levels deep", kExpressionDepthMax));
    return true;
  }

  // Sets the height of a node from its children's; null when the tree is too high. Chains nest without recursion, so
  // counting the parser's own recursion is not enough.
  template <typename Node>
  Node Nested(Node node, std::initializer_list<int> children) {
    node->height = 1 + std::max(children);
    if (TooDeep(node->height)) return nullptr;
    return node;
  }

  ExprPtr ParseBinary(int precedence_min) {
    const Level level(this);
    if (TooDeep(depth_)) return nullptr;
    ExprPtr left = ParseUnary();
    while (left && IsOperatorToken(Peek().kind)) {
      const BinaryOp op = OperatorOf(Peek().kind);
      const int precedence = Precedence(op);
      if (precedence < precedence_min) break;
      Take();
      auto binary = std::make_unique<BinaryExpr>();
      binary->op = op;
      binary->matching = std::make_unique<VectorMatching>();
      if (!ParseModifiers(binary.get())) return nullptr;
      // Only ^ groups to the right.
      binary->right = ParseBinary(op == BinaryOp::kPow ? precedence : precedence + 1);
      if (!binary->right) return nullptr;
      binary->position = {left->position.start, binary->right->position.end};
      binary->left = std::move(left);
      const VectorMatching& matching = *binary->matching;
      if (!options_.binop_fill_modifiers && (matching.fill_left || matching.fill_right)) {
        Fail(binary->position, "binop fill modifiers are experimental and not enabled");
        return nullptr;
      }
      const int height = std::max(binary->left->height, binary->right->height);
      left = Nested<ExprPtr>(std::move(binary), {height});
    }
    return left;
  }

  bool ParseModifiers(BinaryExpr* binary) {
    VectorMatching& matching = *binary->matching;
    binary->return_bool = Accept(TokenKind::kBool);
    if (Peek().kind == TokenKind::kOn || Peek().kind == TokenKind::kIgnoring) {
      matching.on = Take().kind == TokenKind::kOn;
      if (!ParseGrouping(&matching.labels)) return false;
      const TokenKind group = Peek().kind;
      if (group == TokenKind::kGroupLeft || group == TokenKind::kGroupRight) {
        Take();
        matching.cardinality =
            group == TokenKind::kGroupLeft ? MatchCardinality::kManyToOne : MatchCardinality::kOneToMany;
        if (Peek().kind == TokenKind::kLeftParen && !ParseGrouping(&matching.include)) return false;
      }
    }
    if (Peek(1).kind != TokenKind::kLeftParen) return true;
    if (Peek().kind == TokenKind::kFill) {
      Take();
      if (!ParseFillValue(&matching.fill_left)) return false;
      matching.fill_right = matching.fill_left;
      return true;
    }
    while (Peek(1).kind == TokenKind::kLeftParen) {
      if (Peek().kind == TokenKind::kFillLeft && !matching.fill_left) {
        Take();
        if (!ParseFillValue(&matching.fill_left)) return false;
      } else if (Peek().kind == TokenKind::kFillRight && !matching.fill_right) {
        Take();
        if (!ParseFillValue(&matching.fill_right)) return false;
      } else {
        break;
      }
    }
    return true;
  }

  bool ParseFillValue(std::optional<double>* value) {
    if (!Require(TokenKind::kLeftParen)) return false;
    const auto number = ParseSignedNumber();
    if (!number) return false;
    *value = *number;
    return Require(TokenKind::kRightParen);
  }

  // A number or duration with an optional sign.
  std::optional<double> ParseSignedNumber() {
    double sign = 1;
    if (Peek().kind == TokenKind::kAdd || Peek().kind == TokenKind::kSub) {
      if (Take().kind == TokenKind::kSub) sign = -1;
    }
    if (Peek().kind != TokenKind::kNumber && Peek().kind != TokenKind::kDuration) {
      Unexpected();
      return std::nullopt;
    }
    const auto value = NumberValue(Take());
    if (!value) return std::nullopt;
    return sign * *value;
  }

  // Of a number or duration token; seconds for the latter.
  std::optional<double> NumberValue(const Token& token) {
    if (token.kind == TokenKind::kDuration) {
      const auto ms = ParseDuration(token.text);
      if (!ms.ok()) {
        Fail(token.range(), std::string(ms.status().message()));
        return std::nullopt;
      }
      return static_cast<double>(*ms) / 1000;
    }
    const auto value = ParseNumber(token.text);
    if (!value) {
      Fail(token.range(), fmt::format("error parsing number: strconv.ParseFloat: parsing {}: value out of range",
                                      model::Quote(token.text)));
    }
    return value;
  }

  ExprPtr ParseUnary() {
    const Token& token = Peek();
    if (token.kind != TokenKind::kAdd && token.kind != TokenKind::kSub) {
      ExprPtr primary = ParsePrimary();
      return primary ? ParsePostfix(std::move(primary)) : nullptr;
    }
    const bool negate = token.kind == TokenKind::kSub;
    const int32_t start = token.position;
    Take();
    ExprPtr operand = ParseBinary(kUnaryPrecedence + 1);
    if (!operand) return nullptr;
    if (operand->kind == ExprKind::kNumberLiteral) {
      auto* number = static_cast<NumberLiteral*>(operand.get());
      if (negate) number->value = -number->value;
      number->position.start = start;
      return operand;
    }
    auto unary = std::make_unique<UnaryExpr>();
    unary->negate = negate;
    unary->position = {start, operand->position.end};
    const int height = operand->height;
    unary->expr = std::move(operand);
    return Nested<ExprPtr>(std::move(unary), {height});
  }

  ExprPtr ParsePrimary() {
    const Token& token = Peek();
    switch (token.kind) {
      case TokenKind::kNumber:
      case TokenKind::kDuration: {
        Take();
        const auto value = NumberValue(token);
        if (!value) return nullptr;
        auto number = std::make_unique<NumberLiteral>(*value);
        number->is_duration = token.kind == TokenKind::kDuration;
        number->position = token.range();
        return number;
      }
      case TokenKind::kString: {
        Take();
        auto text = Unquote(token.text);
        if (!text) {
          Fail(token.range(), "error unquoting string " + model::Quote(token.text) + ": invalid syntax");
          return nullptr;
        }
        auto literal = std::make_unique<StringLiteral>(std::move(*text));
        literal->position = token.range();
        return literal;
      }
      case TokenKind::kLeftParen: {
        Take();
        auto paren = std::make_unique<ParenExpr>();
        paren->expr = ParseBinary(0);
        if (!paren->expr || !Require(TokenKind::kRightParen)) return nullptr;
        paren->position = {token.position, end_};
        const int height = paren->expr->height;
        return Nested<ExprPtr>(std::move(paren), {height});
      }
      case TokenKind::kLeftBrace:
        return ParseVectorSelector();
      default:
        break;
    }
    const TokenKind next = Peek(1).kind;
    if (IsAggregatorToken(token.kind) &&
        (next == TokenKind::kLeftParen || next == TokenKind::kBy || next == TokenKind::kWithout)) {
      return ParseAggregate();
    }
    if (next == TokenKind::kLeftParen && (token.kind == TokenKind::kIdentifier || IsFunctionKeyword(token.kind))) {
      return ParseCall();
    }
    if (CanNameMetric(token)) return ParseVectorSelector();
    return Unexpected();
  }

  // ---- Selectors ----

  std::unique_ptr<VectorSelector> ParseVectorSelector() {
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

  // After the left brace, up to and with the right one.
  bool ParseMatchers(std::vector<model::Matcher>* matchers) {
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

  bool ParseMatcher(std::vector<model::Matcher>* matchers) {
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

  ExprPtr ParsePostfix(ExprPtr expr) {
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

  // The selector whose modifiers a postfix of `expr` sets; null when it has none.
  static VectorSelector* SelectorOf(Expr* expr) {
    if (expr->kind == ExprKind::kVectorSelector) return static_cast<VectorSelector*>(expr);
    if (expr->kind == ExprKind::kMatrixSelector) return static_cast<MatrixSelector*>(expr)->selector.get();
    return nullptr;
  }

  ExprPtr ParseOffset(ExprPtr expr) {
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
      Fail(expr->position, "offset modifier may not be set multiple times");
      return nullptr;
    }
    *offset = ToDuration(std::move(value));
    expr->position.end = end_;
    return expr;
  }

  // A signed literal, call or parenthesis: `offset 1 + 2` adds 2 to the selector's values.
  std::unique_ptr<DurationExpr> ParseOffsetValue() {
    const Token& first = Peek();
    const bool has_sign = first.kind == TokenKind::kAdd || first.kind == TokenKind::kSub;
    if (has_sign) Take();
    auto value = ParseDurationPrimary();
    if (!value || !has_sign) return value;
    return ApplySign(first, std::move(value));
  }

  ExprPtr ParseAt(ExprPtr expr) {
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

  ExprPtr ParseExtended(ExprPtr expr) {
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

  ExprPtr ParseBracket(ExprPtr expr) {
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

  // ---- Durations ----

  static Duration ToDuration(std::unique_ptr<DurationExpr> expr) {
    if (expr->op != DurationExpr::Op::kNumber) return {0, std::move(expr)};
    return {static_cast<int64_t>(std::round(expr->seconds * 1000)), nullptr};
  }

  std::unique_ptr<DurationExpr> ParsePositiveDuration() {
    auto expr = ParseDurationSum(0);
    if (expr && expr->op == DurationExpr::Op::kNumber && expr->seconds <= 0) {
      Fail(expr->position, "duration must be greater than 0");
      return nullptr;
    }
    return expr;
  }

  static std::optional<DurationExpr::Op> DurationOperator(TokenKind kind) {
    using Op = DurationExpr::Op;
    switch (kind) {
      case TokenKind::kAdd:
        return Op::kAdd;
      case TokenKind::kSub:
        return Op::kSub;
      case TokenKind::kMul:
        return Op::kMul;
      case TokenKind::kDiv:
        return Op::kDiv;
      case TokenKind::kMod:
        return Op::kMod;
      case TokenKind::kPow:
        return Op::kPow;
      default:
        return std::nullopt;
    }
  }

  static int DurationPrecedence(DurationExpr::Op op) {
    using Op = DurationExpr::Op;
    if (op == Op::kPow) return kUnaryPrecedence + 1;
    return op == Op::kAdd || op == Op::kSub ? kUnaryPrecedence - 1 : kUnaryPrecedence;
  }

  std::unique_ptr<DurationExpr> ParseDurationSum(int precedence_min) {
    using Op = DurationExpr::Op;
    const Level level(this);
    if (TooDeep(depth_)) return nullptr;
    const Token& first = Peek();
    std::unique_ptr<DurationExpr> left;
    if (first.kind == TokenKind::kAdd || first.kind == TokenKind::kSub) {
      Take();
      left = ParseDurationSum(kUnaryPrecedence + 1);
      if (left) left = ApplySign(first, std::move(left));
    } else {
      left = ParseDurationPrimary();
    }
    while (left) {
      const auto op = DurationOperator(Peek().kind);
      if (!op || DurationPrecedence(*op) < precedence_min) break;
      const PositionRange op_position = Take().range();
      auto binary = std::make_unique<DurationExpr>();
      binary->op = *op;
      binary->right = ParseDurationSum(DurationPrecedence(*op) + (*op == Op::kPow ? 0 : 1));
      if (!binary->right) return nullptr;
      if ((*op == Op::kDiv || *op == Op::kMod) && binary->right->op == Op::kNumber && binary->right->seconds == 0) {
        Fail(op_position, *op == Op::kDiv ? "division by zero" : "modulo by zero");
        return nullptr;
      }
      binary->position = {left->position.start, binary->right->position.end};
      binary->left = std::move(left);
      const int height = std::max(binary->left->height, binary->right->height);
      left = Nested(std::move(binary), {height});
    }
    return left;
  }

  // Folds the sign into a literal. A plus changes nothing.
  std::unique_ptr<DurationExpr> ApplySign(const Token& sign, std::unique_ptr<DurationExpr> operand) {
    const bool negate = sign.kind == TokenKind::kSub;
    if (operand->op == DurationExpr::Op::kNumber || !negate) {
      if (negate) operand->seconds = -operand->seconds;
      operand->position.start = sign.position;
      return operand;
    }
    auto negated = std::make_unique<DurationExpr>();
    negated->op = DurationExpr::Op::kNegate;
    negated->position = {sign.position, operand->position.end};
    const int height = operand->height;
    negated->left = std::move(operand);
    return Nested(std::move(negated), {height});
  }

  std::unique_ptr<DurationExpr> ParseDurationPrimary() {
    using Op = DurationExpr::Op;
    const Level level(this);
    if (TooDeep(depth_)) return nullptr;
    const Token& token = Peek();
    auto expr = std::make_unique<DurationExpr>();
    switch (token.kind) {
      case TokenKind::kNumber:
      case TokenKind::kDuration: {
        Take();
        const auto seconds = NumberValue(token);
        if (!seconds) return nullptr;
        if (!(std::abs(*seconds) <= kDurationSecondsMax)) {
          Fail(token.range(), "duration out of range");
          return nullptr;
        }
        expr->seconds = *seconds;
        expr->number_is_duration = token.kind == TokenKind::kDuration;
        break;
      }
      case TokenKind::kStep:
      case TokenKind::kRange:
        Take();
        expr->op = token.kind == TokenKind::kStep ? Op::kStep : Op::kRange;
        if (!Require(TokenKind::kLeftParen) || !Require(TokenKind::kRightParen)) return nullptr;
        break;
      case TokenKind::kMinOf:
      case TokenKind::kMaxOf:
        Take();
        expr->op = token.kind == TokenKind::kMinOf ? Op::kMin : Op::kMax;
        if (!Require(TokenKind::kLeftParen)) return nullptr;
        expr->left = ParseDurationSum(0);
        if (!expr->left || !Require(TokenKind::kComma)) return nullptr;
        expr->right = ParseDurationSum(0);
        if (!expr->right || !Require(TokenKind::kRightParen)) return nullptr;
        break;
      case TokenKind::kLeftParen:
        Take();
        expr->op = Op::kParen;
        expr->left = ParseDurationSum(0);
        if (!expr->left || !Require(TokenKind::kRightParen)) return nullptr;
        break;
      default:
        Unexpected();
        return nullptr;
    }
    expr->position = {token.position, end_};
    const int height = std::max(expr->left ? expr->left->height : 0, expr->right ? expr->right->height : 0);
    return Nested(std::move(expr), {height});
  }

  // ---- Aggregations and calls ----

  ExprPtr ParseAggregate() {
    const Token& name = Take();
    auto aggregate = std::make_unique<AggregateExpr>();
    aggregate->op = static_cast<AggregateOp>(static_cast<int>(name.kind) - static_cast<int>(TokenKind::kSum));
    std::vector<ExprPtr> args;
    bool grouped = false;
    {
      const Within within(this, {"aggregation", {}});
      if (!ParseAggregateModifier(aggregate.get(), &grouped) || !ParseArguments(&args)) return nullptr;
    }
    if (!grouped && !ParseAggregateModifier(aggregate.get(), &grouped)) return nullptr;
    aggregate->position = {name.position, end_};
    if (args.empty()) {
      Fail(aggregate->position, "no arguments for aggregate expression provided");
      return nullptr;
    }
    const size_t wanted = aggregate->op >= AggregateOp::kTopK ? 2 : 1;
    if (!options_.experimental_functions && aggregate->op >= AggregateOp::kLimitK) {
      Fail(aggregate->position,
           fmt::format("{}() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
                       AggregateOpName(aggregate->op)));
      return nullptr;
    }
    if (args.size() != wanted) {
      Fail(aggregate->position,
           fmt::format("wrong number of arguments for aggregate expression provided, expected {}, got {}", wanted,
                       args.size()));
      return nullptr;
    }
    const int height = std::max(args.front()->height, args.back()->height);
    aggregate->expr = std::move(args.back());
    if (wanted == 2) aggregate->param = std::move(args.front());
    return Nested<ExprPtr>(std::move(aggregate), {height});
  }

  bool ParseAggregateModifier(AggregateExpr* aggregate, bool* grouped) {
    if (Peek().kind != TokenKind::kBy && Peek().kind != TokenKind::kWithout) return true;
    aggregate->without = Take().kind == TokenKind::kWithout;
    *grouped = true;
    return ParseGrouping(&aggregate->grouping);
  }

  bool ParseGrouping(std::vector<std::string>* labels) {
    if (!Accept(TokenKind::kLeftParen)) {
      Unexpected({"grouping opts", "\"(\""});
      return false;
    }
    if (Accept(TokenKind::kRightParen)) return true;
    while (true) {
      const Token& token = Peek();
      if (token.kind == TokenKind::kString) {
        auto name = Unquote(token.text);
        if (!name || name->empty()) {
          Fail(token.range(), fmt::format("unexpected {} in grouping opts, expected label", DescribeToken(token)));
          return false;
        }
        labels->push_back(std::move(*name));
      } else if (IsWordToken(token) && !(token.kind == TokenKind::kNumber)) {
        labels->emplace_back(token.text);
      } else {
        Unexpected({"grouping opts", "label"});
        return false;
      }
      Take();
      if (Accept(TokenKind::kComma)) {
        if (Accept(TokenKind::kRightParen)) return true;
        continue;
      }
      if (Accept(TokenKind::kRightParen)) return true;
      Unexpected({"grouping opts", "\",\" or \")\""});
      return false;
    }
  }

  ExprPtr ParseCall() {
    const Token& name = Take();
    // The grammar knows a few names as keywords, which it takes in any case.
    std::string function_name(name.text);
    if (IsFunctionKeyword(name.kind)) {
      for (char& c : function_name) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    std::vector<ExprPtr> args;
    if (!ParseArguments(&args)) return nullptr;
    const FunctionSignature* function = FindFunction(function_name);
    if (function == nullptr) {
      Fail(name.range(), "unknown function with name " + model::Quote(function_name));
      return nullptr;
    }
    if (function->experimental && !options_.experimental_functions) {
      Fail(name.range(), fmt::format("function {} is not enabled", model::Quote(function_name)));
      return nullptr;
    }
    auto call = std::make_unique<Call>(*function);
    call->args = std::move(args);
    call->position = {name.position, end_};
    int height = 0;
    for (const ExprPtr& arg : call->args) height = std::max(height, arg->height);
    return Nested<ExprPtr>(std::move(call), {height});
  }

  bool ParseArguments(std::vector<ExprPtr>* args) {
    if (!Require(TokenKind::kLeftParen)) return false;
    if (Accept(TokenKind::kRightParen)) return true;
    while (true) {
      ExprPtr arg = ParseBinary(0);
      if (!arg) return false;
      args->push_back(std::move(arg));
      const Token& separator = Peek();
      if (Accept(TokenKind::kRightParen)) return true;
      if (!Require(TokenKind::kComma)) return false;
      if (Peek().kind == TokenKind::kRightParen) {
        Fail(separator.range(), "trailing commas not allowed in function call args");
        return false;
      }
    }
  }

  std::string_view query_;
  ParserOptions options_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int32_t end_ = 0;  // where the last token taken ends
  int depth_ = 0;
  Context context_;
  bool failed_ = false;
  bool too_deep_ = false;
  ParseError error_;
};

Status ToStatus(std::string_view query, const ParseError& error, StatusCode code) {
  return Status(code, fmt::format("{}: parse error: {}", LineColumn(query, error.position.start), error.message));
}

Status CheckLength(std::string_view query) {
  if (query.size() <= kQueryBytesMax) return Status::Ok();
  return ResourceExhausted("query of {} bytes is longer than {}", query.size(), kQueryBytesMax);
}

}  // namespace

Result<ExprPtr> ParseExpr(std::string_view query, const ParserOptions& options, ParseError* error) {
  MS_RETURN_IF_ERROR(CheckLength(query));
  Parser parser(query, options);
  ExprPtr expr = parser.ParseWhole();
  std::optional<ParseError> wrong;
  if (expr == nullptr) {
    wrong = parser.error();
  } else {
    wrong = CheckTypes(expr.get(), query);
  }
  if (!wrong) return expr;
  if (error != nullptr) *error = *wrong;
  return ToStatus(query, *wrong, parser.too_deep() ? StatusCode::kResourceExhausted : StatusCode::kInvalidArgument);
}

Result<std::vector<model::Matcher>> ParseMetricSelector(std::string_view text) {
  MS_RETURN_IF_ERROR(CheckLength(text));
  Parser parser(text, {});
  auto selector = parser.ParseSelectorOnly();
  if (selector == nullptr) return ToStatus(text, parser.error(), StatusCode::kInvalidArgument);
  const bool selective = std::any_of(selector->matchers.begin(), selector->matchers.end(),
                                     [](const model::Matcher& matcher) { return !matcher.MatchesEmpty(); });
  if (!selective) return InvalidArgument("match[] must contain at least one non-empty matcher");
  return std::move(selector->matchers);
}

std::string LineColumn(std::string_view query, int32_t byte) {
  const size_t end = std::min(static_cast<size_t>(std::max(byte, 0)), query.size());
  const std::string_view before = query.substr(0, end);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t line_break = before.rfind('\n');
  const size_t column = line_break == std::string_view::npos ? end + 1 : end - line_break;
  return fmt::format("{}:{}", line, column);
}

}  // namespace millstream::promql

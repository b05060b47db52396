// ParserImpl: one parse of one query.
//
// Recursive descent with precedence climbing. Every function that returns a pointer or an optional returns nothing
// after Fail, and one that returns bool returns false.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lexer.h"
#include "millstream/promql/parser.h"

namespace millstream::promql {

// That of * and /, which a unary sign shares.
inline constexpr int kUnaryPrecedence = 5;
inline constexpr std::string_view kDurationForms = "number, duration, step(), or range()";

// Whether the word can name a metric before braces or alone.
bool CanNameMetric(const Token& token);
// Whether an expression can begin with the token.
bool CanStartExpr(const Token& token);

class ParserImpl {
 public:
  ParserImpl(std::string_view query, const ParserOptions& options)
      : query_(query), options_(options), tokens_(Lex(query)) {}

  ExprPtr ParseWhole();

  std::unique_ptr<VectorSelector> ParseSelectorOnly();

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
    Within(ParserImpl* parser, Context context) : parser_(parser), saved_(parser->context_) {
      parser->context_ = context;
    }
    ~Within() { parser_->context_ = saved_; }
    Within(const Within&) = delete;
    Within& operator=(const Within&) = delete;

   private:
    ParserImpl* parser_;
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
  std::nullptr_t Unexpected(Context context);

  bool Require(TokenKind kind) {
    if (Accept(kind)) return true;
    Unexpected();
    return false;
  }

  // Counts a level of recursion for a scope.
  class Level {
   public:
    explicit Level(ParserImpl* parser) : parser_(parser) { ++parser->depth_; }
    ~Level() { --parser_->depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    ParserImpl* parser_;
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

  ExprPtr ParseBinary(int precedence_min);

  bool ParseModifiers(BinaryExpr* binary);

  bool ParseFillValue(std::optional<double>* value) {
    if (!Require(TokenKind::kLeftParen)) return false;
    const auto number = ParseSignedNumber();
    if (!number) return false;
    *value = *number;
    return Require(TokenKind::kRightParen);
  }

  // A number or duration with an optional sign.
  std::optional<double> ParseSignedNumber();

  // Of a number or duration token; seconds for the latter.
  std::optional<double> NumberValue(const Token& token);

  ExprPtr ParseUnary();

  ExprPtr ParsePrimary();

  // ---- Selectors ----

  std::unique_ptr<VectorSelector> ParseVectorSelector();

  // After the left brace, up to and with the right one.
  bool ParseMatchers(std::vector<model::Matcher>* matchers);

  bool ParseMatcher(std::vector<model::Matcher>* matchers);

  ExprPtr ParsePostfix(ExprPtr expr);

  // The selector whose modifiers a postfix of `expr` sets; null when it has none.
  static VectorSelector* SelectorOf(Expr* expr) {
    if (expr->kind == ExprKind::kVectorSelector) return static_cast<VectorSelector*>(expr);
    if (expr->kind == ExprKind::kMatrixSelector) return static_cast<MatrixSelector*>(expr)->selector.get();
    return nullptr;
  }

  ExprPtr ParseOffset(ExprPtr expr);

  // A signed literal or call: `offset 1 + 2` adds 2 to the selector's values.
  std::unique_ptr<DurationExpr> ParseOffsetValue() {
    const Token& first = Peek();
    // Behind a parenthesis without a sign the arithmetic goes on, as in Prometheus's grammar.
    if (first.kind == TokenKind::kLeftParen) return ParseDurationSum(0);
    const bool has_sign = first.kind == TokenKind::kAdd || first.kind == TokenKind::kSub;
    if (has_sign) Take();
    auto value = ParseDurationPrimary();
    if (!value || !has_sign) return value;
    return ApplySign(first, std::move(value));
  }

  ExprPtr ParseAt(ExprPtr expr);

  ExprPtr ParseExtended(ExprPtr expr);

  ExprPtr ParseBracket(ExprPtr expr);

  // ---- Durations ----

  static Duration ToDuration(std::unique_ptr<DurationExpr> expr) {
    if (expr->op != DurationExpr::Op::kNumber) return {0, std::move(expr)};
    return {static_cast<int64_t>(std::round(expr->seconds * 1000)), nullptr};
  }

  std::unique_ptr<DurationExpr> ParsePositiveDuration();

  static std::optional<DurationExpr::Op> DurationOperator(TokenKind kind);

  static int DurationPrecedence(DurationExpr::Op op) {
    using Op = DurationExpr::Op;
    if (op == Op::kPow) return kUnaryPrecedence + 1;
    return op == Op::kAdd || op == Op::kSub ? kUnaryPrecedence - 1 : kUnaryPrecedence;
  }

  std::unique_ptr<DurationExpr> ParseDurationSum(int precedence_min);

  // Folds the sign into a literal. A plus changes nothing.
  std::unique_ptr<DurationExpr> ApplySign(const Token& sign, std::unique_ptr<DurationExpr> operand);

  std::unique_ptr<DurationExpr> ParseDurationPrimary();

  // ---- Aggregations and calls ----

  ExprPtr ParseAggregate();

  bool ParseAggregateModifier(AggregateExpr* aggregate, bool* grouped) {
    if (Peek().kind != TokenKind::kBy && Peek().kind != TokenKind::kWithout) return true;
    aggregate->without = Take().kind == TokenKind::kWithout;
    *grouped = true;
    return ParseGrouping(&aggregate->grouping);
  }

  bool ParseGrouping(std::vector<std::string>* labels);

  ExprPtr ParseCall();

  bool ParseArguments(std::vector<ExprPtr>* args);

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

}  // namespace millstream::promql

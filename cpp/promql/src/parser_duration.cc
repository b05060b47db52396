#include <cmath>
#include <utility>

#include "parser_impl.h"

namespace millstream::promql {
namespace {

// Seconds that still fit Prometheus's int64 of nanoseconds.
constexpr double kDurationSecondsMax = 9223372036.0;

}  // namespace

std::unique_ptr<DurationExpr> ParserImpl::ParsePositiveDuration() {
  auto expr = ParseDurationSum(0);
  if (expr && expr->op == DurationExpr::Op::kNumber && expr->seconds <= 0) {
    Fail(expr->position, "duration must be greater than 0");
    return nullptr;
  }
  return expr;
}

std::optional<DurationExpr::Op> ParserImpl::DurationOperator(TokenKind kind) {
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

std::unique_ptr<DurationExpr> ParserImpl::ParseDurationSum(int precedence_min) {
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

std::unique_ptr<DurationExpr> ParserImpl::ApplySign(const Token& sign, std::unique_ptr<DurationExpr> operand) {
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

std::unique_ptr<DurationExpr> ParserImpl::ParseDurationPrimary() {
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

}  // namespace millstream::promql

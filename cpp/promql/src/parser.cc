#include "millstream/promql/parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "check.h"
#include "millstream/model/labels.h"
#include "millstream/promql/functions.h"
#include "parser_impl.h"

namespace millstream::promql {
namespace {

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

// Words whose functions the grammar knows by token, in any case.
bool IsFunctionKeyword(TokenKind kind) {
  return kind >= TokenKind::kStart && kind <= TokenKind::kMaxOf;
}

}  // namespace

ExprPtr ParserImpl::ParseWhole() {
  if (Peek().kind == TokenKind::kEnd) {
    Fail({0, 0}, "no expression found in input");
    return nullptr;
  }
  ExprPtr expr = ParseBinary(0);
  if (expr && Peek().kind != TokenKind::kEnd) return Unexpected();
  return expr;
}

std::nullptr_t ParserImpl::Unexpected(Context context) {
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

ExprPtr ParserImpl::ParseBinary(int precedence_min) {
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

bool ParserImpl::ParseModifiers(BinaryExpr* binary) {
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
      const bool has_labels = Peek().kind == TokenKind::kLeftParen;
      const bool may_go_on = CanStartExpr(Peek()) && !has_labels;
      if (!may_go_on && !ParseGrouping(&matching.include)) return false;
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

std::optional<double> ParserImpl::ParseSignedNumber() {
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

std::optional<double> ParserImpl::NumberValue(const Token& token) {
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

ExprPtr ParserImpl::ParseUnary() {
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

ExprPtr ParserImpl::ParsePrimary() {
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

ExprPtr ParserImpl::ParseAggregate() {
  const Token& name = Take();
  auto aggregate = std::make_unique<AggregateExpr>();
  aggregate->op = static_cast<AggregateOp>(static_cast<int>(name.kind) - static_cast<int>(TokenKind::kSum));
  std::vector<ExprPtr> args;
  bool grouped = false;
  {
    const Within within(this, {"aggregation", {}});
    if (!ParseAggregateModifier(aggregate.get(), &grouped) || !ParseArguments(&args)) return nullptr;
  }
  if (!grouped) {
    // To know whether a modifier follows, Prometheus's parser reads a token before it looks at the arguments.
    if (Peek().kind == TokenKind::kError) return Unexpected();
    if (!ParseAggregateModifier(aggregate.get(), &grouped)) return nullptr;
  }
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

bool ParserImpl::ParseGrouping(std::vector<std::string>* labels) {
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
    } else if (IsWordToken(token)) {
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

ExprPtr ParserImpl::ParseCall() {
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

bool ParserImpl::ParseArguments(std::vector<ExprPtr>* args) {
  if (!Require(TokenKind::kLeftParen)) return false;
  if (Accept(TokenKind::kRightParen)) return true;
  while (true) {
    ExprPtr arg = ParseBinary(0);
    if (!arg) return false;
    args->push_back(std::move(arg));
    const Token& separator = Peek();
    if (Accept(TokenKind::kRightParen)) return true;
    if (!Require(TokenKind::kComma)) return false;
    if (Peek().kind != TokenKind::kError && !CanStartExpr(Peek())) {
      Fail(separator.range(), "trailing commas not allowed in function call args");
      return false;
    }
  }
}

namespace {

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
  ParserImpl parser(query, options);
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
  ParserImpl parser(text, {});
  auto selector = parser.ParseSelectorOnly();
  if (selector == nullptr) return ToStatus(text, parser.error(), StatusCode::kInvalidArgument);
  const bool selective = std::any_of(selector->matchers.begin(), selector->matchers.end(),
                                     [](const model::Matcher& matcher) { return !matcher.MatchesEmpty(); });
  if (!selective) return InvalidArgument("match[] must contain at least one non-empty matcher");
  return std::move(selector->matchers);
}

std::string LineColumn(std::string_view query, int32_t byte) {
  if (query.empty()) return "unknown position";
  const size_t end = std::min(static_cast<size_t>(std::max(byte, 0)), query.size());
  const std::string_view before = query.substr(0, end);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t line_break = before.rfind('\n');
  const size_t column = line_break == std::string_view::npos ? end + 1 : end - line_break;
  return fmt::format("{}:{}", line, column);
}

}  // namespace millstream::promql

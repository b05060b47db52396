// Lexer: a PromQL query's text as tokens.
//
// Errors      The first character that no token can begin with or go on with ends the list with a kError token whose
//             `error` is Prometheus's wording.
// Cost        One pass. Tokens borrow the query's bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/promql/ast.h"

namespace millstream::promql {

enum class TokenKind : uint8_t {
  kEnd,
  kError,
  kIdentifier,
  kMetricIdentifier,  // with a colon in it
  kString,            // quotes included
  kNumber,
  kDuration,
  kLeftParen,
  kRightParen,
  kLeftBrace,
  kRightBrace,
  kLeftBracket,
  kRightBracket,
  kComma,
  kColon,
  kAt,
  kMatchEqual,  // = between braces, or a lone one outside
  kMatchRegex,  // =~
  kMatchNotRegex,
  // Operators. kNotEqual is a matcher's operator too.
  kAdd,
  kSub,
  kMul,
  kDiv,
  kMod,
  kPow,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kTrimUpper,
  kTrimLower,
  kAtan2,
  kAnd,
  kOr,
  kUnless,
  // Aggregations, in the order of AggregateOp.
  kSum,
  kAvg,
  kMin,
  kMax,
  kCount,
  kGroup,
  kStddev,
  kStdvar,
  kTopK,
  kBottomK,
  kCountValues,
  kQuantile,
  kLimitK,
  kLimitRatio,
  // Other keywords.
  kOffset,
  kAnchored,
  kSmoothed,
  kBy,
  kWithout,
  kOn,
  kIgnoring,
  kGroupLeft,
  kGroupRight,
  kBool,
  kFill,
  kFillLeft,
  kFillRight,
  kStart,
  kEndFunction,
  kStep,
  kRange,
  kMinOf,
  kMaxOf,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::string_view text;
  int32_t position = 0;
  std::string error;  // kError

  PositionRange range() const { return {position, position + static_cast<int32_t>(text.size())}; }
};

// The last token is kEnd or kError. `query` is at most kQueryBytesMax long.
std::vector<Token> Lex(std::string_view query);

inline bool IsOperatorToken(TokenKind kind) {
  return kind >= TokenKind::kAdd && kind <= TokenKind::kUnless;
}
inline bool IsAggregatorToken(TokenKind kind) {
  return kind >= TokenKind::kSum && kind <= TokenKind::kLimitRatio;
}
inline bool IsKeywordToken(TokenKind kind) {
  return kind >= TokenKind::kOffset && kind <= TokenKind::kMaxOf;
}
// Whether the token is a word: an identifier or any keyword, operator words included.
bool IsWordToken(const Token& token);

// The token as an error message names it: `identifier "foo"`, `<op:+>`, `end of input`.
std::string DescribeToken(const Token& token);

}  // namespace millstream::promql

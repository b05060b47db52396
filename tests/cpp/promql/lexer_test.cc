#include "lexer.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace millstream::promql {
namespace {

using Kind = TokenKind;

std::vector<Kind> Kinds(std::string_view query) {
  std::vector<Kind> kinds;
  for (const Token& token : Lex(query)) kinds.push_back(token.kind);
  return kinds;
}

std::string ErrorOf(std::string_view query) {
  return Lex(query).back().error;
}

TEST(Lexer, EndsWithItsPosition) {
  const auto tokens = Lex(" foo # comment\n\t");
  ASSERT_EQ(tokens.size(), 2U);
  EXPECT_EQ(tokens[0].text, "foo");
  EXPECT_EQ(tokens[0].position, 1);
  EXPECT_EQ(tokens[1].kind, Kind::kEnd);
  EXPECT_EQ(tokens[1].position, 16);
}

TEST(Lexer, KnowsKeywordsInAnyCaseOutsideBracesOnly) {
  EXPECT_EQ(Kinds("SUM Offset unLESS iNF"),
            (std::vector<Kind>{Kind::kSum, Kind::kOffset, Kind::kUnless, Kind::kNumber, Kind::kEnd}));
  EXPECT_EQ(Kinds("{sum=~\"\"}"), (std::vector<Kind>{Kind::kLeftBrace, Kind::kIdentifier, Kind::kMatchRegex,
                                                     Kind::kString, Kind::kRightBrace, Kind::kEnd}));
  EXPECT_EQ(Kinds("sum:rate"), (std::vector<Kind>{Kind::kMetricIdentifier, Kind::kEnd}));
}

TEST(Lexer, TellsOperatorsApartByTheLongestMatch) {
  EXPECT_EQ(Kinds("< <= </ > >= >/ == = != ^ %"),
            (std::vector<Kind>{Kind::kLess, Kind::kLessEqual, Kind::kTrimUpper, Kind::kGreater, Kind::kGreaterEqual,
                               Kind::kTrimLower, Kind::kEqual, Kind::kMatchEqual, Kind::kNotEqual, Kind::kPow,
                               Kind::kMod, Kind::kEnd}));
}

TEST(Lexer, TellsNumbersFromDurations) {
  EXPECT_EQ(Kinds("1 1. .5 1e3 0x1f 1_000 5m 1h30m 100ms"),
            (std::vector<Kind>{Kind::kNumber, Kind::kNumber, Kind::kNumber, Kind::kNumber, Kind::kNumber, Kind::kNumber,
                               Kind::kDuration, Kind::kDuration, Kind::kDuration, Kind::kEnd}));
  EXPECT_EQ(ErrorOf("1x"), "bad number or duration syntax: \"1\"");
  EXPECT_EQ(ErrorOf("1m5"), "bad number or duration syntax: \"1m5\"");
}

TEST(Lexer, TakesArithmeticAndCallsBetweenBrackets) {
  EXPECT_EQ(
      Kinds("x[step()+5m:1]"),
      (std::vector<Kind>{Kind::kIdentifier, Kind::kLeftBracket, Kind::kStep, Kind::kLeftParen, Kind::kRightParen,
                         Kind::kAdd, Kind::kDuration, Kind::kColon, Kind::kNumber, Kind::kRightBracket, Kind::kEnd}));
  EXPECT_EQ(ErrorOf("x[5m:1m:1m]"), "unexpected colon ':'");
  EXPECT_EQ(ErrorOf("x[5m"), "unclosed left bracket");
  EXPECT_EQ(ErrorOf("x[5m foo]"), "unexpected character: 'f', expected ':'");
  EXPECT_EQ(Kinds("x[step():1m]").back(), Kind::kEnd);
  EXPECT_EQ(ErrorOf("x[foo]"), "unexpected character in duration expression: 'f'");
  EXPECT_EQ(ErrorOf("x[5m)]"), "unexpected right parenthesis ')'");
}

TEST(Lexer, RefusesMalformedStrings) {
  EXPECT_EQ(ErrorOf("\"abc"), "unterminated quoted string");
  EXPECT_EQ(ErrorOf("\"a\nb\""), "unterminated quoted string");
  EXPECT_EQ(ErrorOf("`abc"), "unterminated raw string");
  EXPECT_EQ(ErrorOf("\"\\"), "escape sequence not terminated");
  EXPECT_EQ(ErrorOf("\"\\q\""), "unknown escape sequence U+0071 'q'");
  EXPECT_EQ(ErrorOf("\"\\xg0\""), "illegal character U+0067 'g' in escape sequence");
  EXPECT_EQ(ErrorOf("\"\\ud800\""), "escape sequence is an invalid Unicode code point");
  EXPECT_EQ(ErrorOf("\"\\400\""), "escape sequence is an invalid Unicode code point");
}

TEST(Lexer, QuotesTheUnexpectedCharacter) {
  EXPECT_EQ(ErrorOf("a ; b"), "unexpected character: ';'");
  EXPECT_EQ(ErrorOf("\xC3\xA9"), "unexpected character: '\xC3\xA9'");
  EXPECT_EQ(ErrorOf("{a!b}"), "unexpected character after '!' inside braces: 'b'");
  EXPECT_EQ(ErrorOf("{{"), "unexpected left brace '{'");
  EXPECT_EQ(ErrorOf("a]"), "unexpected right bracket ']'");
}

TEST(Lexer, DescribesTokensForMessages) {
  EXPECT_EQ(DescribeToken(Lex("foo").front()), "identifier \"foo\"");
  EXPECT_EQ(DescribeToken(Lex("sum").front()), "<aggr:sum>");
  EXPECT_EQ(DescribeToken(Lex("and").front()), "<op:and>");
  EXPECT_EQ(DescribeToken(Lex("by").front()), "<by>");
  EXPECT_EQ(DescribeToken(Lex("(").front()), "\"(\"");
  EXPECT_EQ(DescribeToken(Lex("12345678901234").front()), "number \"1234567890\"...");
}

}  // namespace
}  // namespace millstream::promql

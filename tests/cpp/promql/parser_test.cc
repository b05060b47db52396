#include "millstream/promql/parser.h"

#include <gtest/gtest.h>

#include <string>

#include "millstream/promql/functions.h"

namespace millstream::promql {
namespace {

constexpr ParserOptions kEverything = {true, true, true};

std::string ParseErrorOf(std::string_view query, const ParserOptions& options = kEverything) {
  const auto expr = ParseExpr(query, options);
  return expr.ok() ? "parsed as " + Print(**expr) : std::string(expr.status().message());
}

struct ErrorCase {
  std::string_view query;
  std::string_view message;
};

class ParseErrors : public ::testing::TestWithParam<ErrorCase> {};

TEST_P(ParseErrors, HavePrometheusWordingAndPosition) {
  EXPECT_EQ(ParseErrorOf(GetParam().query), GetParam().message) << GetParam().query;
}

INSTANTIATE_TEST_SUITE_P(
    Syntax, ParseErrors,
    ::testing::Values(
        ErrorCase{"", "unknown position: parse error: no expression found in input"},
        ErrorCase{"# just a comment\n\n", "1:1: parse error: no expression found in input"},
        ErrorCase{"1+", "1:3: parse error: unexpected end of input"},
        ErrorCase{".", "1:1: parse error: unexpected character: '.'"},
        ErrorCase{"2.5.", "1:1: parse error: bad number or duration syntax: \"2.5.\""},
        ErrorCase{"100..4", "1:1: parse error: bad number or duration syntax: \"100..\""},
        ErrorCase{"0deadbeef", "1:1: parse error: bad number or duration syntax: \"0de\""},
        ErrorCase{"*1", "1:1: parse error: unexpected <op:*>"},
        ErrorCase{"(1))", "1:5: parse error: unexpected right parenthesis ')'"},
        ErrorCase{"((1)", "1:5: parse error: unclosed left parenthesis"},
        ErrorCase{"1 !~ 1", "1:3: parse error: unexpected character after '!': '~'"},
        ErrorCase{"-=", "1:2: parse error: unexpected \"=\""},
        ErrorCase{"++-++-+-+-<", "1:11: parse error: unexpected <op:<>"},
        ErrorCase{"foo + group_left(baz) bar", "1:7: parse error: unexpected <group_left>"},
        ErrorCase{"sum without(==)(some_metric)",
                  "1:13: parse error: unexpected <op:==> in grouping opts, expected label"},
        ErrorCase{"sum without(,)(some_metric)",
                  "1:13: parse error: unexpected \",\" in grouping opts, expected label"},
        ErrorCase{"sum some_metric by (test)", "1:5: parse error: unexpected identifier \"some_metric\""},
        ErrorCase{"sum (some_metric) by test",
                  "1:22: parse error: unexpected identifier \"test\" in grouping opts, expected \"(\""},
        ErrorCase{"sum () by (test)", "1:1: parse error: no arguments for aggregate expression provided"},
        ErrorCase{"MIN (some_metric) keep_common", "1:19: parse error: unexpected identifier \"keep_common\""},
        ErrorCase{"sum (some_metric) without (test) by (test)", "1:34: parse error: unexpected <by>"},
        ErrorCase{"topk(some_metric)",
                  "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1"},
        ErrorCase{"rate(sum(foo bar))", "1:14: parse error: unexpected identifier \"bar\" in aggregation"},
        ErrorCase{"topk(3, on)", "1:7: parse error: trailing commas not allowed in function call args"},
        ErrorCase{"(topk(x)", "1:9: parse error: unclosed left parenthesis"},
        ErrorCase{"a + on(x) group_left",
                  "1:21: parse error: unexpected end of input in grouping opts, expected \"(\""},
        ErrorCase{"a step()", "1:3: parse error: unexpected \"step\""},
        ErrorCase{"@ 5", "1:1: parse error: unexpected <op:@>"},
        ErrorCase{"{a=~\"(\"}", "1:2: parse error: error parsing regexp: missing closing ): `(`"},
        ErrorCase{"topk(some_metric,)", "1:17: parse error: trailing commas not allowed in function call args"},
        ErrorCase{"non_existent_function_far_bar()",
                  "1:1: parse error: unknown function with name \"non_existent_function_far_bar\""},
        ErrorCase{"a>b()", "1:3: parse error: unknown function with name \"b\""},
        ErrorCase{"foo{a=1}", "1:7: parse error: unexpected character inside braces: '1'"},
        ErrorCase{"foo{a>1}", "1:6: parse error: unexpected character inside braces: '>'"},
        ErrorCase{"foo{a=b}", "1:7: parse error: unexpected identifier \"b\" in label matching, expected string"},
        ErrorCase{"foo{a b}",
                  "1:7: parse error: unexpected identifier \"b\" in label matching, expected label matching operator"},
        ErrorCase{"foo{a=\"b\" c}",
                  "1:11: parse error: unexpected identifier \"c\" in label matching, expected \",\" or \"}\""},
        ErrorCase{"foo{,}", "1:5: parse error: unexpected \",\" in label matching, expected identifier or \"}\""},
        ErrorCase{"foo{", "1:5: parse error: unexpected end of input inside braces"},
        ErrorCase{"sum by (\"foo)(some_metric{})", "1:9: parse error: unterminated quoted string"},
        ErrorCase{"label_replace(a, `b`, `c\xff`, `d`, `.*`)", "1:23: parse error: invalid UTF-8 rune"},
        ErrorCase{"1 +\n  (2 *)", "2:7: parse error: unexpected \")\""}));

INSTANTIATE_TEST_SUITE_P(
    Durations, ParseErrors,
    ::testing::Values(
        ErrorCase{"foo[5mm]", "1:5: parse error: bad number or duration syntax: \"5mm\""},
        ErrorCase{"foo[5m1]", "1:5: parse error: bad number or duration syntax: \"5m1\""},
        ErrorCase{"foo[5m:1m1]", "1:8: parse error: bad number or duration syntax: \"1m1\""},
        ErrorCase{"foo[5y1hs]", "1:5: parse error: unknown unit \"hs\" in duration \"5y1hs\""},
        ErrorCase{"foo[5m1h]", "1:5: parse error: not a valid duration string: \"5m1h\""},
        ErrorCase{"foo[0m]", "1:5: parse error: duration must be greater than 0"},
        ErrorCase{"foo[-1]", "1:5: parse error: duration must be greater than 0"},
        ErrorCase{"foo[\"5m\"]", "1:5: parse error: unexpected character in duration expression: '\"'"},
        ErrorCase{"foo[]",
                  "1:5: parse error: unexpected \"]\" in subquery or range selector, expected number, duration, "
                  "step(), or range()"},
        ErrorCase{"foo[5m", "1:7: parse error: unclosed left bracket"},
        ErrorCase{"foo offset (5m) * foo",
                  "1:19: parse error: unexpected identifier \"foo\" in offset, expected number, duration, step(), or "
                  "range()"},
        ErrorCase{"foo[:5m]", "1:6: parse error: unexpected colon before duration in duration expression"},
        ErrorCase{"foo[5m / 0]", "1:8: parse error: division by zero"},
        ErrorCase{
            "some_metric[5m] OFFSET",
            "1:23: parse error: unexpected end of input in offset, expected number, duration, step(), or range()"},
        ErrorCase{"some_metric OFFSET 1m[5m]", "1:22: parse error: no offset modifiers allowed before range"},
        ErrorCase{"some_metric @ 1234 [5m]", "1:20: parse error: no @ modifiers allowed before range"},
        ErrorCase{"some_metric[5m] @", "1:18: parse error: unexpected end of input in @, expected timestamp"},
        ErrorCase{"some_metric @ Inf", "1:1: parse error: timestamp out of bounds for @ modifier: inf"},
        ErrorCase{"(foo + bar)[5m]", "1:12: parse error: ranges only allowed for vector selectors"},
        ErrorCase{
            "rate(some_metric[5m]) @ 1234",
            "1:1: parse error: @ modifier must be preceded by an instant vector selector or range vector selector "
            "or a subquery"},
        ErrorCase{"foo offset 1m offset 2m", "1:1: parse error: offset may not be set multiple times"},
        ErrorCase{"foo anchored smoothed",
                  "1:1: parse error: anchored and smoothed modifiers cannot be used together"}));

INSTANTIATE_TEST_SUITE_P(
    Types, ParseErrors,
    ::testing::Values(
        ErrorCase{"1 and 1", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression"},
        ErrorCase{"1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier"},
        ErrorCase{"foo + bool bar", "1:5: parse error: bool modifier can only be used on comparison operators"},
        ErrorCase{"1 or on(bar) foo", "1:1: parse error: vector matching only allowed between instant vectors"},
        ErrorCase{"foo and on(bar) group_left(baz) bar", "1:1: parse error: no grouping allowed for \"and\" operation"},
        ErrorCase{"foo + on(a) group_left(a) bar",
                  "1:5: parse error: label \"a\" must not occur in ON and GROUP clause at once"},
        ErrorCase{"foo + fill(0) 1",
                  "1:1: parse error: filling in missing series only allowed between instant vectors"},
        ErrorCase{"foo or fill(0) bar", "1:1: parse error: filling in missing series not allowed for set operators"},
        ErrorCase{"foo[5m] + 1",
                  "1:1: parse error: binary expression must contain only scalar and instant vector types"},
        ErrorCase{"topk(some_metric, other_metric)",
                  "1:6: parse error: expected type scalar in aggregation parameter, got instant vector"},
        ErrorCase{"count_values(5, other_metric)",
                  "1:14: parse error: expected type string in aggregation parameter, got scalar"},
        ErrorCase{"floor()", "1:1: parse error: expected 1 argument(s) in call to \"floor\", got 0"},
        ErrorCase{"floor(1)",
                  "1:7: parse error: expected type instant vector in call to function \"floor\", got scalar"},
        ErrorCase{"hour(some_metric, some_metric, some_metric)",
                  "1:1: parse error: expected at most 1 argument(s) in call to \"hour\", got 3"},
        ErrorCase{"label_join()", "1:1: parse error: expected at least 3 argument(s) in call to \"label_join\", got 0"},
        ErrorCase{"rate(avg)",
                  "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector"},
        ErrorCase{"{}", "1:1: parse error: vector selector must contain at least one non-empty matcher"},
        ErrorCase{"{a=~\".*\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher"},
        ErrorCase{"foo{__name__=\"bar\"}", "1:1: parse error: metric name must not be set twice: \"foo\" or \"bar\""},
        ErrorCase{"foo[5m][5m:1m]", "1:1: parse error: subquery is only allowed on instant vector, got matrix instead"},
        ErrorCase{
            "-\"a\"",
            "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got "
            "\"string\""}));

TEST(Parser, GroupsByPrecedenceAndAssociativity) {
  const auto expr = ParseExpr("a or b and c == d + e * f ^ g ^ h", kEverything);
  ASSERT_TRUE(expr.ok());
  const auto* top = static_cast<const BinaryExpr*>(expr->get());
  std::string path;
  while (top != nullptr) {
    path += BinaryOpSymbol(top->op);
    path += ' ';
    EXPECT_EQ(top->left->kind, ExprKind::kVectorSelector);
    top = top->right->kind == ExprKind::kBinary ? static_cast<const BinaryExpr*>(top->right.get()) : nullptr;
  }
  EXPECT_EQ(path, "or and == + * ^ ^ ");

  const auto left = ParseExpr("a - b - c", kEverything);
  ASSERT_TRUE(left.ok());
  EXPECT_EQ(static_cast<const BinaryExpr&>(**left).right->kind, ExprKind::kVectorSelector);
}

TEST(Parser, AppliesUnaryMinusAfterPower) {
  const auto expr = ParseExpr("-foo ^ 2");
  ASSERT_TRUE(expr.ok());
  EXPECT_EQ((*expr)->kind, ExprKind::kUnary);
}

TEST(Parser, TellsPositionsInBytes) {
  const auto expr = ParseExpr("sum(rate(foo[5m] offset 1m)) / 2");
  ASSERT_TRUE(expr.ok());
  const auto& binary = static_cast<const BinaryExpr&>(**expr);
  EXPECT_EQ(binary.position.start, 0);
  EXPECT_EQ(binary.position.end, 32);
  const auto& sum = static_cast<const AggregateExpr&>(*binary.left);
  EXPECT_EQ(sum.position.end, 28);
  const auto& rate = static_cast<const Call&>(*sum.expr);
  EXPECT_EQ(rate.position.start, 4);
  EXPECT_EQ(rate.args[0]->position.start, 9);
  EXPECT_EQ(rate.args[0]->position.end, 26);
}

TEST(Parser, RefusesExperimentalSyntaxWithoutItsFlag) {
  EXPECT_EQ(ParseErrorOf("mad_over_time(a[5m])", {}), "1:1: parse error: function \"mad_over_time\" is not enabled");
  EXPECT_EQ(ParseErrorOf("limitk(1, x)", {}),
            "1:1: parse error: limitk() is experimental and must be enabled with "
            "--enable-feature=promql-experimental-functions");
  EXPECT_EQ(ParseErrorOf("a + fill(0) b", {}),
            "1:1: parse error: binop fill modifiers are experimental and not enabled");
  EXPECT_EQ(ParseErrorOf("foo anchored", {}), "1:1: parse error: anchored modifier is experimental and not enabled");
}

TEST(Parser, RefusesTreesThatAreTooDeep) {
  const auto repeat = [](std::string_view text, int count) {
    std::string out;
    for (int i = 0; i < count; ++i) out += text;
    return out;
  };
  for (const std::string& query :
       {repeat("(", 5000) + "1" + repeat(")", 5000), "1" + repeat("+1", 5000), repeat("-", 5000) + "x",
        "x" + repeat("[1m:]", 5000), "x[" + repeat("(", 5000) + "1" + repeat(")", 5000) + "]",
        "x[1" + repeat("+1", 5000) + "]", "1" + repeat("^1", 5000)}) {
    const auto expr = ParseExpr(query);
    ASSERT_FALSE(expr.ok());
    EXPECT_EQ(expr.status().code(), StatusCode::kResourceExhausted) << query.substr(0, 10);
  }
  EXPECT_TRUE(ParseExpr("1" + repeat("+1", 900)).ok());
}

TEST(Parser, RefusesOverlongText) {
  const auto expr = ParseExpr(std::string(kQueryBytesMax + 1, ' '));
  ASSERT_FALSE(expr.ok());
  EXPECT_EQ(expr.status().code(), StatusCode::kResourceExhausted);
}

TEST(Parser, ReportsThePositionOfAnErrorToTheCaller) {
  ParseError error;
  ASSERT_FALSE(ParseExpr("a + floor(1)", {}, &error).ok());
  EXPECT_EQ(error.position.start, 10);
  EXPECT_EQ(error.position.end, 11);
}

TEST(ParseMetricSelector, TakesALoneSelectorOnly) {
  const auto matchers = ParseMetricSelector("up{job!=\"a\"}");
  ASSERT_TRUE(matchers.ok());
  ASSERT_EQ(matchers->size(), 2U);
  EXPECT_EQ((*matchers)[0].ToString(), "job!=\"a\"");
  EXPECT_FALSE(ParseMetricSelector("up offset 5m").ok());
  EXPECT_FALSE(ParseMetricSelector("1").ok());
  EXPECT_FALSE(ParseMetricSelector("{}").ok());
}

TEST(Functions, AreFoundByName) {
  EXPECT_EQ(AllFunctions().size(), 90U);
  ASSERT_NE(FindFunction("rate"), nullptr);
  EXPECT_EQ(FindFunction("rate")->args.front(), ValueType::kMatrix);
  EXPECT_EQ(FindFunction("Rate"), nullptr);
}

}  // namespace
}  // namespace millstream::promql

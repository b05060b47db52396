#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "millstream/promql/parser.h"

namespace millstream::promql {
namespace {

constexpr ParserOptions kAllSyntax = {true, true, true};

std::string Reprint(std::string_view query) {
  const auto expr = ParseExpr(query, kAllSyntax);
  return expr.ok() ? Print(**expr) : "error: " + std::string(expr.status().message());
}

struct PrintCase {
  std::string_view query;
  std::string_view printed;
};

class Prints : public ::testing::TestWithParam<PrintCase> {};

TEST_P(Prints, TheCanonicalSpellingAndIsStable) {
  EXPECT_EQ(Reprint(GetParam().query), GetParam().printed);
  EXPECT_EQ(Reprint(GetParam().printed), GetParam().printed);
}

INSTANTIATE_TEST_SUITE_P(
    Expressions, Prints,
    ::testing::Values(
        PrintCase{"sum by() (task:errors:rate10s{job='s'})", "sum(task:errors:rate10s{job=\"s\"})"},
        PrintCase{"SUM(foo)BY(code,)", "sum by (code) (foo)"}, PrintCase{"sum without() (x)", "sum without () (x)"},
        PrintCase{"topk(5, x)", "topk(5, x)"}, PrintCase{"a - on() c", "a - on () c"},
        PrintCase{"a - on(b) group_left c", "a - on (b) group_left () c"}, PrintCase{"a - ignoring() c", "a - c"},
        PrintCase{"a + fill_left(-1) fill_right(0x10) b", "a + fill_left (-1) fill_right (16) b"},
        PrintCase{"a == bool fill(NaN) b", "a == bool fill_left (NaN) fill_right (NaN) b"},
        PrintCase{"up > bool 0", "up > bool 0"}, PrintCase{"a offset 1m", "a offset 1m"},
        PrintCase{"a offset -420", "a offset -7m"}, PrintCase{"a[5m] offset 1m @ 10", "a[5m] @ 10.000 offset 1m"},
        PrintCase{"a @ -1.5", "a @ -1.500"}, PrintCase{"a[1h:5m] @ start()", "a[1h:5m] @ start()"},
        PrintCase{"{__name__=\"a\"}", "{__name__=\"a\"}"}, PrintCase{"a{c='1',b!='2'}", "a{b!=\"2\",c=\"1\"}"},
        PrintCase{"{\"my.metric\", 'l.a'=~\"x\"}", "{\"l.a\"=~\"x\",__name__=\"my.metric\"}"},
        PrintCase{"-1^2", "-1 ^ 2"}, PrintCase{"Inf^-x", "Inf ^ -x"}, PrintCase{"2 ^ -1 * 3", "2 ^ -1 * 3"},
        PrintCase{"1h30m + 300", "1h30m + 300"},
        PrintCase{"0755 + 1_000 + 0x_ff + .5e1 + iNf", "493 + 1000 + 255 + 5 + +Inf"},
        PrintCase{"foo[2m*(10+5)]", "foo[2m * (10 + 5)]"},
        PrintCase{"foo[max_of(STep(), 1m):-5m+35m] offset -range()",
                  "foo[max_of(step(), 1m):-5m + 35m] offset -range()"},
        PrintCase{"foo offset 100 + 2", "foo offset 1m40s + 2"},
        PrintCase{"rate(m[5m] anchored)", "rate(m[5m] anchored)"},
        PrintCase{"m offset 5m smoothed", "m smoothed offset 5m"}, PrintCase{"a </ b >/ 1", "a </ b >/ 1"},
        PrintCase{"sum(sum) + avg", "sum(sum) + avg"}, PrintCase{"other + fill(0) fill", "other + fill (0) fill"},
        PrintCase{"\"a\\n\\u263a\\x41\\101'\"",
                  "\"a\\n\xE2\x98\xBA"
                  "AA'\""},
        PrintCase{"sum by (\"a b\", on) (x)", "sum by (\"a b\", on) (x)"}, PrintCase{"a # comment\n + b", "a + b"},
        PrintCase{"(start() + END()) * (step() - range())", "(start() + end()) * (step() - range())"}));

TEST(Printer, EscapesBytesOfStringsThatAreNoUtf8) {
  EXPECT_EQ(Reprint(R"("\x84\u263a\xe2\x98")"), "\"\\x84\xE2\x98\xBA\\xe2\\x98\"");
}

TEST(PrettyPrint, LeavesShortExpressionsOnOneLine) {
  const auto expr = ParseExpr("sum by(job)(rate(foo[5m]))");
  ASSERT_TRUE(expr.ok());
  EXPECT_EQ(PrettyPrint(**expr), "sum by (job) (rate(foo[5m]))");
}

TEST(PrettyPrint, SplitsWhereTheExpressionNests) {
  const std::string name(40, 'm');
  const auto expr = ParseExpr("-(label_replace(rate(" + name + "[5m]), 'a', 'b', 'c', 'd') + on(x) sum by (y) (" +
                              name + "{a='b'} offset 5m))");
  ASSERT_TRUE(expr.ok());
  EXPECT_EQ(PrettyPrint(**expr),
            "-(\n"
            "    label_replace(rate(" +
                name +
                "[5m]), \"a\", \"b\", \"c\", \"d\")\n"
                "  + on (x)\n"
                "    sum by (y) (" +
                name +
                "{a=\"b\"} offset 5m)\n"
                ")");
  const auto again = ParseExpr(PrettyPrint(**expr));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(Print(**again), Print(**expr));
}

TEST(PrettyPrint, PutsEveryArgumentOnItsLine) {
  const std::string name(85, 'm');
  const auto expr = ParseExpr("topk(5, round(" + name + ", 10))");
  ASSERT_TRUE(expr.ok());
  EXPECT_EQ(PrettyPrint(**expr), "topk(\n  5,\n  round(" + name + ", 10)\n)");
}

TEST(Literals, DurationsRoundTrip) {
  for (const std::string_view text : {"5m", "1h30m", "100ms", "1d", "2w", "1y", "1d12h", "1m1ms"}) {
    const auto ms = ParseDuration(text);
    ASSERT_TRUE(ms.ok()) << text;
    EXPECT_EQ(FormatDuration(*ms), text);
  }
  EXPECT_EQ(*ParseDuration("0"), 0);
  EXPECT_EQ(FormatDuration(-90'000), "-1m30s");
  EXPECT_EQ(FormatDuration(0), "0s");
  for (const std::string_view text : {"", "5", "m", "5m5m", "1s1m", "-5m", "5 m", "1.5h", "300000y"}) {
    EXPECT_FALSE(ParseDuration(text).ok()) << text;
  }
}

TEST(Literals, DurationExpressionsResolveWithStepAndRange) {
  const auto resolve = [](std::string_view range) -> Result<int64_t> {
    const std::string query = "x[" + std::string(range) + "]";
    MS_ASSIGN_OR_RETURN(const auto expr, ParseExpr(query));
    return ResolveDuration(static_cast<const MatrixSelector&>(*expr).range, 15'000, 60'000, false);
  };
  EXPECT_EQ(*resolve("5m"), 300'000);
  EXPECT_EQ(*resolve("step()*2+range()"), 90'000);
  EXPECT_EQ(*resolve("2^3 % 5"), 3'000);
  EXPECT_EQ(*resolve("-5m+35m"), 1'800'000);
  EXPECT_EQ(*resolve("2^3^0"), 2'000);
  EXPECT_EQ(*resolve("min_of(step(), 1ms)"), 1);
  EXPECT_FALSE(resolve("1-2").ok());
  EXPECT_FALSE(resolve("1/(2-2)").ok());
}

TEST(Literals, NumbersAreReadAsGoReadsThem) {
  EXPECT_EQ(ParseNumber("0755"), 493);
  EXPECT_EQ(ParseNumber("089"), 89);
  EXPECT_EQ(ParseNumber("0x1F"), 31);
  EXPECT_EQ(ParseNumber("0b101"), 5);
  EXPECT_EQ(ParseNumber("1_000.5"), 1000.5);
  EXPECT_EQ(ParseNumber("-1e-3"), -0.001);
  EXPECT_EQ(ParseNumber("+Inf"), std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(ParseNumber("nAn").value_or(0)));
  EXPECT_EQ(ParseNumber("1e-400"), 0);
  for (const std::string_view text : {"", "-", "1__0", "_1", "1_", "1e400", "1x", "0x", "--1", "e5"}) {
    EXPECT_EQ(ParseNumber(text), std::nullopt) << text;
  }
}

TEST(Literals, NumbersPrintWithoutExponent) {
  EXPECT_EQ(FormatNumber(1e21), "1000000000000000000000");
  EXPECT_EQ(FormatNumber(0.1), "0.1");
  EXPECT_EQ(FormatNumber(-0.0), "-0");
  EXPECT_EQ(FormatNumber(5e-324).size(), 326U);
}

TEST(Literals, StringsAreUnquotedByTheirQuotes) {
  EXPECT_EQ(Unquote(R"("a\"b\t\x41\u00e9\101")"),
            "a\"b\tA\xC3\xA9"
            "A");
  EXPECT_EQ(Unquote(R"('it\'s "x"')"), "it's \"x\"");
  EXPECT_EQ(Unquote("`raw\\n`"), "raw\\n");
  for (const std::string_view text :
       {"", "a", "\"", "\"a'", "\"a\"b\"", "\"\\q\"", "\"\\xZZ\"", "\"\\ud800\"", "\"\\'\""}) {
    EXPECT_EQ(Unquote(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace millstream::promql

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "memory_store.h"
#include "millstream/promqltest/promqltest.h"

namespace millstream::promqltest {
namespace {

ScriptReport RunText(std::string_view text) {
  return RunScript("test", text, ScriptEngineOptions(), MemoryStore::Make);
}

// Whether the only eval of the script passes.
bool Passes(std::string_view text) {
  const ScriptReport report = RunText(text);
  EXPECT_EQ(report.error, "");
  EXPECT_EQ(report.evals.size(), 1U);
  return report.error.empty() && report.passed() == 1;
}

std::string ErrorOf(std::string_view text) {
  return RunText(text).error;
}

TEST(Script, ComparesAnInstantVector) {
  EXPECT_TRUE(Passes("load 1m\n  m{a=\"x\"} 1+2x3\n\neval instant at 2m m\n  m{a=\"x\"} 5\n"));
  EXPECT_FALSE(Passes("load 1m\n  m{a=\"x\"} 1+2x3\n\neval instant at 2m m\n  m{a=\"x\"} 4\n"));
  EXPECT_FALSE(Passes("load 1m\n  m{a=\"x\"} 1\n\neval instant at 0 m\n"));
  EXPECT_FALSE(Passes("load 1m\n  m{a=\"x\"} 1\n\neval instant at 0 m\n  m{a=\"x\"} 1\n  m{a=\"y\"} 1\n"));
}

TEST(Script, ComparesAMatrixStepByStep) {
  EXPECT_TRUE(Passes("load 5m\n  m 1 _ _ 4\n\neval range from 0 to 15m step 5m m\n  m 1 _ _ 4\n"));
  EXPECT_FALSE(Passes("load 5m\n  m 1 _ _ 4\n\neval range from 0 to 15m step 5m m\n  m 1 1 _ 4\n"));
  EXPECT_FALSE(Passes("load 5m\n  m 1 2\n\neval range from 0 to 5m step 5m m\n  m 1 2 3\n"));
}

TEST(Script, ComparesScalarsAndStrings) {
  EXPECT_TRUE(Passes("eval instant at 1m 1 + 0x0F\n  16\n"));
  EXPECT_FALSE(Passes("eval instant at 1m 1\n  2\n"));
  EXPECT_TRUE(Passes("eval instant at 1m 'ab'\n  expect string \"ab\"\n"));
}

TEST(Script, TellsFloatsApartByRelativeErrorAndZeroExactly) {
  EXPECT_TRUE(Passes("load 1m\n  m 1.0000001\n\neval instant at 0 m\n  m 1\n"));
  EXPECT_FALSE(Passes("load 1m\n  m 1.00001\n\neval instant at 0 m\n  m 1\n"));
  EXPECT_FALSE(Passes("load 1m\n  m 1e-300\n\neval instant at 0 m\n  m 0\n"));
  EXPECT_TRUE(Passes("load 1m\n  m NaN\n\neval instant at 0 m\n  m NaN\n"));
}

TEST(Script, StopsShowingASeriesAtAStaleMarker) {
  EXPECT_TRUE(Passes("load 1m\n  m 1 stale\n\neval instant at 1m m\n"));
}

TEST(Script, ReadsHexadecimalDigitsAsARepetition) {
  EXPECT_TRUE(Passes("load 1m\n  m 1+0x3\n\neval range from 0 to 3m step 1m m\n  m 1 1 1 1\n"));
}

TEST(Script, ExpectsFailuresByMessage) {
  const std::string_view load = "load 1m\n  a{x=\"1\"} 1\n  b{y=\"1\"} 1\n  b{y=\"2\"} 1\n\n";
  EXPECT_TRUE(Passes(std::string(load) + "eval instant at 0 a + on() b\n  expect fail\n"));
  EXPECT_FALSE(Passes(std::string(load) + "eval instant at 0 a + on() b\n  expect fail msg: nothing of this kind\n"));
  EXPECT_FALSE(Passes(std::string(load) + "eval instant at 0 a\n  expect fail\n"));
}

TEST(Script, ComparesHistograms) {
  const std::string_view load = "load 1m\n  h {{schema:0 sum:5 count:4 buckets:[1 2 1]}}\n\neval instant at 0 h\n";
  EXPECT_TRUE(Passes(std::string(load) + "  h {{count:4 sum:5 offset:0 buckets:[1 2 1 0]}}\n"));
  EXPECT_FALSE(Passes(std::string(load) + "  h {{count:4 sum:5 buckets:[1 1 2]}}\n"));
  EXPECT_FALSE(Passes(std::string(load) + "  h {{count:4 sum:5 buckets:[1 2 1] counter_reset_hint:gauge}}\n"));
}

TEST(Script, LoadsClassicHistogramsAsNativeOnesToo) {
  EXPECT_TRUE(
      Passes("load_with_nhcb 1m\n  h_bucket{le=\"1\"} 2\n  h_bucket{le=\"+Inf\"} 5\n  h_count 5\n  h_sum 7\n\n"
             "eval instant at 0 h\n  h {{schema:-53 count:5 sum:7 custom_values:[1] buckets:[2 3]}}\n"));
}

TEST(Script, ForgetsDataWithClear) {
  EXPECT_TRUE(Passes("load 1m\n  m 1\n\nclear\n\neval instant at 0 m\n"));
}

TEST(Script, KnowsWhatAnEvalNeeds) {
  const ScriptReport report = RunText(
      "load 1m\n  h {{}}\n  m 1\n\neval instant at 0 m\n  m 1\n\neval instant at 0 h\n  h {{}}\n\n"
      "eval instant at 0 limitk(1, m)\n  m 1\n");
  ASSERT_EQ(report.evals.size(), 3U);
  EXPECT_FALSE(report.evals[0].uses_native_histograms || report.evals[0].is_experimental);
  EXPECT_TRUE(report.evals[1].uses_native_histograms);
  EXPECT_TRUE(report.evals[2].is_experimental);
  EXPECT_EQ(report.evals[2].line, 11);
}

// What a comparison with a real Prometheus showed.
TEST(Script, FillsTheManySideWithFillLeftAlsoInGroupRight) {
  EXPECT_TRUE(Passes(
      "load 1m\n  one{a=\"1\"} 10\n  one{a=\"9\"} 90\n  many{a=\"1\",g=\"x\"} 1\n  many{a=\"3\",g=\"x\"} 3\n\n"
      "eval instant at 0 one - ignoring(g) group_right fill_left(5) many\n  {a=\"1\",g=\"x\"} 9\n  {a=\"9\"} 85\n"));
}

TEST(Script, HasFractionsOfClassicHistogramsBelowTheirFirstBucket) {
  const std::string_view load =
      "load 1m\n  b{le=\"0.5\"} 1\n  b{le=\"+Inf\"} 4\n\nload 1m\n  n{le=\"-5\"} 3\n  n{le=\"0\"} 5\n  n{le=\"+Inf\"} "
      "8\n\n";
  EXPECT_TRUE(Passes(std::string(load) + "eval instant at 0 histogram_fraction(-1, 0.25, b)\n  {} 0.125\n"));
  EXPECT_TRUE(Passes(std::string(load) + "eval instant at 0 histogram_fraction(-100, 100, n)\n  {} 0.25\n"));
}

TEST(Script, TrimsAtNanToNothing) {
  EXPECT_TRUE(Passes("load 1m\n  h {{count:3 sum:5 buckets:[1 2]}}\n\neval instant at 0 h </ NaN\n  h {{}}\n"));
}

TEST(Script, EndsAtALineThatMeansNothing) {
  for (const std::string_view text :
       {"nonsense\n", "load\n", "load 1m\n  m{ 1\n", "load 1m\n  m stalex3\n", "load 1m\n  m NaNx3\n",
        "load 1m\n  m {{schema:0 schema:0}}\n", "load 1m\n  m@st 1m\n", "load 1m\n  m@st 1m 2m\n  m 1\n"}) {
    EXPECT_NE(ErrorOf(text), "") << text;
  }
  const ScriptReport report =
      RunText("eval instant at 0 1\n  1\n\nnonsense\n\neval instant at 0 2\n  2\n\neval instant at 0 3\n  3\n");
  EXPECT_EQ(report.passed(), 1U);
  ASSERT_EQ(report.failed(), 2U);
  EXPECT_EQ(report.evals[2].line, 9);
  EXPECT_EQ(report.evals[2].message, "not run: line 4: unknown command \"nonsense\"");
}

TEST(Script, EvalThatIsMalformedFailsAlone) {
  for (const std::string text :
       {"eval instant at 1x m\n", "eval instant at 0 m +\n", "eval range from 5m to 0 step 1m m\n", "eval nothing\n",
        "eval instant at 0 m\n  expect warn\n  expect no_warn\n", "eval instant at 0 m\n  m 1 2\n",
        "eval instant at 0 m\n  1\n  2\n"}) {
    const ScriptReport report = RunText("eval instant at 0 1\n  1\n\n" + text + "\neval instant at 0 2\n  2\n");
    EXPECT_EQ(report.error, "") << text;
    EXPECT_EQ(report.passed(), 2U) << text;
    ASSERT_EQ(report.failed(), 1U) << text;
    EXPECT_THAT(report.evals[1].message, ::testing::StartsWith("line ")) << text;
  }
}

TEST(Script, FailsAllLaterEvalsWhenALoadFails) {
  const ScriptReport report = RunText("load 1m\n  m 1 2\n\nload 1m\n  m 3\n\neval instant at 0 1\n  1\n");
  EXPECT_NE(report.error, "");
  EXPECT_EQ(report.failed(), 1U);
}

}  // namespace
}  // namespace millstream::promqltest

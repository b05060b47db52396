#include "millstream/promql/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "memory_querier.h"
#include "millstream/env/clock.h"
#include "millstream/model/value.h"
#include "millstream/promql/functions.h"

namespace millstream::promql {
namespace {

using model::Labels;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kMinute = 60'000;

// Runs queries and prints their results, so that an expectation is one line of text.
class EngineTest : public ::testing::Test {
 protected:
  std::string Instant(std::string_view text, TimestampMs time) {
    storage::QueryControl control;
    const Result<QueryResult> result = Engine(options_).QueryInstant(querier_, text, time, control);
    if (!result.ok()) return std::string(result.status().message());
    infos_ = result->infos;
    warnings_ = result->warnings;
    if (const auto* scalar = std::get_if<Scalar>(&result->value)) return fmt::format("{}", scalar->value);
    if (const auto* string = std::get_if<String>(&result->value)) return string->value;
    if (std::holds_alternative<Matrix>(result->value)) return Show(std::get<Matrix>(result->value));
    std::vector<std::string> lines;
    for (const VectorSample& sample : std::get<Vector>(result->value)) {
      EXPECT_EQ(sample.timestamp, time);
      lines.push_back(fmt::format("{} {}", sample.labels.ToString(), sample.value));
    }
    return fmt::format("{}", fmt::join(lines, "; "));
  }

  std::string Range(std::string_view text, TimestampMs start, TimestampMs end, int64_t step_ms) {
    storage::QueryControl control;
    const Result<QueryResult> result = Engine(options_).QueryRange(querier_, {text, start, end, step_ms, 0}, control);
    if (!result.ok()) return std::string(result.status().message());
    infos_ = result->infos;
    return Show(std::get<Matrix>(result->value));
  }

  static std::string Show(const Matrix& matrix) {
    std::vector<std::string> lines;
    for (const MatrixSeries& series : matrix) {
      std::string line = series.labels.ToString();
      for (size_t i = 0; i < series.timestamps.size(); ++i) {
        line += fmt::format(" {}@{}", series.values[i], series.timestamps[i]);
      }
      lines.push_back(line);
    }
    return fmt::format("{}", fmt::join(lines, "; "));
  }

  MemoryQuerier querier_;
  EngineOptions options_;
  std::vector<std::string> infos_;
  std::vector<std::string> warnings_;
};

TEST_F(EngineTest, SelectsTheNewestSampleInALeftOpenWindow) {
  querier_.Add(Labels::Of({{"__name__", "up"}}), {1, 2}, kMinute);
  EXPECT_EQ(Instant("up", kMinute), "up 2");
  EXPECT_EQ(Instant("up", kMinute - 1), "up 1");
  EXPECT_EQ(Instant("up", 6 * kMinute - 1), "up 2");
  EXPECT_EQ(Instant("up", 6 * kMinute), "");
  EXPECT_EQ(Instant("up", -1), "");
}

TEST_F(EngineTest, EndsASeriesAtAStalenessMarker) {
  querier_.Add(Labels::Of({{"__name__", "up"}}), {1, model::StaleNan(), 3}, kMinute);
  EXPECT_EQ(Instant("up", kMinute), "");
  EXPECT_EQ(Range("up", 0, 2 * kMinute, kMinute), "up 1@0 3@120000");
  EXPECT_EQ(Instant("count_over_time(up[5m])", 2 * kMinute), "{} 2");
}

TEST_F(EngineTest, AppliesOffsetAndAtModifiers) {
  querier_.Add(Labels::Of({{"__name__", "m"}}), {0, 1, 2, 3, 4}, kMinute);
  EXPECT_EQ(Instant("m offset 2m", 4 * kMinute), "m 2");
  EXPECT_EQ(Instant("m offset -1m", 2 * kMinute), "m 3");
  EXPECT_EQ(Range("m @ 60", 0, 2 * kMinute, kMinute), "m 1@0 1@60000 1@120000");
  EXPECT_EQ(Range("m @ end() - m", 2 * kMinute, 3 * kMinute, kMinute), "{} 1@120000 0@180000");
}

TEST_F(EngineTest, RateMakesGoodForResetsAndExtrapolates) {
  querier_.Add(Labels::Of({{"__name__", "x_total"}}), {0, 60, 120, 0, 60}, kMinute);
  EXPECT_EQ(Instant("increase(x_total[4m])", 4 * kMinute), "{} 160");
  EXPECT_EQ(Instant("rate(x_total[2m])", 2 * kMinute), "{} 1");
  EXPECT_EQ(Instant("irate(x_total[5m])", 3 * kMinute), "{} 0");
  EXPECT_EQ(Instant("resets(x_total[10m])", 4 * kMinute), "{} 1");
}

TEST_F(EngineTest, TellsWhenARatedMetricIsHardlyACounter) {
  querier_.Add(Labels::Of({{"__name__", "gauge"}}), {0, 60, 120}, kMinute);
  Instant("rate(gauge[5m])", 2 * kMinute);
  EXPECT_THAT(infos_, ElementsAre("PromQL info: metric might not be a counter, name does not end in "
                                  "_total/_sum/_count/_bucket: \"gauge\" (1:6)"));
}

TEST_F(EngineTest, SumsWithCompensation) {
  for (const auto& [name, value] : {std::pair{"a", 1e100}, std::pair{"b", 2.0}, std::pair{"c", -1e100}}) {
    querier_.Add(Labels::Of({{"__name__", "m"}, {"l", name}}), {value}, kMinute);
  }
  EXPECT_EQ(Instant("sum(m)", 0), "{} 2");
  EXPECT_EQ(Instant("sum by (l) (m) > 1", 0), "{l=\"a\"} 1e+100; {l=\"b\"} 2");
  EXPECT_EQ(Instant("topk(2, m)", 0), "m{l=\"a\"} 1e+100; m{l=\"b\"} 2");
  EXPECT_EQ(Instant("count_values(\"v\", m > bool 1)", 0), "{v=\"1\"} 2; {v=\"0\"} 1");
}

TEST_F(EngineTest, JoinsManyToOneAndNamesTheDuplicateOtherwise) {
  querier_.Add(Labels::Of({{"__name__", "cpu"}, {"host", "a"}, {"mode", "idle"}}), {3}, kMinute);
  querier_.Add(Labels::Of({{"__name__", "cpu"}, {"host", "a"}, {"mode", "user"}}), {1}, kMinute);
  querier_.Add(Labels::Of({{"__name__", "info"}, {"host", "a"}, {"role", "db"}}), {2}, kMinute);
  EXPECT_EQ(Instant("cpu * on (host) group_left (role) info", 0),
            "{host=\"a\", mode=\"idle\", role=\"db\"} 6; {host=\"a\", mode=\"user\", role=\"db\"} 2");
  EXPECT_EQ(Instant("cpu * on (host) info", 0),
            "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)");
  EXPECT_EQ(
      Instant("info * on (host) cpu", 0),
      "found duplicate series for the match group {host=\"a\"} on the right hand-side of the operation: "
      "[{__name__=\"cpu\", host=\"a\", mode=\"user\"}, {__name__=\"cpu\", host=\"a\", mode=\"idle\"}];many-to-many "
      "matching not allowed: matching labels must be unique on one side");
  EXPECT_EQ(Instant("cpu unless on (host) info", 0), "");
  EXPECT_EQ(Instant("cpu{mode=\"idle\"} and on (host) info", 0), "cpu{host=\"a\", mode=\"idle\"} 3");
}

TEST_F(EngineTest, DropsNamesAtOnceOrWhenTheQueryEnds) {
  querier_.Add(Labels::Of({{"__name__", "a_total"}}), {0, 60, 120}, kMinute);
  const std::string_view query = "sum by (__name__) (rate(a_total[2m]))";
  EXPECT_EQ(Instant(query, 2 * kMinute), "{} 1");
  const std::string_view keep =
      "label_replace(sum by (__name__) (rate(a_total[2m])), \"n\", \"$1\", \"__name__\", \"(.+)\")";
  EXPECT_EQ(Instant(keep, 2 * kMinute), "{} 1");
  options_.delayed_name_removal = true;
  EXPECT_EQ(Instant(keep, 2 * kMinute), "{n=\"a_total\"} 1");
}

TEST_F(EngineTest, RefusesResultsThatANameToldApart) {
  querier_.Add(Labels::Of({{"__name__", "a"}, {"l", "x"}}), {1}, kMinute);
  querier_.Add(Labels::Of({{"__name__", "b"}, {"l", "x"}}), {2}, kMinute);
  EXPECT_EQ(Instant("-{l=\"x\"}", 0), "vector cannot contain metrics with the same labelset");
  options_.delayed_name_removal = true;
  EXPECT_EQ(Instant("-{l=\"x\"}", 0), "vector cannot contain metrics with the same labelset");
}

TEST_F(EngineTest, EvaluatesSubqueriesAtMultiplesOfTheirStep) {
  querier_.Add(Labels::Of({{"__name__", "m"}}), {0, 1, 2, 3, 4, 5, 6}, 10'000);
  EXPECT_EQ(Instant("sum_over_time(m[30s:10s])", 60'000), "{} 15");
  EXPECT_EQ(Instant("m[30s:10s]", 35'000), "m 1@10000 2@20000 3@30000");
  EXPECT_EQ(Instant("m[20s]", 35'000), "m 2@20000 3@30000");
}

TEST_F(EngineTest, EstimatesQuantilesOfClassicHistograms) {
  for (const auto& [bound, count] : {std::pair{"1", 1.0}, std::pair{"2", 3.0}, std::pair{"+Inf", 4.0}}) {
    querier_.Add(Labels::Of({{"__name__", "h_bucket"}, {"le", bound}}), {count}, kMinute);
  }
  EXPECT_EQ(Instant("histogram_quantile(0.5, h_bucket)", 0), "{} 1.5");
  EXPECT_EQ(Instant("histogram_fraction(0, 2, h_bucket)", 0), "{} 0.75");
  Instant("histogram_quantile(2, h_bucket)", 0);
  EXPECT_THAT(warnings_, ElementsAre("PromQL warning: quantile value should be between 0 and 1, got 2 (1:20)"));
}

TEST_F(EngineTest, ReadsASelectorThatOccursTwiceOnce) {
  querier_.Add(Labels::Of({{"__name__", "m"}}), {1, 2}, kMinute);
  EXPECT_EQ(Range("m / m offset 1m + avg_over_time(m[1m])", kMinute, kMinute, kMinute), "{} 4@60000");
  EXPECT_EQ(querier_.selects(), 1);
  EXPECT_EQ(querier_.reads(), 1);
}

TEST_F(EngineTest, SelectsNoMoreThanTheWindowsNeed) {
  querier_.Add(Labels::Of({{"__name__", "m"}}), {1, 2}, kMinute);
  Range("rate(m[2m])", 10 * kMinute, 20 * kMinute, kMinute);
  ASSERT_EQ(querier_.ranges().size(), 1U);
  EXPECT_EQ(querier_.ranges()[0].min, 8 * kMinute + 1);
  EXPECT_EQ(querier_.ranges()[0].max, 20 * kMinute);
}

TEST_F(EngineTest, EndsWhenCancelledOrOutOfBudget) {
  for (int i = 0; i < 10; ++i) {
    querier_.Add(Labels::Of({{"__name__", "m"}, {"i", std::to_string(i)}}), {1}, kMinute);
  }
  storage::QueryControl cancelled;
  cancelled.Cancel();
  const Engine engine(options_);
  EXPECT_EQ(engine.QueryInstant(querier_, "m", 0, cancelled).status().code(), StatusCode::kCancelled);
  storage::QueryControl small(storage::QueryLimits{9, 1 << 20});
  EXPECT_EQ(engine.QueryInstant(querier_, "m", 0, small).status().code(), StatusCode::kResourceExhausted);
}

TEST_F(EngineTest, RefusesASubqueryOfTooManyStepsBeforeItTakesMemory) {
  EXPECT_THAT(Instant("count_over_time(vector(1)[100y:1ms])", 0), HasSubstr("a subquery has 3153600000000 steps"));
  EXPECT_THAT(Instant("sum_over_time(max_over_time(vector(1)[3y:1s])[1h:1m])", 0), HasSubstr("too many samples"));
  EXPECT_EQ(Instant("count_over_time(vector(1)[100d:1m])", 0), "{} 144000");
}

TEST_F(EngineTest, RefusesLabelsThatDoubleWithEachCall) {
  querier_.Add(Labels::Of({{"__name__", "up"}, {"host", "a"}}), {1}, kMinute);
  std::string replaced = "up";
  std::string joined = "up";
  for (int i = 0; i < 40; ++i) {
    replaced = "label_replace(" + replaced + ", \"host\", \"$1$1\", \"host\", \"(.*)\")";
    joined = "label_join(" + joined + ", \"host\", \"\", \"host\", \"host\")";
  }
  EXPECT_EQ(Instant(replaced, 0), "label \"host\" would have more than 1048576 bytes");
  EXPECT_EQ(Instant(joined, 0), "label \"host\" would have more than 1048576 bytes");
}

TEST_F(EngineTest, ChargesTheBytesOfColumnsAndOfLabelsThatItMakes) {
  for (int i = 0; i < 100; ++i) {
    querier_.Add(Labels::Of({{"__name__", "up"}, {"host", std::to_string(i)}}), {1}, kMinute);
  }
  const auto status = [&](std::string_view text, int64_t bytes_max) {
    storage::QueryControl control(storage::QueryLimits{1'000'000, bytes_max});
    return Engine(options_).QueryRange(querier_, {text, 0, 100 * kMinute, kMinute, 0}, control).status();
  };
  // One sample in each of 100 series, but columns over 101 steps.
  EXPECT_EQ(status("sort(up)", 50'000).code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(status("sort(up)", 1'000'000).ok());
  const std::string long_label = "label_replace(up, \"l\", \"" + std::string(100'000, 'x') + "\", \"\", \"\")";
  EXPECT_EQ(status(long_label, 1'000'000).code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(status(long_label, 100'000'000).ok());
}

// Goes on by a nanosecond with each look at it.
class CountingClock final : public env::Clock {
 public:
  TimestampMs WallNow() const override { return 0; }
  std::chrono::nanoseconds MonotonicNow() const override { return std::chrono::nanoseconds(++looks_); }

 private:
  mutable int64_t looks_ = 0;
};

TEST_F(EngineTest, LooksForTheDeadlineWithinOneSeries) {
  querier_.Add(Labels::Of({{"__name__", "up"}}), std::vector<double>(2'000, 1), 1'000);
  const std::pair<const char*, int64_t> queries[] = {{"quantile_over_time(0.5, up[30m])", 1'000},
                                                     {"topk(1, quantile_over_time(0.5, up[30m]))", 1'000},
                                                     {"sum_over_time(up[30m])", 10}};
  for (const auto& query : queries) {
    const auto run = [&](TimestampMs end) {
      const CountingClock clock;
      storage::QueryControl control;
      control.SetTimeout(clock, std::chrono::nanoseconds(20));
      return Engine(options_).QueryRange(querier_, {query.first, 0, end, query.second, 0}, control).status().code();
    };
    EXPECT_EQ(run(2'000'000), StatusCode::kDeadlineExceeded) << query.first;
    EXPECT_EQ(run(10'000), StatusCode::kOk) << query.first;
  }
}

TEST_F(EngineTest, RefusesImpossibleRanges) {
  storage::QueryControl control;
  const Engine engine(options_);
  const auto code = [&](const RangeQuery& query) {
    return engine.QueryRange(querier_, query, control).status().code();
  };
  EXPECT_EQ(code({"1", 10, 0, 1, 0}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({"1", 0, 10, 0, 0}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({"1", 0, std::numeric_limits<int64_t>::max(), 1, 0}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({"\"text\"", 0, 10, 1, 0}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({"m[5m]", 0, 10, 1, 0}), StatusCode::kInvalidArgument);
}

TEST_F(EngineTest, EvaluatesScalarsStringsAndTime) {
  EXPECT_EQ(Instant("1 + 2 * 3", 0), "7");
  EXPECT_EQ(Instant("(\"text\")", 0), "text");
  EXPECT_EQ(Range("time()", 0, 2000, 1000), "{} 0@0 1@1000 2@2000");
  EXPECT_EQ(Instant("year(vector(1.7e9))", 0), "{} 2023");
  EXPECT_EQ(Instant("day_of_week(vector(0))", 0), "{} 4");
  EXPECT_EQ(Instant("absent(nothing{job=\"a\", x=~\"y\"})", 0), "{job=\"a\"} 1");
}

TEST_F(EngineTest, OperatesOnTheStepsThatHaveASampleWithAScalarOnEitherSide) {
  querier_.Add(Labels::Of({{"__name__", "m"}}), {4, model::StaleNan(), 2}, kMinute);
  const auto range = [&](std::string_view text) { return Range(text, 0, 2 * kMinute, kMinute); };
  EXPECT_EQ(range("m + 1"), "{} 5@0 3@120000");
  EXPECT_EQ(range("m - 1"), "{} 3@0 1@120000");
  EXPECT_EQ(range("1 - m"), "{} -3@0 -1@120000");
  EXPECT_EQ(range("2 * m"), "{} 8@0 4@120000");
  EXPECT_EQ(range("8 / m"), "{} 2@0 4@120000");
  EXPECT_EQ(range("m % 3"), "{} 1@0 2@120000");
  EXPECT_EQ(range("m > 3"), "m 4@0");
  EXPECT_EQ(range("3 > m"), "m 2@120000");
  EXPECT_EQ(range("4 <= m"), "m 4@0");
  EXPECT_EQ(range("m != 4"), "m 2@120000");
  EXPECT_EQ(range("m >= bool 4"), "{} 1@0 0@120000");
  EXPECT_EQ(range("3 < bool m"), "{} 1@0 0@120000");
  EXPECT_EQ(range("m == 5"), "");
}

TEST_F(EngineTest, PlansEveryFunctionOfTheTable) {
  options_.parser.experimental_functions = true;
  querier_.Add(Labels::Of({{"__name__", "m"}}), {1, 2, 3}, kMinute);
  for (const FunctionSignature& function : AllFunctions()) {
    std::vector<std::string> args;
    for (const ValueType type : function.args) {
      if (function.name == "info" && !args.empty()) break;  // its second argument is no expression
      args.emplace_back(type == ValueType::kVector   ? "m"
                        : type == ValueType::kMatrix ? "m[5m]"
                        : type == ValueType::kScalar ? "0.5"
                                                     : "\"text\"");
    }
    const std::string text = fmt::format("{}({})", function.name, fmt::join(args, ", "));
    storage::QueryControl control;
    const Result<QueryResult> result = Engine(options_).QueryInstant(querier_, text, 2 * kMinute, control);
    EXPECT_TRUE(result.ok()) << text << ": " << result.status().message();
  }
}

}  // namespace
}  // namespace millstream::promql

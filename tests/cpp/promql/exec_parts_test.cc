// Parts of the executor by themselves. What queries give as a whole is in engine_exec_test.cc and the golden scripts.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "exec/annotations.h"
#include "exec/calendar.h"
#include "exec/element.h"
#include "exec/format.h"
#include "exec/histogram_trim.h"
#include "exec/instant_function.h"
#include "exec/kahan.h"
#include "exec/numbers.h"
#include "exec/quantile.h"
#include "exec/selector.h"
#include "exec/stable_sort.h"

namespace millstream::promql::exec {
namespace {

TEST(Format, SwitchesToAnExponentWhereGoDoes) {
  EXPECT_EQ(FormatGo(0.5), "0.5");
  EXPECT_EQ(FormatGo(123456), "123456");
  EXPECT_EQ(FormatGo(1e6), "1e+06");
  EXPECT_EQ(FormatGo(0.0001), "0.0001");
  EXPECT_EQ(FormatGo(0.00001), "1e-05");
  EXPECT_EQ(FormatGo(1e19, kGoDefaultVerb), "10000000000000000000");
  EXPECT_EQ(FormatGo(-kInf), "-Inf");
  EXPECT_EQ(FormatOpenMetrics(1), "1.0");
  EXPECT_EQ(FormatOpenMetrics(0.25), "0.25");
  EXPECT_EQ(FormatRfc3339(-1), "1969-12-31T23:59:59Z");
}

TEST(Calendar, KnowsLeapDaysAndTimesBeforeTheEpoch) {
  const CalendarTime leap = ToCalendar(1'709'210'096);  // 2024-02-29 12:34:56
  EXPECT_EQ(leap.year, 2024);
  EXPECT_EQ(leap.month, 2);
  EXPECT_EQ(leap.day, 29);
  EXPECT_EQ(leap.hour, 12);
  EXPECT_EQ(leap.minute, 34);
  EXPECT_EQ(leap.second, 56);
  EXPECT_EQ(leap.day_of_week, 4);
  EXPECT_EQ(leap.day_of_year, 60);
  EXPECT_EQ(leap.days_in_month, 29);
  const CalendarTime before = ToCalendar(-1);
  EXPECT_EQ(before.year, 1969);
  EXPECT_EQ(before.day_of_week, 3);
  EXPECT_EQ(before.day_of_year, 365);
}

TEST(KahanSum, KeepsWhatPlainAdditionLoses) {
  KahanSum sum;
  for (const double value : {1e100, 1.0, -1e100}) sum.Add(value);
  EXPECT_EQ(sum.Total(), 1);
  KahanSum infinite;
  for (const double value : {kInf, 1.0}) infinite.Add(value);
  EXPECT_EQ(infinite.Total(), kInf);
}

TEST(Quantile, InterpolatesAndSortsNanFirst) {
  std::vector<double> values = {3, 1, 2};
  EXPECT_EQ(Quantile(0.25, &values), 1.5);
  EXPECT_EQ(Quantile(-0.1, &values), -kInf);
  EXPECT_EQ(Quantile(1.1, &values), kInf);
  EXPECT_TRUE(std::isnan(Quantile(kNan, &values)));
  std::vector<double> with_nan = {2, kNan, 1};
  EXPECT_EQ(Quantile(1, &with_nan), 2);
  EXPECT_TRUE(std::isnan(Quantile(0, &with_nan)));
}

TEST(BucketQuantile, RaisesCountsThatFallAndTellsWhere) {
  std::vector<Bucket> buckets = {{1, 4}, {2, 3}, {3, 8}, {kInf, 8}};
  const BucketQuantileResult result = BucketQuantile(0.75, &buckets);
  EXPECT_TRUE(result.forced_monotonic);
  EXPECT_EQ(result.bucket_min, 2);
  EXPECT_EQ(result.difference_max, 1);
  EXPECT_EQ(result.quantile, 2.5);
}

TEST(BucketQuantile, NeedsAnInfiniteBucketAndObservations) {
  std::vector<Bucket> open = {{1, 4}, {2, 5}};
  EXPECT_TRUE(std::isnan(BucketQuantile(0.5, &open).quantile));
  std::vector<Bucket> empty = {{1, 0}, {kInf, 0}};
  EXPECT_TRUE(std::isnan(BucketQuantile(0.5, &empty).quantile));
  std::vector<Bucket> last = {{1, 1}, {kInf, 9}};
  EXPECT_EQ(BucketQuantile(0.9, &last).quantile, 1);
}

TEST(BucketFraction, CountsWhatLiesBetweenTheBounds) {
  std::vector<Bucket> buckets = {{1, 2}, {2, 4}, {kInf, 8}};
  EXPECT_EQ(BucketFraction(0.5, 1.5, &buckets), 0.25);
  EXPECT_EQ(BucketFraction(-kInf, kInf, &buckets), 1);
  EXPECT_EQ(BucketFraction(2, 1, &buckets), 0);
}

TEST(TrimHistogram, CutsABucketWhereTheBoundLies) {
  model::Histogram histogram;
  histogram.count = 4;
  histogram.sum = 6;
  histogram.positive_spans = {{0, 3}};  // (0.5,1], (1,2], (2,4]
  histogram.positive_buckets = {1, 2, 1};
  model::Histogram below = histogram;
  TrimHistogram(&below, 2, true);
  EXPECT_EQ(below.count, 3);
  EXPECT_EQ(below.positive_buckets, (std::vector<double>{1, 2}));
  model::Histogram above = histogram;
  TrimHistogram(&above, std::sqrt(2.0), false);
  EXPECT_NEAR(above.count, 2, 1e-12);
  model::Histogram all = histogram;
  TrimHistogram(&all, 100, true);
  EXPECT_TRUE(all.IdenticalTo(histogram));
}

TEST(NaturalLess, ComparesRunsOfDigitsAsNumbers) {
  EXPECT_TRUE(NaturalLess("node2", "node10"));
  EXPECT_FALSE(NaturalLess("node10", "node2"));
  EXPECT_TRUE(NaturalLess("1.2.9", "1.10.1"));
  EXPECT_TRUE(NaturalLess("a", "a1"));
  EXPECT_FALSE(NaturalLess("a", "a"));
}

TEST(Element, TakesTheLesserAndTheGreaterAsGoDoes) {
  EXPECT_EQ(Least(kNan, -kInf), -kInf);
  EXPECT_TRUE(std::isnan(Least(kNan, 1)));
  EXPECT_EQ(Greatest(kNan, kInf), kInf);
  EXPECT_EQ(Greatest(1, 2), 2);
}

TEST(SubqueryGrid, BeginsAtTheFirstMultipleInsideTheWindow) {
  WindowShape shape;
  shape.range_ms = 50;
  const Grid outer{100, 10, 3};
  const Grid grid = SubqueryGrid(outer, shape, 20);
  EXPECT_EQ(grid.start, 60);
  EXPECT_EQ(grid.end(), 120);
  shape.range_ms = 30;
  const Grid before_zero = SubqueryGrid(Grid{-15, 1, 1}, shape, 10);
  EXPECT_EQ(before_zero.start, -40);
  EXPECT_EQ(before_zero.end(), -20);
  shape.range_ms = 5;
  EXPECT_EQ(SubqueryGrid(Grid{18, 1, 1}, shape, 20).steps, 0U);
}

TEST(Annotations, KeepsEachTextOnceAndMergesMonotonicity) {
  Annotations annotations;
  annotations.NotCounter("m", {0, 1});
  annotations.NotCounter("m", {5, 6});
  annotations.ForcedMonotonicity("h", 1000, 0.1, 0.2, 3, {4, 5});
  annotations.ForcedMonotonicity("h", 0, 0.05, 0.1, 1, {4, 5});
  std::vector<std::string> warnings;
  std::vector<std::string> infos;
  annotations.Export("rate(m[5m])", &warnings, &infos);
  EXPECT_EQ(warnings,
            std::vector<std::string>{"PromQL warning: this native histogram metric is not a counter: \"m\" (1:6)"});
  ASSERT_EQ(infos.size(), 1U);
  EXPECT_TRUE(
      infos[0].ends_with(" for metric name \"h\", from buckets 0.05 to 0.2, with a max diff of 3, over 2 samples from "
                         "1970-01-01T00:00:00Z to 1970-01-01T00:00:01Z (1:5)"))
      << infos[0];
}

TEST(StableSort, KeepsTheOrderOfEqualElements) {
  std::vector<std::pair<int, int>> values = {{2, 0}, {1, 1}, {2, 2}, {1, 3}};
  StableSort(&values, [](const auto& a, const auto& b) { return a.first < b.first; });
  EXPECT_EQ(values, (std::vector<std::pair<int, int>>{{1, 1}, {1, 3}, {2, 0}, {2, 2}}));
}

}  // namespace
}  // namespace millstream::promql::exec

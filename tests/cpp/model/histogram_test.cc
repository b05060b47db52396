#include "millstream/model/histogram_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace millstream::model {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

Histogram Exponential(int32_t schema, int32_t offset, std::vector<double> buckets) {
  Histogram h;
  h.schema = schema;
  for (const double count : buckets) h.count += count;
  h.sum = h.count * 2;
  h.positive_spans = {{offset, static_cast<uint32_t>(buckets.size())}};
  h.positive_buckets = std::move(buckets);
  return h;
}

Histogram Custom(std::vector<double> bounds, std::vector<double> buckets) {
  Histogram h = Exponential(kCustomBucketsSchema, 0, std::move(buckets));
  h.custom_values = std::move(bounds);
  return h;
}

TEST(HistogramBuckets, HaveTheBoundsOfTheirSchema) {
  Histogram h = Exponential(0, 1, {3, 1});
  h.negative_spans = {{0, 1}};
  h.negative_buckets = {2};
  h.zero_threshold = 0.001;
  h.zero_count = 5;
  EXPECT_EQ(ToString(h), "{count:4, sum:8, [-1,-0.5):2, [-0.001,0.001]:5, (1,2]:3, (2,4]:1}");
  EXPECT_EQ(AllBuckets(h)[0].boundary_rule(), 1);
  EXPECT_EQ(AllBuckets(h)[1].boundary_rule(), 3);
  EXPECT_EQ(AllBuckets(h)[2].boundary_rule(), 0);
  EXPECT_EQ(BucketUpperBound(Exponential(3, 0, {}), 1), 2 * 0.5452538663326288);
  EXPECT_EQ(BucketUpperBound(Exponential(1, 0, {}), 1), 1.414213562373095);  // as Prometheus, not 1.4142135623730951
  EXPECT_EQ(BucketUpperBound(Exponential(1, 0, {}), -1), 0.7071067811865475);
  for (int32_t i = -300; i < 300; ++i) {
    EXPECT_NEAR(BucketUpperBound(Exponential(8, 0, {}), i) / std::exp2(i / 256.0), 1, 1e-14) << i;
  }
  EXPECT_DOUBLE_EQ(BucketUpperBound(Exponential(-2, 0, {}), -1), 1.0 / 16);
  EXPECT_EQ(BucketUpperBound(Exponential(0, 0, {}), 1024), std::numeric_limits<double>::max());
  EXPECT_EQ(BucketUpperBound(Exponential(0, 0, {}), 1025), kInfinity);
  EXPECT_EQ(ToString(Custom({5, 10}, {1, 2, 3})), "{count:6, sum:12, [-Inf,5]:1, (5,10]:2, (10,+Inf]:3}");
}

TEST(HistogramAdd, UsesTheCoarserSchema) {
  Histogram fine = Exponential(1, 0, {1, 2, 3, 4});  // bounds 1, 1.41, 2, 2.83
  const auto outcome = Add(&fine, Exponential(0, 0, {10, 20, 30}));
  ASSERT_TRUE(outcome.ok());
  EXPECT_EQ(ToString(fine), "{count:70, sum:140, (0.5,1]:11, (1,2]:25, (2,4]:34}");
  EXPECT_FALSE(outcome->counter_reset_collision);
}

TEST(HistogramAdd, WidensTheNarrowerZeroBucketToAPopulatedBucketsEnd) {
  Histogram narrow = Exponential(0, 0, {1, 2, 3});  // (0.5,1], (1,2], (2,4]
  narrow.zero_threshold = 0.25;
  narrow.zero_count = 7;
  Histogram wide = Exponential(0, 2, {10});
  wide.zero_threshold = 1.5;
  wide.zero_count = 100;
  ASSERT_TRUE(Add(&narrow, wide).ok());
  EXPECT_EQ(narrow.zero_threshold, 2);
  EXPECT_EQ(narrow.zero_count, 110);
  EXPECT_EQ(ToString(narrow), "{count:16, sum:32, [-2,2]:110, (2,4]:13}");
}

TEST(HistogramAdd, ReconcilesCustomBoundsToTheCommonOnes) {
  Histogram many = Custom({1, 2, 3, 4, 5, 6, 7, 8}, {10, 20, 30, 40, 50, 60, 70, 80, 90});
  const auto outcome = Subtract(&many, Custom({2, 4, 6}, {1, 2, 5, 7}));
  ASSERT_TRUE(outcome.ok());
  EXPECT_TRUE(outcome->bounds_reconciled);
  EXPECT_EQ(many.custom_values, (std::vector<double>{2, 4, 6}));
  EXPECT_EQ(many.positive_buckets, (std::vector<double>{29, 68, 105, 233}));
}

TEST(HistogramAdd, RefusesToMixExponentialAndCustomBuckets) {
  Histogram h = Exponential(0, 0, {1});
  EXPECT_EQ(Add(&h, Custom({1}, {1})).status().code(), StatusCode::kInvalidArgument);
}

TEST(HistogramAdd, CombinesCounterResetHints) {
  const auto hint = [](CounterResetHint a, CounterResetHint b) {
    Histogram left = Exponential(0, 0, {1});
    Histogram right = left;
    left.counter_reset_hint = a;
    right.counter_reset_hint = b;
    const auto outcome = Add(&left, right);
    return std::pair(left.counter_reset_hint, outcome->counter_reset_collision);
  };
  using Hint = CounterResetHint;
  EXPECT_EQ(hint(Hint::kReset, Hint::kReset), std::pair(Hint::kReset, false));
  EXPECT_EQ(hint(Hint::kReset, Hint::kNotReset), std::pair(Hint::kUnknown, true));
  EXPECT_EQ(hint(Hint::kNotReset, Hint::kUnknown), std::pair(Hint::kUnknown, false));
  EXPECT_EQ(hint(Hint::kUnknown, Hint::kGauge), std::pair(Hint::kGauge, false));
}

TEST(HistogramSum, KeepsWhatPlainAdditionLoses) {
  Histogram huge = Exponential(0, 0, {1e100});
  HistogramSum sum(Exponential(0, 0, {1}));
  Histogram other = Exponential(0, 3, {1});
  ASSERT_TRUE(sum.Add(huge).ok());
  ASSERT_TRUE(sum.Add(other).ok());
  huge.positive_buckets[0] = -1e100;
  huge.count = -1e100;
  huge.sum = -2e100;
  ASSERT_TRUE(sum.Add(huge).ok());
  const Histogram total = sum.Total();
  EXPECT_EQ(total.count, 2);
  EXPECT_EQ(total.sum, 4);
  EXPECT_EQ(total.positive_buckets, (std::vector<double>{1, 1}));
  EXPECT_EQ(sum.Total(2).count, 1);
}

TEST(HistogramScale, MakesAGaugeOfNegativeFactors) {
  Histogram h = Exponential(0, 0, {1, 2});
  Multiply(&h, -2);
  EXPECT_EQ(h.positive_buckets, (std::vector<double>{-2, -4}));
  EXPECT_EQ(h.counter_reset_hint, CounterResetHint::kGauge);
  Divide(&h, 0);
  EXPECT_TRUE(h.positive_buckets.empty());
  EXPECT_EQ(h.count, -kInfinity);
}

TEST(HistogramCompact, DropsEmptyBucketsAndJoinsSpans) {
  Histogram h = Exponential(0, -2, {0, 1, 0, 2});
  h.positive_spans = {{-2, 1}, {0, 1}, {0, 0}, {0, 2}};
  Compact(&h);
  EXPECT_EQ(h.positive_spans, (std::vector<Span>{{-1, 1}, {1, 1}}));
  EXPECT_EQ(h.positive_buckets, (std::vector<double>{1, 2}));
}

TEST(HistogramSameDistribution, IgnoresEmptyBucketsAndHints) {
  Histogram a = Exponential(0, 0, {0, 1, 0});
  Histogram b = Exponential(0, 1, {1});
  a.counter_reset_hint = CounterResetHint::kReset;
  EXPECT_TRUE(SameDistribution(a, b));
  b.positive_buckets[0] = 2;
  EXPECT_FALSE(SameDistribution(a, b));
}

TEST(HistogramReset, IsSeenInAnyBucketAndInFinerResolution) {
  const Histogram before = Exponential(0, 0, {1, 2, 3});
  EXPECT_FALSE(DetectReset(Exponential(0, 0, {1, 2, 4}), before));
  EXPECT_TRUE(DetectReset(Exponential(0, 0, {0, 5, 5}), before));
  EXPECT_TRUE(DetectReset(Exponential(0, 0, {1, 2}), before));
  EXPECT_TRUE(DetectReset(Exponential(1, 0, {1, 2, 30}), before));
  EXPECT_FALSE(DetectReset(Exponential(-1, 0, {1, 5}), before));
  Histogram hinted = Exponential(0, 0, {0});
  hinted.counter_reset_hint = CounterResetHint::kNotReset;
  EXPECT_FALSE(DetectReset(hinted, before));
  EXPECT_TRUE(DetectReset(Custom({1}, {5, 5}), before));
  EXPECT_FALSE(DetectReset(Custom({1, 2}, {1, 1, 1}), Custom({2}, {1, 1})));
}

TEST(HistogramReset, IsSeenWhenTheZeroBucketCutsAPopulatedOne) {
  const Histogram before = Exponential(0, 0, {1, 2, 3});
  Histogram after = Exponential(0, 2, {9});
  after.count = 20;
  after.zero_threshold = 2;
  after.zero_count = 3;
  EXPECT_FALSE(DetectReset(after, before));
  after.zero_threshold = 1.5;
  EXPECT_TRUE(DetectReset(after, before));
}

TEST(HistogramQuantile, InterpolatesExponentiallyAndLinearly) {
  EXPECT_DOUBLE_EQ(Quantile(0.5, Exponential(0, 1, {4})).value, std::exp2(0.5));
  EXPECT_DOUBLE_EQ(Quantile(0.5, Custom({0, 10}, {0, 4})).value, 5);
  EXPECT_DOUBLE_EQ(Quantile(0.5, Custom({10}, {4})).value, 5);
  EXPECT_DOUBLE_EQ(Quantile(1, Custom({10}, {4, 4})).value, 10);
  EXPECT_EQ(Quantile(-1, Custom({10}, {4})).value, -kInfinity);
  EXPECT_EQ(Quantile(2, Custom({10}, {4})).value, kInfinity);
  EXPECT_TRUE(std::isnan(Quantile(kNan, Custom({10}, {4})).value));
  Histogram zero = Exponential(0, 1, {1});
  zero.zero_threshold = 1;
  zero.zero_count = 3;
  zero.count = 4;
  EXPECT_DOUBLE_EQ(Quantile(0.375, zero).value, 0.5);
}

TEST(HistogramQuantile, TellsOfNanObservations) {
  Histogram h = Exponential(0, 1, {4});
  h.count = 8;
  h.sum = kNan;
  EXPECT_EQ(Quantile(0.25, h).nan_effect, NanEffect::kSkewed);
  EXPECT_DOUBLE_EQ(Quantile(0.25, h).value, std::exp2(0.5));
  EXPECT_EQ(Quantile(0.75, h).nan_effect, NanEffect::kResultIsNan);
  EXPECT_TRUE(std::isnan(Quantile(0.75, h).value));
  EXPECT_DOUBLE_EQ(Fraction(-kInfinity, kInfinity, h).value, 0.5);
}

TEST(HistogramFraction, AddsUpTheBucketsBetweenTheBounds) {
  const Histogram h = Exponential(0, 1, {1, 2, 1});  // (1,2], (2,4], (4,8]
  EXPECT_DOUBLE_EQ(Fraction(2, 4, h).value, 0.5);
  EXPECT_DOUBLE_EQ(Fraction(0, 1, h).value, 0);
  EXPECT_DOUBLE_EQ(Fraction(-kInfinity, std::sqrt(8.0), h).value, 0.5);
  EXPECT_DOUBLE_EQ(Fraction(5, 3, h).value, 0);
  EXPECT_TRUE(std::isnan(Fraction(0, kNan, h).value));
}

TEST(HistogramVariance, TakesGeometricMeansOfBuckets) {
  Histogram h = Exponential(0, 1, {1, 1});
  h.sum = std::sqrt(2.0) + std::sqrt(8.0);
  EXPECT_NEAR(Variance(h), 0.5, 1e-12);
}

TEST(FormatG, PrintsAsGo) {
  EXPECT_EQ(FormatG(0), "0");
  EXPECT_EQ(FormatG(123456), "123456");
  EXPECT_EQ(FormatG(1234567), "1.234567e+06");
  EXPECT_EQ(FormatG(0.0001), "0.0001");
  EXPECT_EQ(FormatG(0.00001), "1e-05");
  EXPECT_EQ(FormatG(-kInfinity), "-Inf");
}

}  // namespace
}  // namespace millstream::model

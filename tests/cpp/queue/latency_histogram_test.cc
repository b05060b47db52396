#include "millstream/queue/latency_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

namespace millstream::queue {
namespace {

int64_t ExactQuantile(const std::vector<int64_t>& sorted, double quantile) {
  const double rank = std::ceil(quantile * static_cast<double>(sorted.size()));
  return sorted[static_cast<size_t>(std::max(rank, 1.0)) - 1];
}

TEST(LatencyHistogram, BucketsAdjoinAndHoldWhatBelongsToThem) {
  for (size_t bucket = 0; bucket < LatencyHistogram::kBuckets; ++bucket) {
    const uint64_t begin = LatencyHistogram::BucketBegin(bucket);
    const uint64_t end = LatencyHistogram::BucketEnd(bucket);
    ASSERT_LT(begin, end);
    ASSERT_EQ(LatencyHistogram::BucketOf(begin), bucket);
    ASSERT_EQ(LatencyHistogram::BucketOf(end - 1), bucket);
    ASSERT_LE(static_cast<double>(end - begin - 1) / 2,
              static_cast<double>(begin) * LatencyHistogram::kRelativeError + 0.5);
  }
  EXPECT_EQ(LatencyHistogram::BucketOf(UINT64_MAX), LatencyHistogram::kBuckets - 1);
}

TEST(LatencyHistogram, QuantilesAreWithinTheStatedErrorOfTheExactOnes) {
  std::mt19937_64 random(7);
  std::lognormal_distribution<double> typical(7, 2);
  std::uniform_int_distribution<int64_t> flat(0, 50'000'000);
  std::exponential_distribution<double> waiting(1e-6);
  const std::vector<std::function<int64_t()>> sources = {
      [&] { return static_cast<int64_t>(typical(random)); }, [&] { return flat(random); },
      [&] { return static_cast<int64_t>(waiting(random)); }, [&] { return flat(random) % 3 == 0 ? 12 : 9'000'000; }};
  for (const auto& source : sources) {
    auto histogram = std::make_unique<LatencyHistogram>();
    std::vector<int64_t> values;
    for (int i = 0; i < 100'000; ++i) {
      values.push_back(source());
      histogram->Record(values.back());
    }
    std::sort(values.begin(), values.end());
    for (const double quantile : {0.0, 0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 1.0}) {
      const auto exact = static_cast<double>(ExactQuantile(values, quantile));
      const auto answer = static_cast<double>(histogram->Quantile(quantile));
      EXPECT_NEAR(answer, exact, exact * LatencyHistogram::kRelativeError + 0.5) << "quantile " << quantile;
    }
    EXPECT_EQ(histogram->min(), values.front());
    EXPECT_EQ(histogram->max(), values.back());
    EXPECT_EQ(histogram->count(), values.size());
  }
}

TEST(LatencyHistogram, MergingIsRecordingInOne) {
  LatencyHistogram one;
  LatencyHistogram other;
  LatencyHistogram both;
  for (int64_t i = 0; i < 10'000; ++i) {
    (i % 3 == 0 ? one : other).Record(i * i);
    both.Record(i * i);
  }
  one.Merge(other);
  one.Merge(LatencyHistogram());
  EXPECT_EQ(one.count(), both.count());
  EXPECT_EQ(one.min(), both.min());
  EXPECT_EQ(one.max(), both.max());
  EXPECT_EQ(one.mean(), both.mean());
  for (const double quantile : {0.01, 0.5, 0.99}) EXPECT_EQ(one.Quantile(quantile), both.Quantile(quantile));
}

TEST(LatencyHistogram, AnEmptyOneAnswersZeroAndDrawsNothing) {
  const LatencyHistogram histogram;
  EXPECT_EQ(histogram.Quantile(0.99), 0);
  EXPECT_EQ(histogram.min(), 0);
  EXPECT_EQ(histogram.max(), 0);
  EXPECT_EQ(histogram.mean(), 0);
  EXPECT_EQ(histogram.Draw(), "");
}

TEST(LatencyHistogram, NegativeIsZeroAndTooLongCountsInTheLastBucket) {
  LatencyHistogram histogram;
  histogram.Record(-5);
  histogram.Record(INT64_MAX / 4, 2);
  EXPECT_EQ(histogram.count(), 3U);
  EXPECT_EQ(histogram.min(), 0);
  EXPECT_EQ(histogram.Quantile(0.1), 0);
  EXPECT_GE(histogram.Quantile(0.5), (int64_t{1} << 39));
  EXPECT_EQ(histogram.Quantile(1), INT64_MAX / 4);
}

TEST(LatencyHistogram, DrawsABarForEachPowerOfTwoAndTheQuantiles) {
  LatencyHistogram histogram;
  histogram.Record(100, 90);
  histogram.Record(3'000, 10);
  const std::string drawing = histogram.Draw();
  EXPECT_NE(drawing.find("  <    128 ns           90  90.00000 % ####"), std::string::npos) << drawing;
  EXPECT_NE(drawing.find("  <    4.1 us           10  10.00000 % ####"), std::string::npos) << drawing;
  EXPECT_NE(drawing.find("  p50          100 ns"), std::string::npos) << drawing;
  EXPECT_NE(drawing.find("  p99          3.0 us"), std::string::npos) << drawing;
}

}  // namespace
}  // namespace millstream::queue

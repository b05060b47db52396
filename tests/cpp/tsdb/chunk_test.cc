#include "chunk.h"

#include <gtest/gtest.h>

#include <random>

#include "tsdb_testing.h"

namespace millstream::tsdb {
namespace {

constexpr uint64_t kSeed = 77;

std::vector<TimestampMs> RandomTimes(std::mt19937_64& random, size_t count) {
  std::vector<TimestampMs> times;
  auto time = static_cast<int64_t>(random() % 1'000'000) - 500'000;
  for (size_t i = 0; i < count; ++i) {
    time += static_cast<int64_t>(random() % 5000) + 1;
    times.push_back(time);
  }
  return times;
}

TEST(Chunk, FloatsSurviveWithTheirStartsInEveryRange) {
  std::mt19937_64 random(kSeed);
  for (int round = 0; round < 100; ++round) {
    const auto times = RandomTimes(random, random() % 300 + 1);
    std::vector<double> values;
    std::vector<TimestampMs> starts;
    for (size_t i = 0; i < times.size(); ++i) {
      values.push_back(testing::RandomValue(random));
      if (round % 2 == 0) starts.push_back(static_cast<int64_t>(random() % 3));
    }
    const auto sealed = Chunk::SealFloats({times, starts, values, {}});
    const auto chunk = Chunk::Parse(sealed->bytes());
    ASSERT_TRUE(chunk.ok());
    EXPECT_EQ((*chunk)->count(), times.size());
    const storage::TimeRange range{times[random() % times.size()] - 1, times[random() % times.size()] + 1};
    storage::SampleColumns out;
    ASSERT_TRUE((*chunk)->Decode(range, &out).ok());
    size_t found = 0;
    for (size_t i = 0; i < times.size(); ++i) {
      if (times[i] < range.min || times[i] > range.max) continue;
      ASSERT_LT(found, out.timestamps.size());
      EXPECT_EQ(out.timestamps[found], times[i]);
      EXPECT_EQ(std::bit_cast<uint64_t>(out.values[found]), std::bit_cast<uint64_t>(values[i]));
      if (!starts.empty()) EXPECT_EQ(out.start_timestamps[found], starts[i]);
      ++found;
    }
    EXPECT_EQ(out.timestamps.size(), found);
  }
}

TEST(Chunk, HistogramsSurviveWithSeveralLayouts) {
  std::mt19937_64 random(kSeed + 1);
  for (int round = 0; round < 50; ++round) {
    const auto times = RandomTimes(random, random() % 100 + 1);
    std::vector<HistogramPtr> histograms;
    for (size_t i = 0; i < times.size(); ++i) {
      auto histogram = testing::SomeHistogram(static_cast<double>(random() % 100), static_cast<int>(random() % 2));
      if (random() % 8 == 0) histogram.sum = model::StaleNan();
      histograms.push_back(std::make_shared<model::Histogram>(histogram));
    }
    for (const ChunkHints hints : {ChunkHints::kCounter, ChunkHints::kGauge, ChunkHints::kUnknown}) {
      const auto chunk = Chunk::Parse(Chunk::SealHistograms({times, {}, {}, histograms}, hints)->bytes());
      ASSERT_TRUE(chunk.ok());
      storage::SampleColumns out;
      ASSERT_TRUE((*chunk)->Decode(testing::kAllTime, &out).ok());
      ASSERT_EQ(out.histogram_timestamps, times);
      for (size_t i = 0; i < times.size(); ++i) {
        const auto expected = hints == ChunkHints::kGauge               ? model::CounterResetHint::kGauge
                              : hints == ChunkHints::kCounter && i != 0 ? model::CounterResetHint::kNotReset
                                                                        : model::CounterResetHint::kUnknown;
        EXPECT_TRUE(out.histograms[i]->IdenticalTo(*WithHint(histograms[i], expected))) << i;
      }
    }
  }
}

TEST(Chunk, SummaryCountsResetsAndIgnoresNan) {
  const std::vector<TimestampMs> times = {1, 2, 3, 4, 5};
  const std::vector<double> values = {3, 5, model::StaleNan(), 2, 4};
  const auto chunk = Chunk::SealFloats({times, {}, values, {}});
  EXPECT_EQ(chunk->summary().min, 2);
  EXPECT_EQ(chunk->summary().max, 5);
  EXPECT_EQ(chunk->summary().sum, 14);
  EXPECT_EQ(chunk->summary().first, 3);
  EXPECT_EQ(chunk->summary().last, 4);
  EXPECT_EQ(chunk->summary().resets, 1u);
  EXPECT_EQ(chunk->min_time(), 1);
  EXPECT_EQ(chunk->max_time(), 5);
}

TEST(Chunk, EveryTruncationIsDataLoss) {
  const std::vector<TimestampMs> times = {-5, 2, 30, 31};
  const std::vector<double> values = {1, 2.5, 3, 1e300};
  const auto whole = Chunk::SealFloats({times, {}, values, {}})->bytes();
  const std::vector<HistogramPtr> histograms(4, std::make_shared<model::Histogram>(testing::SomeHistogram(2)));
  const auto whole_histograms = Chunk::SealHistograms({times, {}, {}, histograms}, ChunkHints::kCounter)->bytes();
  for (const std::string& bytes : {whole, whole_histograms}) {
    for (size_t cut = 0; cut < bytes.size(); ++cut) {
      const auto chunk = Chunk::Parse(bytes.substr(0, cut));
      if (!chunk.ok()) {
        EXPECT_EQ(chunk.status().code(), StatusCode::kDataLoss);
        continue;
      }
      storage::SampleColumns out;
      EXPECT_EQ((*chunk)->Decode(testing::kAllTime, &out).code(), StatusCode::kDataLoss) << cut;
    }
  }
}

}  // namespace
}  // namespace millstream::tsdb

#include "record.h"

#include <gtest/gtest.h>

#include "tsdb_testing.h"

namespace millstream::tsdb {
namespace {

Record SomeRecord() {
  Record record;
  record.tenant = TenantId(7);
  record.new_series = {{SeriesRef(3), testing::LabelsOf("a", "x")}, {SeriesRef(4), testing::LabelsOf("b")}};
  record.refs = {SeriesRef(3), SeriesRef(4), SeriesRef(1)};
  const auto histogram = [](double scale) {
    return std::make_shared<const model::Histogram>(testing::SomeHistogram(scale));
  };
  record.samples = {{0, {INT64_MIN, 0, {1.5, nullptr}}},
                    {1, {10, 5, {0, histogram(1)}}},
                    {0, {INT64_MAX, -3, {model::StaleNan(), nullptr}}},
                    {2, {0, 0, {-0.0, nullptr}}},
                    {1, {11, 0, {0, histogram(2)}}}};
  record.metadata = {{"a", "counter", "help \xff", "seconds"}};
  return record;
}

TEST(Record, SurvivesEncodingWithTheOrderOfItsSamples) {
  const Record record = SomeRecord();
  const auto decoded = DecodeRecord(EncodeRecord(record));
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ(decoded->tenant, record.tenant);
  ASSERT_EQ(decoded->new_series.size(), 2u);
  EXPECT_EQ(decoded->new_series[0].labels, record.new_series[0].labels);
  EXPECT_EQ(decoded->refs, record.refs);
  EXPECT_EQ(decoded->metadata, record.metadata);
  ASSERT_EQ(decoded->samples.size(), record.samples.size());
  for (size_t i = 0; i < record.samples.size(); ++i) {
    EXPECT_EQ(decoded->samples[i].series, record.samples[i].series) << i;
    EXPECT_EQ(decoded->samples[i].sample.timestamp, record.samples[i].sample.timestamp) << i;
    EXPECT_EQ(decoded->samples[i].sample.start, record.samples[i].sample.start) << i;
    EXPECT_TRUE(decoded->samples[i].sample.value.SameAs(record.samples[i].sample.value)) << i;
  }
}

TEST(Record, EveryTruncationIsDataLoss) {
  const std::string bytes = EncodeRecord(SomeRecord());
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    EXPECT_EQ(DecodeRecord(std::string_view(bytes).substr(0, cut)).status().code(), StatusCode::kDataLoss) << cut;
  }
  EXPECT_EQ(DecodeRecord(bytes + "x").status().code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace millstream::tsdb

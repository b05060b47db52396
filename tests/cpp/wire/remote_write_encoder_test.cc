#include "millstream/wire/remote_write_encoder.h"

#include <gtest/gtest.h>

#include <bit>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "millstream/wire/labels_decoder.h"
#include "millstream/wire/remote_write.h"

namespace millstream::wire {
namespace {

constexpr size_t kRoomy = 1 << 20;

struct Rows {
  std::vector<std::vector<model::Label>> series;
  std::vector<uint64_t> which;
  std::vector<TimestampMs> timestamps;
  std::vector<double> values;

  RemoteWriteColumns columns() const {
    return {.series = series, .which = which, .timestamps = timestamps, .values = values};
  }
};

// (labels, time, bits of the value) of every sample, in the order of the bodies.
using EncodedSample = std::tuple<std::string, TimestampMs, uint64_t>;

std::vector<EncodedSample> DecodeAll(const std::vector<RemoteWriteBody>& bodies) {
  std::vector<EncodedSample> out;
  for (const RemoteWriteBody& body : bodies) {
    const Result<DecodedWrite> decoded = DecodeRemoteWrite(body.compressed);
    EXPECT_TRUE(decoded.ok()) << decoded.status().ToString();
    if (!decoded.ok()) continue;
    EXPECT_EQ(decoded->rejected, 0u);
    EXPECT_EQ(decoded->values.size(), body.samples);
    EXPECT_EQ(decoded->series.size(), body.series.size());
    for (const DecodedSeries& series : decoded->series) {
      const std::string labels = DecodeLabels(decoded->encoding, series.raw_labels).value().ToString();
      for (uint32_t i = series.floats_begin; i < series.floats_end; ++i) {
        out.emplace_back(labels, decoded->timestamps[i], std::bit_cast<uint64_t>(decoded->values[i]));
      }
    }
  }
  return out;
}

TEST(RemoteWriteEncoder, TimesAndBitsComeOutAsTheyWentIn) {
  const double odd_nan = std::bit_cast<double>(uint64_t{0x7ff8dead0000beef});
  const Rows rows{.series = {{{"z", "1"}, {"__name__", "up"}}},
                  .which = {0, 0, 0, 0},
                  .timestamps = {0, -1, std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()},
                  .values = {-0.0, odd_nan, std::numeric_limits<double>::infinity(), 5e-324}};
  const auto bodies = EncodeRemoteWrite(rows.columns(), kRoomy);
  ASSERT_TRUE(bodies.ok());
  ASSERT_EQ(bodies->size(), 1u);
  const std::vector<EncodedSample> decoded = DecodeAll(*bodies);
  ASSERT_EQ(decoded.size(), 4u);
  for (size_t i = 0; i < decoded.size(); ++i) {
    EXPECT_EQ(std::get<1>(decoded[i]), rows.timestamps[i]);
    EXPECT_EQ(std::get<2>(decoded[i]), std::bit_cast<uint64_t>(rows.values[i]));
  }
}

TEST(RemoteWriteEncoder, LabelsAreSortedByName) {
  const Rows rows{
      .series = {{{"z", "1"}, {"a", "2"}, {"__name__", "up"}}}, .which = {0}, .timestamps = {1}, .values = {1}};
  const auto bodies = EncodeRemoteWrite(rows.columns(), kRoomy);
  ASSERT_TRUE(bodies.ok());
  const auto decoded = DecodeRemoteWrite(bodies->front().compressed);
  ASSERT_TRUE(decoded.ok());
  const std::string_view raw = decoded->series[0].raw_labels;
  EXPECT_LT(raw.find("__name__"), raw.find('a', raw.find("up")));
  EXPECT_LT(raw.find('2'), raw.find('z'));
}

TEST(RemoteWriteEncoder, NoBodyIsLongerThanAllowedAndNoSampleIsLostOrDoubled) {
  std::mt19937_64 random(7);
  for (const size_t bytes_max : {100u, 127u, 128u, 300u, 5000u}) {
    Rows rows;
    std::vector<std::vector<std::pair<TimestampMs, uint64_t>>> wanted(7);
    std::vector<std::string> hosts;
    for (int i = 0; i < 7; ++i) hosts.push_back(std::string(static_cast<size_t>(i) * 5, 'h') + std::to_string(i));
    for (int i = 0; i < 7; ++i) rows.series.push_back({{"__name__", "m"}, {"host", hosts[static_cast<size_t>(i)]}});
    for (TimestampMs row = 0; row < 500; ++row) {
      const uint64_t series = random() % 7;
      const auto time = static_cast<TimestampMs>(random() >> (random() % 64));
      const double value = std::bit_cast<double>(random());
      rows.which.push_back(series);
      rows.timestamps.push_back(time);
      rows.values.push_back(value);
      wanted[series].emplace_back(time, std::bit_cast<uint64_t>(value));
    }
    const auto bodies = EncodeRemoteWrite(rows.columns(), bytes_max);
    ASSERT_TRUE(bodies.ok()) << bodies.status().ToString();
    EXPECT_GT(bodies->size(), 1u);
    std::vector<std::vector<std::pair<TimestampMs, uint64_t>>> got(7);
    for (const RemoteWriteBody& body : *bodies) {
      const auto decoded = DecodeRemoteWrite(body.compressed);
      ASSERT_TRUE(decoded.ok());
      EXPECT_LE(decoded->bytes->size(), bytes_max);
      for (size_t i = 0; i < decoded->series.size(); ++i) {
        const DecodedSeries& series = decoded->series[i];
        for (uint32_t at = series.floats_begin; at < series.floats_end; ++at) {
          got[body.series[i]].emplace_back(decoded->timestamps[at], std::bit_cast<uint64_t>(decoded->values[at]));
        }
      }
    }
    EXPECT_EQ(got, wanted) << bytes_max;
  }
}

TEST(RemoteWriteEncoder, NothingMakesNoBody) {
  const Rows rows{.series = {{{"__name__", "m"}}}, .which = {}, .timestamps = {}, .values = {}};
  const auto bodies = EncodeRemoteWrite(rows.columns(), kRoomy);
  ASSERT_TRUE(bodies.ok());
  EXPECT_TRUE(bodies->empty());
}

TEST(RemoteWriteEncoder, RefusesColumnsThatDoNotFitTogether) {
  Rows rows{.series = {{{"__name__", "m"}}}, .which = {0, 1}, .timestamps = {1, 2}, .values = {1, 2}};
  EXPECT_EQ(EncodeRemoteWrite(rows.columns(), kRoomy).status().code(), StatusCode::kInvalidArgument);
  rows.which = {0, 0};
  rows.values = {1};
  EXPECT_EQ(EncodeRemoteWrite(rows.columns(), kRoomy).status().code(), StatusCode::kInvalidArgument);
}

TEST(RemoteWriteEncoder, RefusesLabelsThatAloneFillABody) {
  const std::string text(1000, 'x');
  const Rows rows{.series = {{{"__name__", text}}}, .which = {0}, .timestamps = {1}, .values = {1}};
  EXPECT_EQ(EncodeRemoteWrite(rows.columns(), 1000).status().code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(EncodeRemoteWrite(rows.columns(), 1100).ok());
}

}  // namespace
}  // namespace millstream::wire

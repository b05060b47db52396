#include "millstream/wire/remote_write.h"

#include <gtest/gtest.h>

#include <snappy.h>
#include <limits>

#include <bit>

#include "compress.h"
#include "millstream/model/value.h"
#include "millstream/wire/labels_decoder.h"
#include "protobuf_writer.h"

namespace millstream::wire {
namespace {

TEST(RemoteWrite, DecodesSeriesSamplesAndMetadata) {
  const std::string message =
      Series({{"__name__", "up"}, {"job", "a"}}, SampleField(1000, 1.5) + SampleField(-2000, -0.0)) +
      Series({{"__name__", "down"}}, SampleField(3000, 2)) +
      BytesField(3, VarintField(1, 1) + BytesField(2, "up") + BytesField(4, "Is it up?") + BytesField(5, "bool"));
  Result<DecodedWrite> decoded = DecodeRemoteWrite(Compress(message));
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  ASSERT_EQ(decoded->series.size(), 2u);
  EXPECT_EQ(decoded->timestamps, (std::vector<TimestampMs>{1000, -2000, 3000}));
  EXPECT_TRUE(std::signbit(decoded->values[1]));
  EXPECT_EQ(decoded->series[1].floats_begin, 2u);
  EXPECT_EQ(DecodeLabels(decoded->encoding, decoded->series[0].raw_labels).value(),
            model::Labels::Of({{"__name__", "up"}, {"job", "a"}}));
  ASSERT_EQ(decoded->metadata.size(), 1u);
  EXPECT_EQ(decoded->metadata[0], (model::MetricMetadata{"up", "counter", "Is it up?", "bool"}));
}

TEST(RemoteWrite, NanPayloadsAreKeptBitByBit) {
  const double odd_nan = std::bit_cast<double>(uint64_t{0x7ff8dead0000beef});
  const std::string message = Series({{"__name__", "m"}}, SampleField(1, model::StaleNan()) + SampleField(2, odd_nan));
  const Result<DecodedWrite> decoded = DecodeRemoteWriteMessage(message);
  ASSERT_TRUE(decoded.ok());
  EXPECT_TRUE(model::IsStaleNan(decoded->values[0]));
  EXPECT_EQ(std::bit_cast<uint64_t>(decoded->values[1]), 0x7ff8dead0000beefu);
}

TEST(RemoteWrite, LabelsThatAreNotAdjacentAreJoined) {
  const std::string series =
      LabelField("__name__", "m") + SampleField(1, 1) + LabelField("a", "b") + LabelField("c", "d");
  const std::string message = BytesField(1, series) + Series({{"__name__", "n"}}, SampleField(1, 1));
  const Result<DecodedWrite> decoded = DecodeRemoteWriteMessage(message);
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(DecodeLabels(decoded->encoding, decoded->series[0].raw_labels).value(),
            model::Labels::Of({{"__name__", "m"}, {"a", "b"}, {"c", "d"}}));
  EXPECT_EQ(DecodeLabels(decoded->encoding, decoded->series[1].raw_labels).value(),
            model::Labels::Of({{"__name__", "n"}}));
}

TEST(RemoteWrite, IntegerHistogramDeltasBecomeAbsoluteCounts) {
  std::string deltas;
  for (const int64_t delta : {2, 1, -3}) AppendVarint(ZigZagEncode(delta), &deltas);
  const std::string histogram = VarintField(1, 7) + DoubleField(3, 18.4) + VarintField(4, ZigZagEncode(-2)) +
                                DoubleField(5, 0.001) + VarintField(6, 2) +
                                BytesField(11, VarintField(1, ZigZagEncode(-1)) + VarintField(2, 3)) +
                                BytesField(12, deltas) + VarintField(14, 3) + VarintField(15, 5000);
  const Result<DecodedWrite> decoded = DecodeRemoteWriteMessage(Series({{"__name__", "h"}}, BytesField(4, histogram)));
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  ASSERT_EQ(decoded->histograms.size(), 1u);
  const model::Histogram& h = decoded->histograms[0];
  EXPECT_EQ(decoded->histogram_timestamps[0], 5000);
  EXPECT_EQ(h.schema, -2);
  EXPECT_EQ(h.count, 7);
  EXPECT_EQ(h.positive_buckets, (std::vector<double>{2, 3, 0}));
  EXPECT_EQ(h.positive_spans, (std::vector<model::Span>{{-1, 3}}));
  EXPECT_EQ(h.counter_reset_hint, model::CounterResetHint::kGauge);
  EXPECT_TRUE(h.Validate().ok());
}

TEST(RemoteWrite, ExemplarsAreDecodedAndBadOnesRefusedAlone) {
  const auto exemplar = [](std::string_view labels, double value, uint64_t timestamp) {
    return BytesField(3, std::string(labels) + DoubleField(2, value) + VarintField(3, timestamp));
  };
  const Result<DecodedWrite> decoded = DecodeRemoteWriteMessage(
      Series({{"__name__", "m"}}, SampleField(1, 1) + exemplar(LabelField("trace_id", "a"), 0.5, 7) +
                                      exemplar(LabelField("trace_id", std::string(200, 'a')), 1, 8)));
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  ASSERT_EQ(decoded->exemplars.size(), 1u);
  EXPECT_EQ(decoded->exemplars[0].labels, model::Labels::Of({{"trace_id", "a"}}));
  EXPECT_EQ(decoded->exemplars[0].value, 0.5);
  EXPECT_EQ(decoded->exemplars[0].timestamp, 7);
  EXPECT_EQ(decoded->series[0].exemplars_end, 1u);
  EXPECT_EQ(decoded->rejected, 1u);
}

TEST(RemoteWrite, HistogramWhoseBucketsDoNotAddUpIsRefusedAlone) {
  const auto histogram = [](uint64_t count, double sum, int64_t in_bucket) {
    std::string deltas;
    AppendVarint(ZigZagEncode(in_bucket), &deltas);
    return BytesField(4, VarintField(1, count) + DoubleField(3, sum) + VarintField(6, 1) +
                             BytesField(11, VarintField(2, 1)) + BytesField(12, deltas));
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Result<DecodedWrite> decoded =
      DecodeRemoteWriteMessage(Series({{"__name__", "h"}}, histogram(4, 1, 3)) +
                               Series({{"__name__", "h"}}, histogram(1, 1, 3) + histogram(5, 1, 3) +
                                                               histogram(5, nan, 3) + histogram(3, nan, 3)));
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ(decoded->histograms.size(), 2u);
  ASSERT_EQ(decoded->errors.size(), 3u);
  EXPECT_EQ(decoded->errors[0].item, 1u);
  EXPECT_EQ(decoded->errors[0].reason.message(), "the buckets of a histogram hold 4 observations, but its count is 1");
}

TEST(RemoteWrite, EveryTruncationOfTheBodyIsRefusedAsAWhole) {
  std::string message;
  for (int i = 0; i < 5; ++i) {
    message += Series({{"__name__", "m" + std::to_string(i)}, {"job", "j"}}, SampleField(i, i));
  }
  const std::string body = Compress(message);
  for (size_t length = 0; length < body.size(); ++length) {
    EXPECT_EQ(DecodeRemoteWrite(std::string_view(body).substr(0, length)).status().code(), StatusCode::kInvalidArgument)
        << length;
  }
}

TEST(RemoteWrite, DeclaredLengthIsCheckedBeforeAnythingIsAllocated) {
  std::string huge;
  AppendVarint(uint64_t{4} << 30, &huge);
  EXPECT_EQ(DecodeRemoteWrite(huge + "\0").status().code(), StatusCode::kInvalidArgument);
  std::string above;
  AppendVarint(kRemoteWriteBytesMax + 1, &above);
  EXPECT_EQ(DecodeRemoteWrite(above + "x").status().code(), StatusCode::kOutOfRange);
  std::string bomb;
  AppendVarint(kRemoteWriteBytesMax, &bomb);
  const Result<DecodedWrite> decoded = DecodeRemoteWrite(bomb + "x");
  EXPECT_NE(decoded.status().message().find("more than"), std::string_view::npos);
}

TEST(RemoteWrite, MetadataWithoutEndIsRefused) {
  std::string message;
  for (size_t i = 0; i <= kRemoteWriteMetadataMax; ++i) message += BytesField(3, "");
  EXPECT_EQ(DecodeRemoteWriteMessage(message).status().code(), StatusCode::kOutOfRange);
}

TEST(RemoteWrite, BrokenProtobufNamesTheByte) {
  const Result<DecodedWrite> decoded = DecodeRemoteWriteMessage(std::string("\x0a\x7f\x01", 3));
  EXPECT_EQ(decoded.status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(decoded.status().message(), "malformed protobuf at byte 2: a length reaches past the end");
  EXPECT_FALSE(DecodeRemoteWriteMessage("\x0b").ok());
  EXPECT_FALSE(DecodeRemoteWriteMessage(VarintField(1, 3)).ok());
}

}  // namespace
}  // namespace millstream::wire

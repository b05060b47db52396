#include "millstream/wire/column_batch.h"

#include <gtest/gtest.h>

#include "millstream/codec/byte_io.h"
#include "millstream/wire/labels_decoder.h"

namespace millstream::wire {
namespace {

std::string Pairs(std::initializer_list<std::string_view> strings) {
  std::string out;
  for (const std::string_view text : strings) AppendPairString(text, &out);
  return out;
}

model::Histogram SomeHistogram() {
  model::Histogram histogram;
  histogram.schema = 3;
  histogram.zero_threshold = 1e-9;
  histogram.zero_count = 2;
  histogram.count = 7.5;
  histogram.sum = -1.25;
  histogram.positive_spans = {{-3, 2}, {4, 1}};
  histogram.positive_buckets = {1, 2.5, 1};
  histogram.negative_spans = {{0, 1}};
  histogram.negative_buckets = {1};
  return histogram;
}

// Two series with samples, one with histograms, one empty.
DecodedWrite SomeWrite() {
  DecodedWrite write;
  write.bytes = std::make_unique<std::string>(Pairs({"__name__", "a"}) + Pairs({"__name__", "b", "host", "x"}));
  const std::string_view all = *write.bytes;
  const size_t cut = Pairs({"__name__", "a"}).size();
  write.timestamps = {1000, -2000, 3000};
  write.values = {1.5, -0.0, 1e300};
  write.histogram_timestamps = {5000};
  write.histograms = {SomeHistogram()};
  write.series.push_back({.raw_labels = all.substr(0, cut), .floats_begin = 0, .floats_end = 2});
  write.series.push_back(
      {.raw_labels = all.substr(cut), .floats_begin = 2, .floats_end = 3, .histograms_begin = 0, .histograms_end = 1});
  return write;
}

TEST(ColumnBatch, DecodingGivesBackWhatWasEncoded) {
  const DecodedWrite write = SomeWrite();
  const auto decoded = DecodeColumnBatch(EncodeColumnBatch(write));
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ(decoded->timestamps, write.timestamps);
  EXPECT_EQ(decoded->values, write.values);
  EXPECT_TRUE(std::signbit(decoded->values[1]));
  EXPECT_EQ(decoded->histogram_timestamps, write.histogram_timestamps);
  ASSERT_EQ(decoded->histograms.size(), 1u);
  EXPECT_TRUE(decoded->histograms[0].IdenticalTo(SomeHistogram()));
  ASSERT_EQ(decoded->series.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(decoded->series[i].raw_labels, write.series[i].raw_labels);
    EXPECT_EQ(decoded->series[i].floats_end, write.series[i].floats_end);
    EXPECT_EQ(decoded->series[i].histograms_end, write.series[i].histograms_end);
    EXPECT_EQ(decoded->series[i].item, i);
  }
}

TEST(ColumnBatch, EveryTruncationIsRefused) {
  const std::string body = EncodeColumnBatch(SomeWrite());
  for (size_t size = 0; size < body.size(); ++size) {
    EXPECT_FALSE(DecodeColumnBatch(body.substr(0, size)).ok()) << size;
  }
  EXPECT_FALSE(DecodeColumnBatch(body + "x").ok());
}

TEST(ColumnBatch, EveryFlippedBitIsRefusedOrDecodesToSomethingWhole) {
  const std::string body = EncodeColumnBatch(SomeWrite());
  for (size_t bit = 0; bit < body.size() * 8; ++bit) {
    std::string flipped = body;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    const auto decoded = DecodeColumnBatch(flipped);
    if (decoded.ok()) {
      EXPECT_EQ(decoded->timestamps.size(), decoded->values.size());
      EXPECT_EQ(decoded->series.empty() ? 0 : decoded->series.back().floats_end, decoded->values.size());
    }
  }
}

TEST(ColumnBatch, CountsThatTheBytesCannotHoldTakeNoMemory) {
  for (const uint64_t count : {uint64_t{1} << 20, uint64_t{1} << 40, ~uint64_t{0}}) {
    std::string body;
    codec::ByteWriter out(&body);
    out.U8(1);
    out.Varint(count);
    EXPECT_EQ(DecodeColumnBatch(body).status().code(), StatusCode::kInvalidArgument);
    std::string samples;
    codec::ByteWriter more(&samples);
    more.U8(1);
    more.Varint(1);
    more.Bytes(Pairs({"__name__", "a"}));
    more.Varint(count);
    more.Varint(count);
    EXPECT_EQ(DecodeColumnBatch(samples).status().code(), StatusCode::kInvalidArgument);
  }
}

TEST(ColumnBatch, AnUnknownVersionIsNamed) {
  EXPECT_EQ(DecodeColumnBatch("\x07").status().message(), "column batch version 7 is unknown");
}

}  // namespace
}  // namespace millstream::wire

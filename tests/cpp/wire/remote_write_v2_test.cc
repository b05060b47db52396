#include <gtest/gtest.h>

#include <snappy.h>

#include "millstream/wire/labels_decoder.h"
#include "millstream/wire/remote_write.h"
#include "protobuf_writer.h"

namespace millstream::wire {
namespace {

std::string Refs(const std::vector<uint64_t>& refs) {
  std::string packed;
  for (const uint64_t ref : refs) AppendVarint(ref, &packed);
  return BytesField(1, packed);
}

std::string Sample(int64_t timestamp, double value, int64_t start = 0) {
  std::string sample = DoubleField(1, value) + VarintField(2, static_cast<uint64_t>(timestamp));
  if (start != 0) sample += VarintField(3, static_cast<uint64_t>(start));
  return BytesField(2, sample);
}

std::string Exemplar(const std::vector<uint64_t>& refs, double value, int64_t timestamp) {
  return BytesField(4, Refs(refs) + DoubleField(2, value) + VarintField(3, static_cast<uint64_t>(timestamp)));
}

std::string Metadata(uint64_t type, uint64_t help, uint64_t unit) {
  return BytesField(5, VarintField(1, type) + VarintField(3, help) + VarintField(4, unit));
}

std::string Symbols(const std::vector<std::string>& symbols) {
  std::string out;
  for (const std::string& symbol : symbols) out += BytesField(4, symbol);
  return out;
}

std::string SeriesV2(std::string_view fields) {
  return BytesField(5, fields);
}

model::Labels LabelsOf(const DecodedWrite& decoded, size_t series) {
  return DecodeLabels(decoded.encoding, decoded.series[series].raw_labels).value();
}

const std::vector<std::string> kSymbols = {"",      "__name__", "rpc_total", "job", "a", "How many calls.",
                                           "calls", "trace_id", "4bf9"};

TEST(RemoteWriteV2, DecodesSamplesStartsExemplarsAndMetadata) {
  const std::string message =
      Symbols(kSymbols) + SeriesV2(Refs({1, 2, 3, 4}) + Sample(1000, 1.5, 400) + Sample(2000, 2.5, 400) +
                                   Exemplar({7, 8}, 0.25, 1500) + Metadata(1, 5, 6));
  std::string body;
  snappy::Compress(message.data(), message.size(), &body);
  const Result<DecodedWrite> decoded = DecodeRemoteWriteV2(body);
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  ASSERT_EQ(decoded->series.size(), 1u);
  EXPECT_EQ(LabelsOf(*decoded, 0), model::Labels::Of({{"__name__", "rpc_total"}, {"job", "a"}}));
  EXPECT_EQ(decoded->timestamps, (std::vector<TimestampMs>{1000, 2000}));
  EXPECT_EQ(decoded->values, (std::vector<double>{1.5, 2.5}));
  EXPECT_EQ(decoded->start_timestamps, (std::vector<TimestampMs>{400, 400}));
  ASSERT_EQ(decoded->exemplars.size(), 1u);
  EXPECT_EQ(decoded->exemplars[0].labels, model::Labels::Of({{"trace_id", "4bf9"}}));
  EXPECT_EQ(decoded->exemplars[0].value, 0.25);
  EXPECT_EQ(decoded->exemplars[0].timestamp, 1500);
  ASSERT_EQ(decoded->metadata.size(), 1u);
  EXPECT_EQ(decoded->metadata[0], (model::MetricMetadata{"rpc_total", "counter", "How many calls.", "calls"}));
  EXPECT_EQ(decoded->rejected, 0u);
}

TEST(RemoteWriteV2, StartsOfSomeSamplesStayWithTheirSamples) {
  const Result<DecodedWrite> decoded = DecodeRemoteWriteV2Message(
      Symbols(kSymbols) + SeriesV2(Refs({1, 2}) + Sample(1, 1) + Sample(2, 2, -7) + Sample(3, 3)));
  ASSERT_TRUE(decoded.ok());
  // Unknown is 0, as is what the column is too short for.
  EXPECT_EQ(decoded->start_timestamps, (std::vector<TimestampMs>{0, -7}));
}

TEST(RemoteWriteV2, SymbolsMayComeBehindTheSeries) {
  const Result<DecodedWrite> decoded =
      DecodeRemoteWriteV2Message(SeriesV2(Sample(1, 1) + Refs({1, 2})) + Symbols(kSymbols));
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ(LabelsOf(*decoded, 0), model::Labels::Of({{"__name__", "rpc_total"}}));
}

TEST(RemoteWriteV2, ReferencesBeyondTheTableRefuseTheirSeriesAlone) {
  const Result<DecodedWrite> decoded = DecodeRemoteWriteV2Message(
      Symbols(kSymbols) + SeriesV2(Refs({1, 2}) + Sample(1, 1)) + SeriesV2(Refs({1, 9}) + Sample(2, 2) + Sample(3, 3)) +
      SeriesV2(Refs({1, uint64_t{1} << 40}) + Sample(4, 4, 3)) + SeriesV2(Refs({1, 2, 3}) + Sample(5, 5)) +
      SeriesV2(Refs({1, 2}) + Sample(6, 6) + Metadata(1, 9, 0)) + SeriesV2(Refs({1, 2, 3, 4}) + Sample(7, 7)));
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ(decoded->timestamps, (std::vector<TimestampMs>{1, 7}));
  EXPECT_TRUE(decoded->start_timestamps.size() <= 1);
  EXPECT_EQ(decoded->rejected, 5u);
  ASSERT_EQ(decoded->errors.size(), 4u);
  EXPECT_EQ(decoded->errors[0].item, 1u);
  EXPECT_EQ(decoded->errors[0].reason.message(), "label reference 9 is beyond the table of 9 symbols");
  EXPECT_EQ(decoded->errors[2].reason.message(), "3 label references are no pairs");
  EXPECT_EQ(decoded->errors[3].item, 4u);
  ASSERT_EQ(decoded->series.size(), 2u);
  EXPECT_EQ(decoded->series[1].floats_begin, 1u);
}

TEST(RemoteWriteV2, SeriesWithNothingIsRefusedAndOneWithExemplarsOnlyIsNot) {
  const Result<DecodedWrite> decoded = DecodeRemoteWriteV2Message(
      Symbols(kSymbols) + SeriesV2(Refs({1, 2}) + Metadata(1, 0, 0)) + SeriesV2(Refs({1, 2}) + Exemplar({}, 1, 1)));
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->rejected, 1u);
  EXPECT_EQ(decoded->errors[0].item, 0u);
  ASSERT_EQ(decoded->series.size(), 1u);
  EXPECT_EQ(decoded->series[0].exemplars_end, 1u);
}

TEST(RemoteWriteV2, ExemplarsThatBreakARuleAreRefusedAlone) {
  std::vector<std::string> symbols = kSymbols;
  symbols.emplace_back(129, 'x');
  symbols.emplace_back("\xff");
  const Result<DecodedWrite> decoded = DecodeRemoteWriteV2Message(
      Symbols(symbols) + SeriesV2(Refs({1, 2}) + Sample(1, 1) + Exemplar({7, 99}, 1, 1) + Exemplar({7, 9}, 1, 1) +
                                  Exemplar({7, 10}, 1, 1) + Exemplar({7, 8, 7, 8}, 1, 1) + Exemplar({7, 8}, 5, 1)));
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->rejected, 4u);
  ASSERT_EQ(decoded->exemplars.size(), 1u);
  EXPECT_EQ(decoded->exemplars[0].value, 5);
  EXPECT_EQ(decoded->timestamps.size(), 1u);
}

TEST(RemoteWriteV2, MetadataIsOfTheMetricAndOnce) {
  const std::vector<std::string> symbols = {"",        "__name__",      "d_seconds_bucket", "le",
                                            "1",       "d_seconds_sum", "Latency.",         "native_count",
                                            "q_count", "other_total"};
  const std::string histogram = BytesField(3, VarintField(1, 0) + DoubleField(3, 0) + VarintField(15, 1));
  const Result<DecodedWrite> decoded =
      DecodeRemoteWriteV2Message(Symbols(symbols) + SeriesV2(Refs({1, 2, 3, 4}) + Sample(1, 1) + Metadata(3, 6, 0)) +
                                 SeriesV2(Refs({1, 5}) + Sample(1, 1) + Metadata(3, 6, 0)) +
                                 SeriesV2(Refs({1, 7}) + histogram + Metadata(3, 0, 0)) +
                                 SeriesV2(Refs({1, 8}) + Sample(1, 1) + Metadata(5, 0, 0)) +
                                 SeriesV2(Refs({1, 9}) + Sample(1, 1) + Metadata(0, 0, 0)));
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  ASSERT_EQ(decoded->metadata.size(), 3u);
  EXPECT_EQ(decoded->metadata[0], (model::MetricMetadata{"d_seconds", "histogram", "Latency.", ""}));
  EXPECT_EQ(decoded->metadata[1], (model::MetricMetadata{"native_count", "histogram", "", ""}));
  EXPECT_EQ(decoded->metadata[2], (model::MetricMetadata{"q", "summary", "", ""}));
}

TEST(RemoteWriteV2, HistogramsOfEveryKindKeepTheirStart) {
  std::string deltas;
  for (const int64_t delta : {2, 1}) AppendVarint(ZigZagEncode(delta), &deltas);
  const std::string whole = BytesField(3, VarintField(1, 5) + DoubleField(3, 8) + VarintField(4, ZigZagEncode(3)) +
                                              BytesField(11, VarintField(1, ZigZagEncode(0)) + VarintField(2, 2)) +
                                              BytesField(12, deltas) + VarintField(15, 1000) + VarintField(17, 10));
  std::string counts;
  counts += DoubleField(1, 0.5).substr(1);
  const std::string floats = BytesField(3, DoubleField(2, 0.5) + DoubleField(3, 8) + BytesField(8, VarintField(2, 1)) +
                                               BytesField(10, counts) + VarintField(15, 2000));
  std::string bounds;
  for (const double bound : {0.1, 1.0}) bounds += DoubleField(1, bound).substr(1);
  const std::string custom = BytesField(3, VarintField(1, 5) + DoubleField(3, 8) + VarintField(4, ZigZagEncode(-53)) +
                                               BytesField(11, VarintField(2, 2)) + BytesField(12, deltas) +
                                               VarintField(15, 3000) + BytesField(16, bounds));
  const Result<DecodedWrite> decoded =
      DecodeRemoteWriteV2Message(Symbols(kSymbols) + SeriesV2(Refs({1, 2}) + whole + floats + custom));
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  ASSERT_EQ(decoded->histograms.size(), 3u);
  EXPECT_EQ(decoded->rejected, 0u);
  for (const model::Histogram& histogram : decoded->histograms) {
    EXPECT_TRUE(histogram.Validate().ok()) << histogram.Validate().ToString();
  }
  EXPECT_EQ(decoded->histogram_start_timestamps, (std::vector<TimestampMs>{10}));
  EXPECT_EQ(decoded->histograms[0].positive_buckets, (std::vector<double>{2, 3}));
  EXPECT_EQ(decoded->histograms[1].negative_buckets, (std::vector<double>{0.5}));
  EXPECT_EQ(decoded->histograms[2].custom_values, (std::vector<double>{0.1, 1.0}));
}

TEST(RemoteWriteV2, FirstSymbolMustBeEmpty) {
  EXPECT_EQ(DecodeRemoteWriteV2Message(Symbols({"a", "b"}) + SeriesV2(Refs({0, 1}) + Sample(1, 1))).status().code(),
            StatusCode::kInvalidArgument);
}

TEST(RemoteWriteV2, WhatReferencesExpandToIsBounded) {
  // One long symbol that 9,000 series refer to: 90 KB on the wire, 90 MB when written out.
  std::string message = Symbols({"", "__name__", std::string(10'000, 'x')});
  for (int i = 0; i < 9000; ++i) message += SeriesV2(Refs({1, 2}) + Sample(i, 1));
  EXPECT_EQ(DecodeRemoteWriteV2Message(message).status().code(), StatusCode::kOutOfRange);
}

TEST(RemoteWriteV2, SmallMessagesThatWouldFillTheMemoryAreRefused) {
  const auto repeated = [](std::string_view field, size_t times) {
    std::string out;
    for (size_t i = 0; i < times; ++i) out += field;
    return out;
  };
  const std::string histograms = repeated(BytesField(3, ""), 1'000'000);
  const std::string samples = repeated(BytesField(2, ""), kRemoteWriteSamplesMax + 1);
  const std::string exemplars = repeated(BytesField(4, ""), kRemoteWriteExemplarsMax + 1);
  const std::string buckets = repeated(BytesField(3, BytesField(12, std::string(60'000, '\0'))), 300);
  for (const std::string* fields : {&histograms, &samples, &exemplars, &buckets}) {
    const Result<DecodedWrite> decoded =
        DecodeRemoteWriteV2Message(Symbols(kSymbols) + SeriesV2(Refs({1, 2}) + *fields));
    EXPECT_EQ(decoded.status().code(), StatusCode::kOutOfRange) << fields->size();
  }
  // A histogram with more buckets than one may have is refused by itself, and never held as a whole.
  const Result<DecodedWrite> one = DecodeRemoteWriteV2Message(
      Symbols(kSymbols) + SeriesV2(Refs({1, 2}) + BytesField(3, BytesField(12, std::string(10'000'000, '\0')))));
  ASSERT_TRUE(one.ok());
  EXPECT_LE(one->histograms[0].positive_buckets.size(), model::kHistogramBucketsMax + 1);
  EXPECT_FALSE(one->histograms[0].Validate().ok());
}

TEST(RemoteWriteV2, EveryTruncationOfTheMessageIsRefusedOrShorter) {
  const std::string message = Symbols(kSymbols) + SeriesV2(Refs({1, 2, 3, 4}) + Sample(1000, 1.5, 400) +
                                                           Exemplar({7, 8}, 0.25, 1500) + Metadata(1, 5, 6));
  for (size_t length = 0; length < message.size(); ++length) {
    const Result<DecodedWrite> decoded = DecodeRemoteWriteV2Message(message.substr(0, length));
    if (decoded.ok()) EXPECT_TRUE(decoded->series.empty()) << length;
  }
}

}  // namespace
}  // namespace millstream::wire

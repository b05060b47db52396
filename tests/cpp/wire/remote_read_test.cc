#include "millstream/wire/remote_read.h"

#include <gtest/gtest.h>

#include <snappy.h>

#include "compress.h"
#include "millstream/codec/crc32c.h"
#include "protobuf_writer.h"

namespace millstream::wire {
namespace {

std::string Matcher(uint64_t type, std::string_view name, std::string_view value) {
  return BytesField(3, VarintField(1, type) + BytesField(2, name) + BytesField(3, value));
}

std::string Query(int64_t start, int64_t end, std::string_view matchers) {
  return BytesField(1, VarintField(1, static_cast<uint64_t>(start)) + VarintField(2, static_cast<uint64_t>(end)) +
                           std::string(matchers));
}

TEST(RemoteRead, RequestsTellQueriesMatchersAndTypes) {
  const Result<ReadRequest> request =
      DecodeReadRequest(Compress(Query(-5, 9, Matcher(0, "__name__", "up") + Matcher(3, "job", "a|b")) +
                                 BytesField(2, std::string("\x01\x00", 2))));
  ASSERT_TRUE(request.ok()) << request.status().ToString();
  ASSERT_EQ(request->queries.size(), 1u);
  EXPECT_EQ(request->queries[0].range.min, -5);
  EXPECT_EQ(request->queries[0].range.max, 9);
  EXPECT_EQ(request->queries[0].matchers[1].type(), model::MatchType::kNotRegex);
  EXPECT_FALSE(request->queries[0].matchers[1].Matches("b"));
  EXPECT_TRUE(request->takes_samples);
  EXPECT_TRUE(request->takes_chunks);
}

TEST(RemoteRead, WithoutAWordAboutTypesTheyAreSamples) {
  const Result<ReadRequest> request = DecodeReadRequest(Compress(Query(0, 1, Matcher(0, "a", "b"))));
  ASSERT_TRUE(request.ok());
  EXPECT_TRUE(request->takes_samples);
  EXPECT_FALSE(request->takes_chunks);
}

TEST(RemoteRead, BadRequestsAreRefused) {
  for (const std::string& message :
       {Query(0, 1, Matcher(2, "a", "(")), Query(0, 1, Matcher(4, "a", "b")), Query(0, 1, Matcher(0, "\xff", "b")),
        VarintField(2, 7), std::string("\x0a\x7f")}) {
    EXPECT_EQ(DecodeReadRequest(Compress(message)).status().code(), StatusCode::kInvalidArgument);
  }
  std::string many;
  for (size_t i = 0; i <= kReadQueriesMax; ++i) many += Query(0, 1, "");
  EXPECT_EQ(DecodeReadRequest(Compress(many)).status().code(), StatusCode::kOutOfRange);
  EXPECT_FALSE(DecodeReadRequest("no snappy").ok());
}

TEST(RemoteRead, SamplesAnswerIsAReadResponse) {
  SamplesAnswer answer;
  answer.BeginQuery();
  storage::SampleColumns samples;
  samples.timestamps = {1000, 2000};
  samples.values = {1.5, 2};
  answer.AddSeries(model::Labels::Of({{"__name__", "up"}, {"job", "a"}}), samples);
  answer.BeginQuery();
  const std::string body = answer.Finish();
  std::string message;
  ASSERT_TRUE(snappy::Uncompress(body.data(), body.size(), &message));
  const std::string series =
      LabelField("__name__", "up") + LabelField("job", "a") + SampleField(1000, 1.5) + SampleField(2000, 2);
  EXPECT_EQ(message, BytesField(1, BytesField(1, series)) + BytesField(1, ""));
}

TEST(RemoteRead, ChunksAnswerFramesEachSeriesWithItsLengthAndChecksum) {
  ChunksAnswer answer;
  answer.BeginQuery();
  storage::SampleColumns samples;
  samples.timestamps = {1000};
  samples.values = {1};
  answer.AddSeries(model::Labels::Of({{"__name__", "up"}}), samples);
  // Two bytes of count, zigzag varint 2000, the value as it is.
  const std::string data("\x00\x01\xd0\x0f\x3f\xf0\x00\x00\x00\x00\x00\x00", 12);
  const std::string chunk = VarintField(1, 1000) + VarintField(2, 1000) + VarintField(3, 1) + BytesField(4, data);
  const std::string message = BytesField(1, LabelField("__name__", "up") + BytesField(2, chunk)) + VarintField(2, 0);
  std::string frame;
  AppendVarint(message.size(), &frame);
  const uint32_t checksum = codec::Crc32c(message);
  for (int shift = 24; shift >= 0; shift -= 8) frame.push_back(static_cast<char>(checksum >> shift));
  EXPECT_EQ(answer.Finish(), frame + message);
}

}  // namespace
}  // namespace millstream::wire

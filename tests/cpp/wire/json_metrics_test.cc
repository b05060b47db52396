#include "millstream/wire/json_metrics.h"

#include <gtest/gtest.h>

#include <cmath>

#include "millstream/wire/labels_decoder.h"

namespace millstream::wire {
namespace {

TEST(JsonMetrics, ReadsEveryField) {
  const Result<DecodedWrite> decoded = DecodeJsonMetrics(
      R"({"metrics":[{"name":"cpu","value":75.5,"timestamp":1732000000000,"labels":{"host":"a"},"client_id":"c"},
          {"value":3,"name":"mem"}]})",
      99);
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  ASSERT_EQ(decoded->series.size(), 2u);
  EXPECT_EQ(decoded->timestamps, (std::vector<TimestampMs>{1732000000000, 99}));
  EXPECT_EQ(decoded->values, (std::vector<double>{75.5, 3}));
  EXPECT_EQ(DecodeLabels(decoded->encoding, decoded->series[0].raw_labels).value(),
            model::Labels::Of({{"__name__", "cpu"}, {"client_id", "c"}, {"host", "a"}}));
}

TEST(JsonMetrics, WrongTypeInOneItemLeavesTheOthers) {
  std::string body = R"({"metrics":[)";
  for (int i = 0; i < 10; ++i) {
    if (i > 0) body += ',';
    body += i == 7 ? R"({"name":"m","value":"seven"})"
                   : R"({"name":"m","value":1,"labels":{"i":")" + std::to_string(i) + "\"}}";
  }
  const Result<DecodedWrite> decoded = DecodeJsonMetrics(body + "]}", 0);
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->series.size(), 9u);
  ASSERT_EQ(decoded->errors.size(), 1u);
  EXPECT_EQ(decoded->errors[0].item, 7u);
  EXPECT_EQ(decoded->errors[0].reason.message(), "\"value\" must be a number, not a string");
  EXPECT_EQ(decoded->series[7].item, 8u);
}

TEST(JsonMetrics, EachBadItemSaysWhatIsWrong) {
  const Result<DecodedWrite> decoded = DecodeJsonMetrics(
      R"({"metrics":[5,{"value":1},{"name":"m"},{"name":1,"value":1},{"name":"m","value":1,"timestamp":1.5},
          {"name":"m","value":1,"labels":{"a":1}},{"name":"m","value":1,"labels":[]},{"name":"m","value":1,"x":1},
          {"name":"m","value":null},{"name":"m","value":1,"timestamp":"now"}]})",
      0);
  ASSERT_TRUE(decoded.ok());
  EXPECT_TRUE(decoded->series.empty());
  EXPECT_EQ(decoded->rejected, 10u);
  EXPECT_EQ(decoded->errors[5].reason.message(), "label \"a\" must be a string, not a number");
  EXPECT_EQ(decoded->errors[7].reason.message(), "unknown field \"x\"");
}

TEST(JsonMetrics, NumbersBeyondWhatFitsAreTheirItemsFault) {
  const Result<DecodedWrite> decoded = DecodeJsonMetrics(
      R"({"metrics":[{"name":"a","value":123456789012345678901234567890},{"name":"b","value":1e999},
          {"name":"c","value":1,"timestamp":99999999999999999999},{"name":"\ud800","value":1},
          {"name":"d","value":-0.0,"timestamp":1e3},{"name":"e","value":18446744073709551616}]})",
      0);
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ(decoded->values, (std::vector<double>{123456789012345678901234567890.0, -0.0, 18446744073709551616.0}));
  EXPECT_TRUE(std::signbit(decoded->values[1]));
  EXPECT_EQ(decoded->timestamps[1], 1000);
  ASSERT_EQ(decoded->errors.size(), 3u);
  EXPECT_EQ(decoded->errors[0].reason.message(), "\"value\" is no number that a double can hold");
  EXPECT_EQ(decoded->errors[1].reason.message(),
            "\"timestamp\" 1e+20 is not a whole number of milliseconds in 64 bits");
  EXPECT_EQ(decoded->errors[2].reason.message(), "name is not UTF-8 text");
}

TEST(JsonMetrics, BadItemIsSkippedWhateverItHolds) {
  const Result<DecodedWrite> decoded = DecodeJsonMetrics(
      R"({"before":[{"metrics":1}],"metrics":[{"x":{"a":[1,{"b":[]}]},"name":"a"},{"labels":{"l":[1,[2]],"m":"n"}},
          [[{"name":"z"}]],{"name":{"deep":[{}]},"value":1},{"name":"good","value":1}],"after":{"a":[{}]}})",
      0);
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ(decoded->rejected, 4u);
  ASSERT_EQ(decoded->series.size(), 1u);
  EXPECT_EQ(decoded->series[0].item, 4u);
}

TEST(JsonMetrics, BrokenSyntaxAfterGoodItemsRefusesTheWholeBody) {
  const std::string good = R"({"metrics":[{"name":"m","value":1})";
  for (const char* end : {"", "]", "}", ",]}", ",{]}", " {}]}", "]}}", "]}x", "]} {}", ",{\"name\"}]}",
                          ",{\"name\":}]}", ",{\"name\":\"m\" \"value\":1}]}", ",\"]}"}) {
    EXPECT_FALSE(DecodeJsonMetrics(good + end, 0).ok()) << end;
  }
  EXPECT_TRUE(DecodeJsonMetrics(good + "]} \n", 0).ok());
}

TEST(JsonMetrics, BodyThatIsNoMetricsObjectIsRefusedAsAWhole) {
  for (const char* body : {"", "{", "[]", "{}", R"({"metrics":{}})", R"({"metrics":[)", "{\"metrics\":[\"\xff\"]}"}) {
    EXPECT_EQ(DecodeJsonMetrics(body, 0).status().code(), StatusCode::kInvalidArgument) << body;
  }
  EXPECT_FALSE(DecodeJsonMetrics(std::string(100, '['), 0).ok());
}

TEST(JsonMetrics, WhatIsNotJsonIsRefusedWithItsPlace) {
  const Result<DecodedWrite> decoded =
      DecodeJsonMetrics(R"({"metrics":[{"name":"a","value":1},{"name":"b","value":}]})", 5);
  ASSERT_FALSE(decoded.ok());
  EXPECT_TRUE(decoded.status().message().starts_with("the body is not JSON at byte 55: "))
      << decoded.status().ToString();
}

}  // namespace
}  // namespace millstream::wire

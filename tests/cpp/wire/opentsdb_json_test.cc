#include "millstream/wire/opentsdb_json.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "millstream/wire/labels_decoder.h"
#include "series_text.h"

namespace millstream::wire {
namespace {

DecodedWrite DecodePoints(std::string_view text) {
  Result<DecodedWrite> decoded = DecodeOpenTsdbJson(text);
  EXPECT_TRUE(decoded.ok()) << text << ": " << decoded.status().ToString();
  return std::move(decoded).value();
}

TEST(OpenTsdbJson, APointAloneIsAsGoodAsAnArray) {
  const std::string point =
      R"({"metric":"sys.cpu.nice","timestamp":1346846400,"value":18,"tags":{"host":"web01","dc":"lga"}})";
  for (const std::string& body : {point, "[" + point + "]", " [ " + point + " ] \n"}) {
    const DecodedWrite decoded = DecodePoints(body);
    ASSERT_EQ(decoded.series.size(), 1u) << body;
    EXPECT_EQ(SeriesText(decoded, 0), R"({"sys.cpu.nice", dc="lga", host="web01"})");
    EXPECT_EQ(decoded.values[0], 18);
    EXPECT_EQ(decoded.timestamps[0], 1346846400000);
  }
  EXPECT_TRUE(DecodePoints("[]").series.empty());
}

TEST(OpenTsdbJson, SecondsAndMillisecondsAreToldApartByTheirSize) {
  const DecodedWrite decoded = DecodePoints(
      R"([{"metric":"m","value":1,"timestamp":4294967295},{"metric":"m","value":1,"timestamp":4294967296},)"
      R"({"metric":"m","value":1,"timestamp":"1364410924"},{"metric":"m","value":1,"timestamp":"1364410924250"},)"
      R"({"metric":"m","value":1,"timestamp":1364410924.25},{"metric":"m","value":1,"timestamp":9999999999999}])");
  EXPECT_EQ(decoded.timestamps, (std::vector<TimestampMs>{4294967295000, 4294967296, 1364410924000, 1364410924250,
                                                          1364410924250, 9999999999999}));
}

TEST(OpenTsdbJson, ValuesMayBeNumbersInStringsAndTagsMayBeNumbers) {
  const DecodedWrite decoded = DecodePoints(
      R"([{"metric":"a","timestamp":1,"value":"42","tags":{"cpu":0,"on":true ,"x":1.50}},)"
      R"({"metric":"b","timestamp":1,"value":"-1.5e3"},{"metric":"c","timestamp":1,"value":"+7","tags":null,"more":[{}]}])");
  EXPECT_EQ(decoded.values, (std::vector<double>{42, -1500, 7}));
  EXPECT_EQ(SeriesText(decoded, 0), R"(a{cpu="0", on="true", x="1.50"})");
}

TEST(OpenTsdbJson, APointThatIsBadIsNamedByItsIndexAndTheOthersStay) {
  const std::vector<std::pair<std::string, std::string>> bad = {
      {R"({"timestamp":1,"value":1})", "metric is missing"},
      {R"({"metric":"","timestamp":1,"value":1})", "metric is empty"},
      {R"({"metric":1,"timestamp":1,"value":1})", "metric must be a string"},
      {R"({"metric":"m","value":1})", "timestamp is missing"},
      {R"({"metric":"m","timestamp":0,"value":1})",
       "timestamp must be positive seconds, or milliseconds of at most 13 digits"},
      {R"({"metric":"m","timestamp":-5,"value":1})",
       "timestamp must be positive seconds, or milliseconds of at most 13 digits"},
      {R"({"metric":"m","timestamp":1346846400000000,"value":1})",
       "timestamp must be positive seconds, or milliseconds of at most 13 digits"},
      {R"({"metric":"m","timestamp":"now","value":1})",
       "timestamp must be positive seconds, or milliseconds of at most 13 digits"},
      {R"({"metric":"m","timestamp":1})", "value is missing"},
      {R"({"metric":"m","timestamp":1,"value":"abc"})", "value must be a finite number"},
      {R"({"metric":"m","timestamp":1,"value":"NaN"})", "value must be a finite number"},
      {R"({"metric":"m","timestamp":1,"value":"1e999"})", "value must be a finite number"},
      {R"({"metric":"m","timestamp":1,"value":""})", "value must be a finite number"},
      {R"({"metric":"m","timestamp":1,"value":null})", "value must be a finite number"},
      {R"({"metric":"m","timestamp":1,"value":true})", "value must be a finite number"},
      {R"({"metric":"m","timestamp":1,"value":1,"tags":{"a":{}}})", "the value of a tag must be a string"},
      {R"({"metric":"m","timestamp":1,"value":1,"tags":{"a":null}})", "the value of a tag must be a string"},
      {R"({"metric":"m","timestamp":1,"value":1,"tags":[]})", "tags must be an object"},
      {R"({"metric":"m","timestamp":1,"value":1,"tags":{"__name__":"x"}})", "the metric cannot be given by a tag"},
      {R"({"metric":"m","metric":"n","timestamp":1,"value":1})", "metric occurs twice"},
      {R"(7)", "a point must be an object"},
  };
  std::string body = R"([{"metric":"good","timestamp":1,"value":1})";
  for (const auto& [point, reason] : bad) body += "," + point;
  const DecodedWrite decoded = DecodePoints(body + R"(,{"metric":"good","timestamp":2,"value":2}])");
  EXPECT_EQ(decoded.values, (std::vector<double>{1, 2}));
  ASSERT_EQ(decoded.errors.size(), bad.size());
  for (size_t i = 0; i < bad.size(); ++i) {
    EXPECT_EQ(decoded.errors[i].item, i + 1) << bad[i].first;
    EXPECT_EQ(decoded.errors[i].reason.message(), bad[i].second) << bad[i].first;
    if (bad[i].first == "7") continue;
    const DecodedWrite alone = DecodePoints(bad[i].first);
    ASSERT_EQ(alone.rejected, 1u) << bad[i].first;
    EXPECT_EQ(alone.errors[0].reason.message(), bad[i].second);
  }
}

TEST(OpenTsdbJson, WhatIsNoJsonOrNoPointIsRefusedAsAWhole) {
  for (const char* body :
       {"", "{", "[", "7", "\"x\"", "null", R"([{"metric":"m","timestamp":1,"value":1}] x)",
        R"([{"metric":"m","timestamp":1,"value":1},])", R"({"metric":"m","timestamp":1,"value":1}{})", "\xff"}) {
    EXPECT_EQ(DecodeOpenTsdbJson(body).status().code(), StatusCode::kInvalidArgument) << body;
  }
  std::string deep(100, '[');
  EXPECT_FALSE(DecodeOpenTsdbJson(deep).ok());
}

TEST(OpenTsdbJson, WhatIsNotJsonIsRefusedWithItsPlace) {
  const Result<DecodedWrite> decoded =
      DecodeOpenTsdbJson(R"([{"metric":"a","timestamp":1,"value":1},{"metric":"b",}])");
  ASSERT_FALSE(decoded.ok());
  EXPECT_TRUE(decoded.status().message().starts_with("the body is not JSON at byte 54: "))
      << decoded.status().ToString();
}

}  // namespace
}  // namespace millstream::wire

#include "millstream/wire/json_writer.h"

#include <gtest/gtest.h>

#include <limits>

namespace millstream::wire {
namespace {

std::string Float(double value) {
  std::string out;
  AppendFloat(value, &out);
  return out;
}

std::string Timestamp(TimestampMs timestamp) {
  std::string out;
  AppendTimestamp(timestamp, &out);
  return out;
}

TEST(JsonWriter, FloatsAreSpelledAsPrometheusSpellsThem) {
  EXPECT_EQ(Float(0), "0");
  EXPECT_EQ(Float(-0.0), "-0");
  EXPECT_EQ(Float(0.1), "0.1");
  EXPECT_EQ(Float(1e20), "100000000000000000000");
  EXPECT_EQ(Float(1e21), "1e+21");
  EXPECT_EQ(Float(1e-6), "0.000001");
  EXPECT_EQ(Float(1e-7), "1e-7");
  EXPECT_EQ(Float(1.5e-12), "1.5e-12");
  EXPECT_EQ(Float(std::numeric_limits<double>::infinity()), "+Inf");
  EXPECT_EQ(Float(-std::numeric_limits<double>::infinity()), "-Inf");
  EXPECT_EQ(Float(std::numeric_limits<double>::quiet_NaN()), "NaN");
  EXPECT_EQ(Float(1.7976931348623157e308), "1.7976931348623157e+308");
}

TEST(JsonWriter, TimestampsAreSecondsWithMillisecondsWhereNeeded) {
  EXPECT_EQ(Timestamp(1435781451781), "1435781451.781");
  EXPECT_EQ(Timestamp(1435781451000), "1435781451");
  EXPECT_EQ(Timestamp(5), "0.005");
  EXPECT_EQ(Timestamp(-1500), "-1.500");
  EXPECT_EQ(Timestamp(std::numeric_limits<int64_t>::min()), "-9223372036854775.808");
}

TEST(JsonWriter, StringsAreInertInsideHtmlAndAlwaysUtf8) {
  std::string out;
  AppendJsonString("<b>\"\\\n\x01\xFFz", &out);
  EXPECT_EQ(out, "\"\\u003cb\\u003e\\\"\\\\\\n\\u0001\xEF\xBF\xBDz\"");
}

TEST(JsonWriter, LabelsAndPairs) {
  std::string out;
  AppendJsonLabels(model::Labels::Of({{"__name__", "up"}, {"job", "a"}}), &out);
  AppendSamplePair(1500, 2.5, &out);
  EXPECT_EQ(out, R"({"__name__":"up","job":"a"}[1.500,"2.5"])");
}

}  // namespace
}  // namespace millstream::wire

#include "millstream/wire/line_protocol.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "millstream/wire/labels_decoder.h"
#include "series_text.h"

namespace millstream::wire {
namespace {

constexpr TimestampMs kNow = 42;

DecodedWrite Decode(std::string_view text, LinePrecision precision = LinePrecision::kNanoseconds) {
  Result<DecodedWrite> decoded = DecodeLineProtocol(text, precision, kNow);
  EXPECT_TRUE(decoded.ok()) << decoded.status().ToString();
  return std::move(decoded).value();
}

// Every sample as "series value time".
std::vector<std::string> Samples(const DecodedWrite& decoded) {
  std::vector<std::string> out;
  for (size_t i = 0; i < decoded.series.size(); ++i) {
    out.push_back(fmt::format("{} {} {}", SeriesText(decoded, i), decoded.values[i], decoded.timestamps[i]));
  }
  return out;
}

std::vector<std::string> Reasons(const DecodedWrite& decoded) {
  std::vector<std::string> out;
  for (const ItemError& error : decoded.errors)
    out.push_back(fmt::format("{}: {}", error.item, error.reason.message()));
  return out;
}

using Texts = std::vector<std::string>;

TEST(LineProtocol, EachFieldIsASeriesOfMeasurementAndFieldWithTheTagsAsLabels) {
  const DecodedWrite decoded =
      Decode("cpu,host=a,dc=eu usage=75.5,idle=24i,boots=3u,up=true,down=F 1732000000123456789\n");
  EXPECT_EQ(
      Samples(decoded),
      (Texts{"cpu_usage{dc=\"eu\", host=\"a\"} 75.5 1732000000123", "cpu_idle{dc=\"eu\", host=\"a\"} 24 1732000000123",
             "cpu_boots{dc=\"eu\", host=\"a\"} 3 1732000000123", "cpu_up{dc=\"eu\", host=\"a\"} 1 1732000000123",
             "cpu_down{dc=\"eu\", host=\"a\"} 0 1732000000123"}));
  EXPECT_EQ(decoded.rejected, 0u);
}

TEST(LineProtocol, APointWithoutATimestampGetsTheDefault) {
  EXPECT_EQ(Samples(Decode("m v=1\nm v=2 ")), (Texts{"m_v 1 42", "m_v 2 42"}));
}

TEST(LineProtocol, PrecisionIsTheUnitOfTheTimestampAndTimeIsRoundedDown) {
  const std::vector<std::tuple<LinePrecision, std::string, TimestampMs>> cases = {
      {LinePrecision::kNanoseconds, "1999999", 1}, {LinePrecision::kNanoseconds, "-1", -1},
      {LinePrecision::kMicroseconds, "-1000", -1}, {LinePrecision::kMicroseconds, "2500", 2},
      {LinePrecision::kMilliseconds, "-7", -7},    {LinePrecision::kSeconds, "3", 3000},
      {LinePrecision::kMinutes, "-2", -120000},    {LinePrecision::kHours, "1", 3600000},
  };
  for (const auto& [precision, text, expected] : cases) {
    const DecodedWrite decoded = Decode("m v=1 " + text, precision);
    ASSERT_EQ(decoded.timestamps.size(), 1u) << text;
    EXPECT_EQ(decoded.timestamps[0], expected) << text;
  }
}

TEST(LineProtocol, TimestampsThatDoNotFitAreRefusedAndNotWrapped) {
  EXPECT_EQ(Reasons(Decode("m v=1 9223372036854775807\nm v=1 2562047788015\nm v=1 2562047788016\nm v=1 -2562047788016\n"
                           "m v=1 9223372036854775808\n",
                           LinePrecision::kHours)),
            (Texts{"1: the timestamp \"9223372036854775807\" is out of range",
                   "3: the timestamp \"2562047788016\" is out of range",
                   "4: the timestamp \"-2562047788016\" is out of range",
                   "5: the timestamp \"9223372036854775808\" is out of range"}));
  EXPECT_EQ(Decode("m v=1 9223372036854775807").timestamps, (std::vector<TimestampMs>{9223372036854}));
}

TEST(LineProtocol, PrecisionsAreKnownByTheNamesThatClientsSend) {
  for (const char* name : {"", "n", "ns"}) EXPECT_EQ(ParseLinePrecision(name), LinePrecision::kNanoseconds);
  for (const char* name : {"u", "us", "µ", "µs"}) EXPECT_EQ(ParseLinePrecision(name), LinePrecision::kMicroseconds);
  EXPECT_EQ(ParseLinePrecision("ms"), LinePrecision::kMilliseconds);
  EXPECT_EQ(ParseLinePrecision("h"), LinePrecision::kHours);
  for (const char* name : {"S", "rfc3339", " ns", "sec"}) EXPECT_EQ(ParseLinePrecision(name), std::nullopt) << name;
}

TEST(LineProtocol, BackslashesEscapeWhatSeparatesAndStandForThemselvesElsewhere) {
  const DecodedWrite decoded = Decode(R"(my\ m\,x=y,t\ a\=g=a\,b\ c\=d,p=C:\temp fi\=e\,l\ d=1,v\w=2)");
  ASSERT_EQ(decoded.series.size(), 2u) << Reasons(decoded)[0];
  EXPECT_EQ(SeriesText(decoded, 0), R"({"my m,x=y_fi=e,l d", p="C:\\temp", "t a=g"="a,b c=d"})");
  EXPECT_EQ(SeriesText(decoded, 1), R"({"my m,x=y_v\\w", p="C:\\temp", "t a=g"="a,b c=d"})");
}

TEST(LineProtocol, FieldsThatAreNoNumbersAreRefusedByNameAndTheOthersStay) {
  const DecodedWrite decoded = Decode(
      "m s=\"text, with \\\"quotes\\\" = and spaces\",a=1,n=NaN,i=inf,b=yes,x=0x10,p=+1,d=1.5i,neg=-1u,"
      "big=9223372036854775808i,huge=1e400,e=,c=2 7\n",
      LinePrecision::kMilliseconds);
  EXPECT_EQ(Samples(decoded), (Texts{"m_a 1 7", "m_c 2 7"}));
  EXPECT_EQ(
      Reasons(decoded),
      (Texts{"1: field \"s\": a string is no number", "1: field \"n\": \"NaN\" is neither a number nor a boolean",
             "1: field \"i\": \"inf\" is neither a number nor a boolean",
             "1: field \"b\": \"yes\" is neither a number nor a boolean",
             "1: field \"x\": \"0x10\" is neither a number nor a boolean",
             "1: field \"p\": \"+1\" is neither a number nor a boolean", "1: field \"d\": \"1.5i\" is no integer",
             "1: field \"neg\": \"-1u\" is no integer",
             "1: field \"big\": the integer \"9223372036854775808i\" does not fit 64 bits",
             "1: field \"huge\": \"1e400\" does not fit a 64-bit float", "1: field \"e\": the value is missing"}));
  EXPECT_EQ(decoded.rejected, 11u);
}

TEST(LineProtocol, NumbersAreReadInEveryFormThatInfluxWrites) {
  EXPECT_EQ(Decode("m a=1,b=-.5,c=1.,d=1e-3,e=-1.25E+2,f=-9223372036854775808i,g=18446744073709551615u,h=1e-400,"
                   "i=t,j=T,k=True,l=TRUE,m=f,n=False,o=FALSE,p=false")
                .values,
            (std::vector<double>{1, -0.5, 1, 1e-3, -125, -9223372036854775808.0, 18446744073709551615.0, 0, 1, 1, 1, 1,
                                 0, 0, 0, 0}));
}

TEST(LineProtocol, ABadLineIsNamedByItsNumberAndTheOthersStay) {
  const DecodedWrite decoded = Decode(
      "# a comment\n\ngood v=1\nnofields\n,t=1 v=1\nm, v=1\nm,t v=1\nm,t= v=1\nm,t=a=b v=1\nm v\nm =1\nm v=1 x\n"
      "m v=1 5 6\nm v=1,\n  good v=2 \r\n",
      LinePrecision::kMilliseconds);
  EXPECT_EQ(Samples(decoded), (Texts{"good_v 1 42", "good_v 2 42"}));
  EXPECT_EQ(decoded.series[1].item, 15u);
  EXPECT_EQ(Reasons(decoded),
            (Texts{"4: the fields are missing", "5: the measurement is missing", "6: a tag has no name",
                   "7: the tag \"t\" has no value", "8: the tag \"t\" has no value",
                   "9: the value of tag \"t\" has an = that is not escaped", "10: the field \"v\" has no value",
                   "11: a field has no name", "12: \"x\" is no timestamp: a whole number is",
                   "13: something stands after the timestamp", "14: a field has no name"}));
}

TEST(LineProtocol, ALineWithABadTimestampStoresNoneOfItsFields) {
  const DecodedWrite decoded = Decode("m a=1,s=\"x\",b=2 soon\n");
  EXPECT_TRUE(decoded.series.empty());
  EXPECT_EQ(decoded.rejected, 1u);
}

TEST(LineProtocol, AStringMaySpanLinesAndItsContentIsNeverReadAsPoints) {
  const DecodedWrite decoded = Decode("log msg=\"first\ninjected v=1\n# last\\\\\",n=3\nm v=2\n");
  EXPECT_EQ(Samples(decoded), (Texts{"log_n 3 42", "m_v 2 42"}));
  EXPECT_EQ(Reasons(decoded), (Texts{"1: field \"msg\": a string is no number"}));
  EXPECT_EQ(decoded.series[1].item, 4u);
}

TEST(LineProtocol, AStringThatIsNotClosedCostsItsOwnLineOnly) {
  const DecodedWrite decoded = Decode("m v=1\nm s=\"open\nm v=2\nm s=\"open again\nm v=3\nm s=\"closed\"\nm v=4\n");
  EXPECT_EQ(decoded.values, (std::vector<double>{1, 2, 3, 4}));
  EXPECT_EQ(Reasons(decoded),
            (Texts{"2: something stands after the string of field \"s\"",
                   "4: something stands after the string of field \"s\"", "6: field \"s\": a string is no number"}));
  const DecodedWrite last = Decode("m s=\"open\\\nm v=2\n");
  EXPECT_EQ(last.values, (std::vector<double>{2}));
  EXPECT_EQ(Reasons(last), (Texts{"1: the string of field \"s\" is not closed"}));
}

TEST(LineProtocol, NamesThatAreNoTextAreRefusedWithTheSeriesAndShownWithoutTheBytes) {
  const DecodedWrite decoded = Decode("m\xff v=1\nm,\xfe v=1\n");
  ASSERT_EQ(decoded.series.size(), 1u);
  EXPECT_FALSE(DecodeLabels(decoded.encoding, decoded.series[0].raw_labels).ok());
  EXPECT_EQ(Reasons(decoded), (Texts{"2: the tag \"\"… has no value"}));
}

TEST(LineProtocol, ATagThatOccursTwiceIsRefusedWithItsSeries) {
  const DecodedWrite decoded = Decode("m,a=1,a=2 v=1\n");
  ASSERT_EQ(decoded.series.size(), 1u);
  EXPECT_EQ(DecodeLabels(decoded.encoding, decoded.series[0].raw_labels).status().message(),
            "label name \"a\" occurs twice");
}

TEST(LineProtocol, AKeyOverTheLimitIsRefusedByItsLine) {
  const std::string tag(kLineKeyBytesMax, 'x');
  const DecodedWrite decoded = Decode("m,t=" + tag + " v=1\nm " + tag + "=1\nm v=1\n");
  EXPECT_EQ(Samples(decoded), (Texts{"m_v 1 42"}));
  EXPECT_EQ(Reasons(decoded), (Texts{"1: measurement, tags and field have 65539 bytes; the limit is 65535",
                                     "2: measurement, tags and field have 65537 bytes; the limit is 65535"}));
}

TEST(LineProtocol, ABodyThatUnfoldsToTooManyBytesOfLabelsIsRefusedAsAWhole) {
  std::string line = "m,t=" + std::string(60'000, 'x') + " a=1";
  for (int i = 0; i < 5'000; ++i) line += ",a=1";
  const Result<DecodedWrite> decoded = DecodeLineProtocol(line, LinePrecision::kNanoseconds, kNow);
  ASSERT_FALSE(decoded.ok());
  EXPECT_EQ(decoded.status().code(), StatusCode::kInvalidArgument);
}

TEST(LineProtocol, OnlyTheFirstRefusalsAreTold) {
  std::string text = "m a=1";
  for (int i = 0; i < 150; ++i) text += ",s=\"x\"";
  const DecodedWrite decoded = Decode(text + "\nm s=\"x\"\n");
  EXPECT_EQ(decoded.rejected, 151u);
  EXPECT_EQ(decoded.errors.size(), kItemErrorsMax);
  for (const ItemError& error : decoded.errors) EXPECT_FALSE(error.reason.ok());
}

// Whatever text names and tags hold, escaping it as clients do gives it back.
TEST(LineProtocol, WhatClientsEscapeComesBack) {
  std::mt19937 random(7);
  const std::string alphabet = "ab, =\"\\_.#é";
  const auto text = [&] {
    std::string out;
    for (size_t i = 0; i < 1 + random() % 6; ++i) out += alphabet[random() % 10];
    // Clients cannot write a backslash before a separator, and a measurement that begins with # is a comment.
    while (!out.empty() && (out.back() == '\\' || out.front() == '#')) out = "x";
    for (size_t at = 0; (at = out.find('\\', at)) != std::string::npos; ++at) {
      if (std::string_view(", =").find(out[at + 1]) != std::string_view::npos) out[at] = '/';
    }
    return out;
  };
  const auto escape = [](const std::string& plain, std::string_view escaped) {
    std::string out;
    for (const char c : plain) {
      if (escaped.find(c) != std::string_view::npos) out += '\\';
      out += c;
    }
    return out;
  };
  for (int i = 0; i < 2000; ++i) {
    const std::string measurement = text();
    const std::string tag = text();
    const std::string value = text();
    const std::string field = text();
    const std::string line = escape(measurement, ", ") + "," + escape(tag, ", =") + "=" + escape(value, ", =") + " " +
                             escape(field, ", =") + "=1 1";
    const DecodedWrite decoded = Decode(line, LinePrecision::kMilliseconds);
    ASSERT_EQ(decoded.series.size(), 1u) << line << " " << Reasons(decoded)[0];
    const Result<model::Labels> labels = DecodeLabels(decoded.encoding, decoded.series[0].raw_labels);
    ASSERT_TRUE(labels.ok()) << line;
    EXPECT_EQ(labels->metric_name(), measurement + "_" + field) << line;
    EXPECT_EQ(labels->Get(tag), value) << line;
  }
}

}  // namespace
}  // namespace millstream::wire

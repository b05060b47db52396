#include "millstream/wire/otlp.h"

#include <gtest/gtest.h>

#include "otlp_support.h"
#include "protobuf_writer.h"

namespace millstream::wire {
namespace {

using Texts = std::vector<std::string>;

// The same request in both encodings: a resource, a scope, and one metric of every kind.
constexpr std::string_view kEveryKindJson = R"({"resourceMetrics":[{
  "resource":{"attributes":[
    {"key":"service.name","value":{"stringValue":"shop"}},{"key":"service.namespace","value":{"stringValue":"eu"}},
    {"key":"service.instance.id","value":{"stringValue":"i-1"}},{"key":"host.name","value":{"stringValue":"h"}}]},
  "scopeMetrics":[{"scope":{"name":"lib","version":"1"},"metrics":[
    {"name":"queue.size","unit":"1","description":"how long","gauge":{"dataPoints":[
      {"asInt":"-3","timeUnixNano":"2000000000","attributes":[{"key":"queue.name","value":{"stringValue":"a"}}]}]}},
    {"name":"requests","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[
      {"asDouble":2.5,"startTimeUnixNano":"1000000000","timeUnixNano":"2000000000"}]}},
    {"name":"latency","unit":"s","histogram":{"aggregationTemporality":2,"dataPoints":[
      {"count":"6","sum":7.5,"bucketCounts":["1","2","3"],"explicitBounds":[0.5,10],"timeUnixNano":"2000000000"}]}},
    {"name":"size","unit":"By","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[
      {"count":"7","sum":1,"scale":1,"zeroCount":"1","positive":{"offset":-1,"bucketCounts":["1","0","3"]},
       "negative":{"offset":0,"bucketCounts":["2"]},"timeUnixNano":"2000000000","zeroThreshold":0.25}]}},
    {"name":"age","summary":{"dataPoints":[
      {"count":"4","sum":9,"quantileValues":[{"quantile":0.5,"value":2},{"quantile":1,"value":3}],
       "timeUnixNano":"2000000000"}]}}]}]}]})";

std::string Fixed64Field(uint32_t field, uint64_t value) {
  return DoubleField(field, std::bit_cast<double>(value));
}

std::string AttributeField(uint32_t field, std::string_view key, std::string_view value) {
  return BytesField(field, BytesField(1, key) + BytesField(2, BytesField(1, value)));
}

std::string PackedFixed64(uint32_t field, const std::vector<uint64_t>& values) {
  std::string packed;
  for (const uint64_t value : values) packed += Fixed64Field(1, value).substr(1);
  return BytesField(field, packed);
}

std::string PackedVarints(uint32_t field, const std::vector<uint64_t>& values) {
  std::string packed;
  for (const uint64_t value : values) AppendVarint(value, &packed);
  return BytesField(field, packed);
}

std::string EveryKindProtobuf() {
  const std::string time = Fixed64Field(3, 2'000'000'000);
  const std::string resource =
      BytesField(1, AttributeField(1, "service.name", "shop") + AttributeField(1, "service.namespace", "eu") +
                        AttributeField(1, "service.instance.id", "i-1") + AttributeField(1, "host.name", "h"));
  const std::string scope = BytesField(1, BytesField(1, "lib") + BytesField(2, "1"));
  const std::string gauge = BytesField(1, "queue.size") + BytesField(2, "how long") + BytesField(3, "1") +
                            BytesField(5, BytesField(1, time + Fixed64Field(6, static_cast<uint64_t>(-3)) +
                                                            AttributeField(7, "queue.name", "a")));
  // Temporality behind the points, as protobuf's order of fields has it.
  const std::string sum = BytesField(1, "requests") +
                          BytesField(7, BytesField(1, Fixed64Field(2, 1'000'000'000) + time + DoubleField(4, 2.5)) +
                                            VarintField(2, 2) + VarintField(3, 1));
  const std::string bounds = PackedFixed64(7, {std::bit_cast<uint64_t>(0.5), std::bit_cast<uint64_t>(10.0)});
  const std::string histogram = BytesField(1, "latency") + BytesField(3, "s") +
                                BytesField(9, BytesField(1, time + Fixed64Field(4, 6) + DoubleField(5, 7.5) +
                                                                PackedFixed64(6, {1, 2, 3}) + bounds) +
                                                  VarintField(2, 2));
  const std::string exponential =
      BytesField(1, "size") + BytesField(3, "By") +
      BytesField(10, BytesField(1, time + Fixed64Field(4, 7) + DoubleField(5, 1) + VarintField(6, ZigZagEncode(1)) +
                                       Fixed64Field(7, 1) +
                                       BytesField(8, VarintField(1, ZigZagEncode(-1)) + PackedVarints(2, {1, 0, 3})) +
                                       BytesField(9, VarintField(1, 0) + VarintField(2, 2)) + DoubleField(14, 0.25)) +
                         VarintField(2, 2));
  const std::string summary =
      BytesField(1, "age") + BytesField(11, BytesField(1, time + Fixed64Field(4, 4) + DoubleField(5, 9) +
                                                              BytesField(6, DoubleField(1, 0.5) + DoubleField(2, 2)) +
                                                              BytesField(6, DoubleField(1, 1) + DoubleField(2, 3))));
  std::string metrics;
  for (const std::string* metric : {&gauge, &sum, &histogram, &exponential, &summary})
    metrics += BytesField(2, *metric);
  return BytesField(1, resource + BytesField(2, scope + metrics));
}

const Texts& EveryKindLines() {
  static const Texts lines = {
      R"(queue_size_ratio{instance="i-1", job="eu/shop", queue_name="a"} -3@2000)",
      R"(requests_total{instance="i-1", job="eu/shop"} 2.5@2000<1000)",
      R"(latency_seconds_sum{instance="i-1", job="eu/shop"} 7.5@2000)",
      R"(latency_seconds_count{instance="i-1", job="eu/shop"} 6@2000)",
      R"(latency_seconds_bucket{instance="i-1", job="eu/shop", le="0.5"} 1@2000)",
      R"(latency_seconds_bucket{instance="i-1", job="eu/shop", le="10"} 3@2000)",
      R"(latency_seconds_bucket{instance="i-1", job="eu/shop", le="+Inf"} 6@2000)",
      R"(size_bytes{instance="i-1", job="eu/shop"} {count:7, sum:1, [-1.414213562373095,-1):2, [-0.25,0.25]:1, )"
      R"((0.7071067811865475,1]:1, (1.414213562373095,2]:3}@2000)",
      R"(age_sum{instance="i-1", job="eu/shop"} 9@2000)",
      R"(age_count{instance="i-1", job="eu/shop"} 4@2000)",
      R"(age{instance="i-1", job="eu/shop", quantile="0.5"} 2@2000)",
      R"(age{instance="i-1", job="eu/shop", quantile="1"} 3@2000)",
      R"(target_info{host_name="h", instance="i-1", job="eu/shop"} 1@2000)",
  };
  return lines;
}

TEST(Otlp, JsonOfEveryKindBecomesSeries) {
  EXPECT_EQ(JsonLines(kEveryKindJson), EveryKindLines());
}

TEST(Otlp, ProtobufOfEveryKindBecomesTheSameSeries) {
  const Result<DecodedWrite> decoded = DecodeWith(EveryKindProtobuf(), OtlpEncoding::kProtobuf, {});
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ(Lines(*decoded), EveryKindLines());
  EXPECT_EQ(decoded->items, 5u);
  ASSERT_EQ(decoded->metadata.size(), 6u);
  EXPECT_EQ(decoded->metadata[0],
            (model::MetricMetadata{.metric = "queue_size_ratio", .type = "gauge", .help = "how long", .unit = ""}));
  EXPECT_EQ(decoded->metadata[1].type, "counter");
  EXPECT_EQ(decoded->metadata[2],
            (model::MetricMetadata{.metric = "latency_seconds", .type = "histogram", .help = "", .unit = "seconds"}));
  EXPECT_EQ(decoded->metadata[4].type, "summary");
  EXPECT_EQ(decoded->metadata[5].metric, "target_info");
}

TEST(Otlp, EveryPrefixOfARequestIsRefusedOrUnderstood) {
  const std::string body = EveryKindProtobuf();
  for (size_t length = 0; length < body.size(); ++length) {
    const Result<DecodedWrite> decoded = DecodeWith(body.substr(0, length), OtlpEncoding::kProtobuf, {});
    EXPECT_EQ(decoded.ok(), length == 0) << length;
    if (!decoded.ok()) {
      EXPECT_EQ(decoded.status().code(), StatusCode::kInvalidArgument) << length;
    }
  }
}

TEST(Otlp, UnknownFieldsAreSkipped) {
  const std::string extra = VarintField(100, 7) + BytesField(101, "x");
  const std::string point = BytesField(1, Fixed64Field(3, 1'000'000) + DoubleField(4, 1) + extra);
  const std::string metric = BytesField(2, BytesField(1, "m") + BytesField(5, point + extra) + extra);
  const std::string body = BytesField(1, BytesField(2, metric + extra) + extra) + extra;
  const Result<DecodedWrite> decoded = DecodeWith(body, OtlpEncoding::kProtobuf, {});
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ(Lines(*decoded), Texts{"m 1@1"});
  EXPECT_EQ(JsonLines(R"({"new":{"a":[1]},"resourceMetrics":[{"new":1,"scopeMetrics":[{"metrics":[
      {"name":"m","new":[{}],"gauge":{"new":null,"dataPoints":[{"asInt":1,"timeUnixNano":1000000,"new":"x"}]}}]}]}]})"),
            Texts{"m 1@1"});
}

TEST(Otlp, NullIsAbsentInJson) {
  EXPECT_EQ(JsonLines(R"({"resourceMetrics":[{"resource":null,"scopeMetrics":[{"scope":null,"metrics":[
      {"name":"m","unit":null,"gauge":{"dataPoints":[{"asDouble":1,"asInt":null,"timeUnixNano":"1000000"}]}}]}]}]})"),
            Texts{"m 1@1"});
}

TEST(Otlp, JsonTakesIntegersAsTextAndNumbersAndEnumsByName) {
  const auto sum = [](std::string_view temporality, std::string_view value) {
    return JsonLines(MetricBody(fmt::format(
        R"({{"name":"m","sum":{{"aggregationTemporality":{},"dataPoints":[{{{},"timeUnixNano":"1000000"}}]}}}})",
        temporality, value)));
  };
  const Texts expected = {R"(m{job="j"} 9007199254740992@1)"};
  EXPECT_EQ(sum("2", R"("asInt":"9007199254740992")"), expected);
  EXPECT_EQ(sum("\"2\"", R"("asInt":9007199254740992)"), expected);
  EXPECT_EQ(sum("\"AGGREGATION_TEMPORALITY_CUMULATIVE\"", R"("asDouble":9007199254740992)"), expected);
  EXPECT_EQ(sum("2", R"("asDouble":"9007199254740992")"), expected);
  EXPECT_EQ(sum("2", R"("asDouble":"-Infinity")"), Texts{R"(m{job="j"} -inf@1)"});
  EXPECT_EQ(sum("2", R"("asInt":"1e3")"), Texts{R"(m{job="j"} 1000@1)"});
  EXPECT_EQ(sum("2", R"("asInt":1e3)"), Texts{R"(m{job="j"} 1000@1)"});
  EXPECT_EQ(sum("2", R"("asInt":"-2.50E1")"), Texts{R"(m{job="j"} -25@1)"});
  const Texts no_integer = {R"(0: metric "m": "asInt" must be a whole number in its range, as a number or as text)"};
  for (const std::string_view value : {"1.5", R"("1.5")", R"("1e-1")", R"("12x")", R"("1e19")", R"("1e400")",
                                       R"("inf")", R"("NaN")", R"("0x10")", R"("")", R"(" 1")", "true", "[]"}) {
    EXPECT_EQ(sum("2", fmt::format(R"("asInt":{})", value)), no_integer) << value;
  }
  EXPECT_EQ(sum("2", R"("asDouble":"inf")"), Texts{R"(0: metric "m": "asDouble" must be a number)"});
}

TEST(Otlp, WrongTypesInJsonAreTheBodysFault) {
  for (const std::string_view body :
       {"", "[]", "7", "{", R"({"resourceMetrics":{}})", R"({"resourceMetrics":"x"})", "{} {}", "\xff"}) {
    const Result<DecodedWrite> decoded = DecodeWith(body, OtlpEncoding::kJson, {});
    ASSERT_FALSE(decoded.ok()) << body;
    EXPECT_EQ(decoded.status().code(), StatusCode::kInvalidArgument) << body;
  }
}

TEST(Otlp, AWrongValueRefusesWhatItIsPartOfAndNoMore) {
  const auto lines = [](std::string_view metrics) {
    return JsonLines(
        MetricBody(fmt::format(R"({{"name":"a","gauge":{{"dataPoints":[{{"asInt":1,"timeUnixNano":"1000000"}}]}}}},{},)"
                               R"({{"name":"z","gauge":{{"dataPoints":[{{"asInt":2,"timeUnixNano":"1000000"}}]}}}})",
                               metrics)));
  };
  const auto refused = [](std::initializer_list<std::string_view> refusals) {
    Texts out = {R"(a{job="j"} 1@1)", R"(z{job="j"} 2@1)"};
    out.insert(out.end(), refusals.begin(), refusals.end());
    return out;
  };
  EXPECT_EQ(lines(R"({"name":"m","gauge":{"dataPoints":[{"asInt":1,"timeUnixNano":"12x"},null,7]}})"),
            refused({R"(1: metric "m": "timeUnixNano" must be a whole number in its range, as a number or as text)",
                     R"(2: metric "m": an element of "dataPoints" must be an object)",
                     R"(3: metric "m": an element of "dataPoints" must be an object)"}));
  EXPECT_EQ(
      lines(R"({"name":"m","histogram":{"aggregationTemporality":2,"dataPoints":[
                {"timeUnixNano":"1000000","count":"1","bucketCounts":["x"]}]}})"),
      refused({R"(1: metric "m": an element of "bucketCounts" must be a whole number in its range, as a number or )"
               "as text"}));
  EXPECT_EQ(lines(R"({"name":"m","gauge":{"dataPoints":[{"asDouble":1,"timeUnixNano":"1000000","attributes":[
                {"key":"k","value":{"stringValue":1}}]}]}})"),
            refused({R"(1: metric "m": "stringValue" must be a string)"}));
  // A metric's own value refuses all its points, and one that has none to be counted is one.
  EXPECT_EQ(
      lines(R"({"name":5,"gauge":{"dataPoints":[{"asInt":1,"timeUnixNano":"1"},{"asInt":1,"timeUnixNano":"2"}]}})"),
      refused({R"(1: "name" must be a string)", R"(2: "name" must be a string)"}));
  EXPECT_EQ(lines(R"({"name":"m","sum":{"isMonotonic":1,"dataPoints":[{"asInt":1,"timeUnixNano":"1"}]}})"),
            refused({R"(1: metric "m": "isMonotonic" must be true or false)"}));
  EXPECT_EQ(lines(R"({"name":"m","gauge":[]})"), refused({R"(1: metric "m": "gauge" must be an object)"}));
  EXPECT_EQ(lines(R"({"name":"m","gauge":{"dataPoints":{}}})"),
            refused({R"(1: metric "m": "dataPoints" must be an array)"}));
  EXPECT_EQ(lines("null"), refused({R"(1: an element of "metrics" must be an object)"}));
}

TEST(Otlp, AWrongValueOfAResourceOrAScopeRefusesItsPoints) {
  const std::string_view metrics =
      R"("metrics":[{"name":"m","gauge":{"dataPoints":[{"asInt":1,"timeUnixNano":"1000000"}]}}])";
  const auto lines = [&](std::string_view bad) {
    return JsonLines(fmt::format(R"({{"resourceMetrics":[{},{{"scopeMetrics":[{{{}}}]}}]}})", bad, metrics));
  };
  EXPECT_EQ(lines(fmt::format(R"({{"resource":[],"scopeMetrics":[{{{}}}]}})", metrics)),
            (Texts{"m 1@1", R"(0: metric "m": "resource" must be an object)"}));
  EXPECT_EQ(lines(fmt::format(R"({{"scopeMetrics":[{{{0},"schemaUrl":1}},{{{0}}}]}})", metrics)),
            (Texts{"m 1@1", "m 1@1", R"(0: metric "m": "schemaUrl" must be a string)"}));
  EXPECT_EQ(lines(R"({"scopeMetrics":{}})"), (Texts{"m 1@1", R"(0: "scopeMetrics" must be an array)"}));
  EXPECT_EQ(lines(R"({"scopeMetrics":[{"metrics":1}]})"), (Texts{"m 1@1", R"(0: "metrics" must be an array)"}));
  EXPECT_EQ(lines("1"), (Texts{"m 1@1", R"(0: an element of "resourceMetrics" must be an object)"}));
}

TEST(Otlp, AWrongExemplarIsLeftOutAndItsPointStays) {
  const Result<DecodedWrite> decoded = DecodeWith(MetricBody(R"({"name":"m","sum":{"aggregationTemporality":2,
      "dataPoints":[{"asInt":1,"timeUnixNano":"9000000","exemplars":[
        {"asInt":7,"traceId":"XYZ"},{"asInt":8,"traceId":"0af7651916cd43dd8448eb211c80319c"},{"asDouble":"abc"},1]}]}})"),
                                                  OtlpEncoding::kJson, {});
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ(Lines(*decoded), Texts{R"(m{job="j"} 1@9)"});
  EXPECT_EQ(decoded->rejected, 0u);
  ASSERT_EQ(decoded->exemplars.size(), 1u);
  EXPECT_EQ(decoded->exemplars[0].value, 8);
}

TEST(Otlp, WhatIsNotJsonIsRefusedWithItsPlace) {
  const auto place = [](std::string_view body) {
    const std::string message = JsonLines(body)[0];
    return message.substr(0, message.find(':', std::string_view("INVALID_ARGUMENT:").size()));
  };
  const std::string_view not_json = "INVALID_ARGUMENT: the body is not JSON at byte ";
  EXPECT_EQ(place(R"({"a":[1,2,]})"), fmt::format("{}10", not_json));
  EXPECT_EQ(place(R"({"a":1,})"), fmt::format("{}7", not_json));
  EXPECT_EQ(place(R"({"a":1x})"), fmt::format("{}5", not_json));
  EXPECT_EQ(place(R"({"a":"\q"})"), fmt::format("{}5", not_json));
  EXPECT_EQ(place(R"({"a":"b)"), fmt::format("{}5", not_json));
  EXPECT_EQ(place("{\"a\":\"\xff\"}"), fmt::format("{}6", not_json));
  EXPECT_EQ(place(R"({} {})"), fmt::format("{}3", not_json));
}

TEST(Otlp, EmptyRequestsAreFine) {
  EXPECT_EQ(JsonLines("{}"), Texts{});
  EXPECT_TRUE(DecodeWith("", OtlpEncoding::kProtobuf, {}).ok());
  EXPECT_EQ(JsonLines(R"({"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m"},{"name":"n","sum":{}}]}]}]})"),
            Texts{});
}

TEST(Otlp, ABadPointIsRefusedByItself) {
  const Texts lines = JsonLines(MetricBody(R"({"name":"m","gauge":{"dataPoints":[
      {"asInt":1,"timeUnixNano":"1000000"},{"timeUnixNano":"2000000"},{"asInt":3},{"asInt":4,"timeUnixNano":"4000000"},
      {"asInt":5,"timeUnixNano":"5000000","attributes":[{"key":"","value":{"stringValue":"x"}}]}]}},
      {"name":"s","sum":{"dataPoints":[{"asInt":1,"timeUnixNano":"1000000"}]}})"));
  EXPECT_EQ(lines,
            (Texts{R"(m{job="j"} 1@1)", R"(m{job="j"} 4@4)", R"(1: metric "m": the point has no value)",
                   R"(2: metric "m": the point has no timestamp)", R"(4: metric "m": an attribute's key is empty)",
                   R"(5: metric "s": metric "s" has no aggregation temporality)"}));
}

TEST(Otlp, NoRecordedValueIsAStalenessMarker) {
  EXPECT_EQ(JsonLines(MetricBody(R"({"name":"m","gauge":{"dataPoints":[{"flags":1,"timeUnixNano":"1000000"}]}},
      {"name":"h","histogram":{"aggregationTemporality":1,"dataPoints":[{"flags":1,"timeUnixNano":"1000000"}]}},
      {"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"flags":1,"timeUnixNano":"1000000"}]}})")),
            (Texts{R"(m{job="j"} stale@1)", R"(h_sum{job="j"} stale@1)", R"(h_count{job="j"} stale@1)",
                   R"(h_bucket{job="j", le="+Inf"} stale@1)", R"(e{job="j"} stale@1)"}));
}

TEST(Otlp, DeltaIsMarkedOrRefused) {
  const std::string body = MetricBody(R"({"name":"m","sum":{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[
      {"asInt":1,"startTimeUnixNano":"1000000","timeUnixNano":"2000000"},
      {"asInt":1,"startTimeUnixNano":"9000000","timeUnixNano":"2000000"}]}})");
  EXPECT_EQ(JsonLines(body),
            (Texts{R"(m_total{job="j"} 1@2<1 delta)", R"(1: metric "m": the point's start is after its end)"}));
  EXPECT_EQ(JsonLines(body, {{"delta", "refuse"}})[0],
            R"(0: metric "m": metric "m" is of delta temporality, which otlp.delta refuses)");
}

TEST(Otlp, ExponentialHistogramsOfFinerScalesAreScaledDown) {
  const auto lines = [](int scale, std::string_view buckets) {
    return JsonLines(MetricBody(fmt::format(
        R"({{"name":"e","exponentialHistogram":{{"aggregationTemporality":2,"dataPoints":[{{"scale":{},"count":6,"sum":1,"positive":{},"timeUnixNano":"1000000"}}]}}}})",
        scale, buckets)));
  };
  const std::string_view buckets = R"({"offset":0,"bucketCounts":[1,2,0,3]})";
  // Scale 10 to 8: four neighbours become one bucket.
  EXPECT_EQ(lines(10, buckets)[0], lines(8, R"({"offset":0,"bucketCounts":[6]})")[0]);
  EXPECT_EQ(lines(2147483647, buckets)[0], lines(8, R"({"offset":0,"bucketCounts":[6]})")[0]);
  EXPECT_EQ(lines(9, R"({"offset":-3,"bucketCounts":[1,2,3]})")[0],
            lines(8, R"({"offset":-2,"bucketCounts":[1,5]})")[0]);
  EXPECT_EQ(lines(-5, buckets)[0], R"(0: metric "e": scale -5 is below -4, the least that native histograms have)");
  EXPECT_EQ(lines(0, R"({"offset":0,"bucketCounts":[5]})")[0],
            R"(0: metric "e": the buckets do not hold the 6 observations that the count says)");
  EXPECT_EQ(lines(0, R"({"offset":2147483647,"bucketCounts":[6]})")[0],
            R"(0: metric "e": bucket 2147483648 is out of range)");
  EXPECT_EQ(lines(0, R"({"offset":0,"bucketCounts":["18446744073709551615",7]})").size(), 1u);
}

TEST(Otlp, ClassicHistogramsMayBecomeCustomBuckets) {
  const std::string body = MetricBody(R"({"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[
      {"count":6,"sum":7.5,"bucketCounts":[1,0,5],"explicitBounds":[0.5,10],"timeUnixNano":"1000000"},
      {"count":2,"timeUnixNano":"2000000"},
      {"count":7,"bucketCounts":[1,0,5],"explicitBounds":[0.5,10],"timeUnixNano":"3000000"}]}})");
  EXPECT_EQ(JsonLines(body, {{"convert_histograms_to_nhcb", "true"}}),
            (Texts{R"(h{job="j"} {count:6, sum:7.5, [-Inf,0.5]:1, (10,+Inf]:5}@1)",
                   R"(h{job="j"} {count:2, sum:0, [-Inf,+Inf]:2}@2)",
                   R"(2: metric "h": the buckets do not hold the 7 observations that the count says)"}));
}

TEST(Otlp, BoundsMustFitTheBuckets) {
  const auto refusal = [](std::string_view point) {
    return JsonLines(MetricBody(fmt::format(
        R"({{"name":"h","histogram":{{"aggregationTemporality":2,"dataPoints":[{{"count":1,"timeUnixNano":"1000000",{}}}]}}}})",
        point)))[0];
  };
  EXPECT_EQ(refusal(R"("bucketCounts":[1],"explicitBounds":[1,2])"),
            R"(0: metric "h": 1 buckets and 2 bounds; there must be one bucket more than bounds)");
  const std::string not_above = R"(0: metric "h": bound 1 is not finite or not above the one before)";
  EXPECT_EQ(refusal(R"("bucketCounts":[1,0,0],"explicitBounds":[1,1])"), not_above);
  EXPECT_EQ(refusal(R"("bucketCounts":[1,0,0],"explicitBounds":[1,"Infinity"])"), not_above);
  EXPECT_EQ(refusal(R"("bucketCounts":[1,0,0],"explicitBounds":[1,"NaN"])"), not_above);
}

TEST(Otlp, ExemplarsGoToTheBucketThatCountedThem) {
  const Result<DecodedWrite> decoded = DecodeWith(MetricBody(R"({"name":"h","histogram":{"aggregationTemporality":2,
      "dataPoints":[{"count":2,"bucketCounts":[1,1],"explicitBounds":[5],"timeUnixNano":"9000000","exemplars":[
        {"asInt":7,"timeUnixNano":"8000000","traceId":"0AF7651916CD43DD8448EB211C80319C","spanId":"b7ad6b7169203331",
         "filteredAttributes":[{"key":"user","value":{"stringValue":"u"}}]},
        {"asDouble":5,"traceId":"00000000000000000000000000000000"}]}]}})"),
                                                  OtlpEncoding::kJson, {});
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  ASSERT_EQ(decoded->exemplars.size(), 2u);
  const DecodedSeries& first = decoded->series[1];
  const DecodedSeries& last = decoded->series[2];
  ASSERT_EQ(first.exemplars_end - first.exemplars_begin, 1u);
  ASSERT_EQ(last.exemplars_end - last.exemplars_begin, 1u);
  EXPECT_EQ(decoded->exemplars[first.exemplars_begin].value, 5);
  EXPECT_EQ(decoded->exemplars[first.exemplars_begin].timestamp, 9);
  EXPECT_TRUE(decoded->exemplars[first.exemplars_begin].labels.empty());
  const model::Exemplar& traced = decoded->exemplars[last.exemplars_begin];
  EXPECT_EQ(traced.timestamp, 8);
  EXPECT_EQ(traced.labels,
            model::Labels::Of(
                {{"span_id", "b7ad6b7169203331"}, {"trace_id", "0af7651916cd43dd8448eb211c80319c"}, {"user", "u"}}));
}

// An attribute's value of so many arrays, each in the other.
std::string NestedValue(int depth) {
  std::string value = BytesField(1, "x");
  for (int i = 0; i < depth; ++i) value = BytesField(5, BytesField(1, value));
  return value;
}

std::string AttributeOf(uint32_t field, std::string_view key, std::string_view value) {
  return BytesField(field, BytesField(1, key) + BytesField(2, value));
}

std::string NumberPoint(std::string_view more) {
  return BytesField(1, Fixed64Field(3, 1'000'000) + DoubleField(4, 1) + std::string(more));
}

std::string GaugeOf(std::string_view name, std::string_view points) {
  return BytesField(2, BytesField(1, name) + BytesField(5, points));
}

// The job, and what more the resource has; then scopes.
std::string ResourceOf(std::string_view job, std::string_view more, std::string_view scopes) {
  return BytesField(1, BytesField(1, AttributeField(1, "service.name", job) + std::string(more)) + std::string(scopes));
}

std::vector<std::string> ProtobufLines(std::string_view body) {
  const Result<DecodedWrite> decoded = DecodeWith(body, OtlpEncoding::kProtobuf, {});
  if (!decoded.ok()) return {decoded.status().ToString()};
  std::vector<std::string> out = Lines(*decoded);
  for (const ItemError& error : decoded->errors)
    out.push_back(fmt::format("{}: {}", error.item, error.reason.message()));
  return out;
}

TEST(Otlp, AValueThatIsTooDeepOrTooWideRefusesItsPointAlone) {
  std::string wide;
  for (int i = 0; i < 5000; ++i) wide += BytesField(1, "");
  const std::string good = NumberPoint("");
  const auto lines = [&](std::string_view value) {
    return ProtobufLines(ResourceOf(
        "j", "", BytesField(2, GaugeOf("m", good + NumberPoint(AttributeOf(7, "k", value))) + GaugeOf("n", good))));
  };
  const std::string m = R"(m{job="j"} 1@1)";
  const std::string n = R"(n{job="j"} 1@1)";
  EXPECT_EQ(lines(NestedValue(kOtlpValueDepthMax)).size(), 3u);
  for (const std::string& value : {NestedValue(kOtlpValueDepthMax + 1), NestedValue(200), BytesField(5, wide)}) {
    const std::vector<std::string> got = lines(value);
    ASSERT_EQ(got.size(), 3u);
    EXPECT_EQ(got[0], m);
    EXPECT_EQ(got[1], n);
    EXPECT_TRUE(got[2].starts_with(R"(1: metric "m": an attribute's value at byte )")) << got[2];
  }
  // What follows the fault in its own value is still read as what it must be.
  EXPECT_EQ(lines(NestedValue(kOtlpValueDepthMax + 1) + "\xff").size(), 1u);
}

TEST(Otlp, AValueThatIsTooDeepRefusesAllThatItIsSaidOf) {
  const std::string bad = NestedValue(kOtlpValueDepthMax + 1);
  const std::string points = NumberPoint("") + NumberPoint("");
  const std::string scope = BytesField(1, AttributeOf(3, "k", bad));
  const std::string body =
      ResourceOf("a", AttributeOf(1, "k", bad), BytesField(2, GaugeOf("m", points))) +
      ResourceOf("b", "", BytesField(2, scope + GaugeOf("m", points)) + BytesField(2, GaugeOf("n", NumberPoint("")))) +
      ResourceOf("c", "", BytesField(2, GaugeOf("m", NumberPoint("")))) + ResourceOf("d", AttributeOf(1, "k", bad), "");
  const std::vector<std::string> got = ProtobufLines(body);
  ASSERT_EQ(got.size(), 6u);
  EXPECT_EQ(got[0], R"(n{job="b"} 1@1)");
  EXPECT_EQ(got[1], R"(m{job="c"} 1@1)");
  for (uint32_t item = 0; item < 4; ++item) {
    EXPECT_TRUE(got[2 + item].starts_with(fmt::format(R"({}: metric "m": an attribute's value at byte )", item)));
  }
}

TEST(Otlp, AnExemplarWhoseValueIsTooDeepIsLeftOut) {
  const auto exemplar = [](std::string_view more) {
    return BytesField(5, Fixed64Field(2, 1'000'000) + DoubleField(3, 7) + std::string(more));
  };
  const std::string bad = exemplar(AttributeOf(7, "k", NestedValue(kOtlpValueDepthMax + 1)));
  const std::string counter = NumberPoint(bad + exemplar("")) + VarintField(2, 2) + VarintField(3, 1);
  const std::string total = BytesField(2, BytesField(1, "m") + BytesField(7, counter));
  const Result<DecodedWrite> decoded =
      DecodeWith(ResourceOf("j", "", BytesField(2, total)), OtlpEncoding::kProtobuf, {});
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ(Lines(*decoded).size(), 1u);
  EXPECT_TRUE(decoded->errors.empty());
  EXPECT_EQ(decoded->exemplars.size(), 1u);
}

TEST(Otlp, ASmallBodyCannotAskForManyLabels) {
  const std::string resource = BytesField(1, AttributeField(1, "service.name", std::string(16'000, 'x')));
  const std::string point = BytesField(1, Fixed64Field(3, 1'000'000) + DoubleField(4, 1));
  std::string points;
  for (int i = 0; i < 20'000; ++i) points += point;
  const std::string body =
      BytesField(1, resource + BytesField(2, BytesField(2, BytesField(1, "m") + BytesField(5, points))));
  const Result<DecodedWrite> decoded = DecodeWith(body, OtlpEncoding::kProtobuf, {});
  ASSERT_FALSE(decoded.ok());
  EXPECT_EQ(decoded.status().code(), StatusCode::kInvalidArgument);
}

TEST(Otlp, UnknownOptionsAreRefused) {
  for (const auto& [name, value] : OtlpOptionMap{{"new", "1"},
                                                 {"delta", "maybe"},
                                                 {"promote_scope_metadata", "yes"},
                                                 {"translation_strategy", "None"},
                                                 {"delta_series", "-1"},
                                                 {"delta_stale_ms", "5m"}}) {
    const Result<OtlpOptions> options = OtlpOptions::Parse({{name, value}});
    ASSERT_FALSE(options.ok()) << name;
    EXPECT_EQ(options.status().code(), StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace millstream::wire

// What rules may be, and what they make of an event.
#include "millstream/events/metric_rule.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "events_fixture.h"
#include "meta_record.h"

namespace millstream::events {
namespace {

MetricRule Counter(std::string metric, std::string value = "", std::map<std::string, std::string> labels = {},
                   std::string filter = "") {
  return {.metric = std::move(metric),
          .type = MetricType::kCounter,
          .value = std::move(value),
          .labels = std::move(labels),
          .filter = std::move(filter)};
}

// The labels' names and values with bars between, and the value: "__name__|m|region|eu = 3".
std::string Outcome(const MetricRule& rule, const EventView& event) {
  const auto compiled = CompiledRules::Compile(MetricRules({rule}));
  EXPECT_TRUE(compiled.ok()) << compiled.status().ToString();
  if (!compiled.ok()) return "";
  auto stored = StoredEvent::Make(EncodeEvent(event));
  EXPECT_TRUE(stored.ok());
  std::vector<CompiledRules::Outcome> outcomes;
  (*compiled)->Evaluate("orders", **stored, {true}, &outcomes);
  const CompiledRules::Outcome& outcome = outcomes.at(0);
  switch (outcome.skip) {
    case RuleSkip::kNone:
      break;
    case RuleSkip::kFiltered:
      return "filtered";
    case RuleSkip::kBytes:
      return "bytes";
    case RuleSkip::kMissing:
      return "missing";
    case RuleSkip::kType:
      return "type";
    case RuleSkip::kNegative:
      return "negative";
    case RuleSkip::kLabel:
      return "label";
  }
  std::string out;
  for (std::string_view rest = outcome.labels; !rest.empty();) {
    const auto size = static_cast<unsigned char>(rest[0]);
    if (!out.empty()) out += '|';
    out += rest.substr(4, size);
    rest.remove_prefix(4 + size);
  }
  return fmt::format("{} = {}", out, outcome.value);
}

EventView Json(std::string_view payload) {
  EventView event;
  event.is_json = true;
  event.payload = payload;
  return event;
}

TEST(MetricRule, ACounterTakesItsValueFromAFieldAndItsLabelsFromOthers) {
  EventView event = Json(R"({"amount": 2.5, "at": {"region": "eu"}, "n": 7, "paid": true, "none": null, "list": []})");
  event.key = "k";
  event.headers = {{"shop", "a"}};
  EXPECT_EQ(Outcome(Counter("m", "payload.amount", {{"region", "payload.at.region"}}), event),
            "__name__|m|region|eu = 2.5");
  EXPECT_EQ(Outcome(Counter("m", "", {{"k", "key"}, {"h", "headers.shop"}, {"t", "topic"}, {"c", "\"x\""}}), event),
            "__name__|m|c|x|h|a|k|k|t|orders = 1");
  EXPECT_EQ(Outcome(Counter("m", "payload.n", {{"n", "payload.n"}, {"p", "payload.paid"}}), event),
            "__name__|m|n|7|p|true = 7");
  EXPECT_EQ(Outcome(Counter("m", "", {{"id", "payload.id"}}), Json(R"({"id": 12345678901234567891})")),
            "__name__|m|id|12345678901234567891 = 1");
  EXPECT_EQ(Outcome(Counter("m", "", {{"id", "payload.id"}}), Json(R"({"id": -0.25})")), "__name__|m|id|-0.25 = 1");
  EXPECT_EQ(Outcome(Counter("m", "", {{"a", "payload.none"}, {"b", "payload.gone"}, {"c", "payload.list"}}), event),
            "__name__|m = 1");
}

TEST(MetricRule, WhatGivesNoSampleIsToldByReason) {
  EXPECT_EQ(Outcome(Counter("m", "payload.a"), Json(R"({"b": 1})")), "missing");
  EXPECT_EQ(Outcome(Counter("m", "payload.a"), Json(R"({"a": null})")), "missing");
  EXPECT_EQ(Outcome(Counter("m", "payload.a"), Json(R"({"a": "5"})")), "type");
  EXPECT_EQ(Outcome(Counter("m", "payload.a"), Json(R"({"a": true})")), "type");
  EXPECT_EQ(Outcome(Counter("m", "payload.a"), Json(R"({"a": -1})")), "negative");
  EXPECT_EQ(Outcome(Counter("m", "", {{"l", "payload.a"}}), Json("{\"a\": \"" + std::string(257, 'x') + "\"}")),
            "label");
  EXPECT_EQ(Outcome(Counter("m", "payload.a", {}, "payload.b == 1"), Json(R"({"a": 1, "b": 2})")), "filtered");
  EventView bytes = Json("\xff");
  bytes.is_json = false;
  EXPECT_EQ(Outcome(Counter("m", "payload.a"), bytes), "bytes");
  EXPECT_EQ(Outcome(Counter("m"), bytes), "__name__|m = 1");
  bytes.key = "\xff";
  EXPECT_EQ(Outcome(Counter("m", "", {{"k", "key"}}), bytes), "label");
  MetricRule gauge = Counter("m", "payload.a");
  gauge.type = MetricType::kGauge;
  EXPECT_EQ(Outcome(gauge, Json(R"({"a": -1})")), "__name__|m = -1");
}

TEST(MetricRule, ARuleThatIsNoneIsRefusedAndNamed) {
  const auto refused = [](const MetricRule& rule) {
    const Status status = CheckMetricRules(MetricRules({rule}));
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status.ToString();
    return std::string(status.message());
  };
  EXPECT_NE(refused(Counter("")).find("\"metric\""), std::string::npos);
  EXPECT_NE(refused(Counter("1m")).find("\"metric\""), std::string::npos);
  EXPECT_NE(refused(Counter("m", "key")).find("rule m"), std::string::npos);
  EXPECT_NE(refused(Counter("m", "payload.")).find("field is wrong at byte 8"), std::string::npos);
  EXPECT_NE(refused(Counter("m", "payload.a b")).find("\"value\""), std::string::npos);
  EXPECT_NE(refused(Counter("m", "", {{"__name__", "key"}})).find("label"), std::string::npos);
  EXPECT_NE(refused(Counter("m", "", {{"a-b", "key"}})).find("label"), std::string::npos);
  EXPECT_NE(refused(Counter("m", "", {{"a", "payload["}})).find("label a"), std::string::npos);
  EXPECT_NE(refused(Counter("m", "", {}, "payload.a >")).find("filter"), std::string::npos);
  MetricRule gauge = Counter("m");
  gauge.type = MetricType::kGauge;
  EXPECT_NE(refused(gauge).find("gauge needs"), std::string::npos);
  std::vector<MetricRule> many;
  for (size_t i = 0; i <= kMetricRulesMax; ++i) many.push_back(Counter(fmt::format("m{}", i)));
  EXPECT_FALSE(CheckMetricRules(MetricRules(many)).ok());
  many.pop_back();
  EXPECT_TRUE(CheckMetricRules(MetricRules(many)).ok());
  many[1].metric = "m0";
  EXPECT_FALSE(CheckMetricRules(MetricRules(many)).ok());
}

TEST(MetricRule, RulesAreKeptWithTheTopicAndOldRecordsAreReadAsEver) {
  TopicInfo topic{.name = "orders", .tenant = kTenant, .number = 3, .created_ms = 5, .options = {}};
  const std::string plain = EncodeChange(PutTopic{topic});
  EXPECT_EQ(plain[0], 1);  // what a version without rules wrote
  EXPECT_EQ(std::get<PutTopic>(DecodeChange(plain).value()).topic, topic);
  MetricRule rule = Counter("m", "payload.a", {{"r", "key"}}, "key == \"a\"");
  rule.since = {4, 0, 7};
  topic.options.metrics = MetricRules({rule, Counter("n")});
  const std::string bytes = EncodeChange(PutTopic{topic});
  EXPECT_EQ(std::get<PutTopic>(DecodeChange(bytes).value()).topic, topic);
  for (size_t size = 0; size < bytes.size(); ++size) EXPECT_FALSE(DecodeChange(bytes.substr(0, size)).ok()) << size;
}

TEST(MetricRule, OneMetricComesFromOneTopicOfATenant) {
  SimMachine machine(1);
  const auto broker = machine.MustOpen();
  TopicOptions options;
  options.metrics = MetricRules({Counter("m")});
  ASSERT_TRUE(broker->CreateTopic(kTenant, "a", options).ok());
  EXPECT_EQ(broker->CreateTopic(kTenant, "b", options).status().code(), StatusCode::kAlreadyExists);
  EXPECT_TRUE(broker->CreateTopic(TenantId(2), "b", options).ok());
  ASSERT_TRUE(broker->CreateTopic(kTenant, "c", {}).ok());
  EXPECT_EQ(broker->AlterTopic(kTenant, "c", {.metrics = options.metrics}).status().code(), StatusCode::kAlreadyExists);
  ASSERT_TRUE(broker->DeleteTopic(kTenant, "a").ok());
  EXPECT_TRUE(broker->AlterTopic(kTenant, "c", {.metrics = options.metrics}).ok());
  EXPECT_EQ(broker->TopicsWithRules().topics.size(), 2u);
  EXPECT_TRUE(broker->AlterTopic(kTenant, "c", {.metrics = MetricRules()}).ok());
  EXPECT_EQ(broker->TopicsWithRules().topics.size(), 1u);
}

}  // namespace
}  // namespace millstream::events

// Samples that become events of topics which ask for them.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "memory_database.h"
#include "millstream/engine/database.h"
#include "millstream/events/broker.h"
#include "millstream/model/value.h"

namespace millstream::engine {
namespace {

void Create(Database& db, const std::string& topic, std::vector<std::string> selectors, TenantId tenant = {},
            events::TopicOptions options = {}) {
  options.from_metrics = std::move(selectors);
  const auto made = db.Events().CreateTopic(tenant, topic, options);
  ASSERT_TRUE(made.ok()) << made.status().ToString();
}

// A small topic in memory, and who holds it: what it does not read has to stay there.
std::unique_ptr<events::Subscription> CreateHeld(Database& db, const std::string& topic,
                                                 std::vector<std::string> selectors) {
  events::TopicOptions options;
  options.durability = events::TopicDurability::kEphemeral;
  options.retention_bytes = 20'000;
  Create(db, topic, std::move(selectors), {}, options);
  auto reader = db.Events().Subscribe({}, {.topics = {topic}, .on_slow = events::OnSlow::kBlock}, nullptr);
  EXPECT_TRUE(reader.ok()) << reader.status().ToString();
  return reader.ok() ? std::move(*reader) : nullptr;
}

PushOutcome PushLines(Database& db, const std::string& text, TenantId tenant = {}) {
  const auto outcome = db.Push(tenant, {.format = "text", .body = text, .default_timestamp = 1000});
  EXPECT_TRUE(outcome.ok()) << outcome.status().ToString();
  return outcome.ok() ? *outcome : PushOutcome();
}

std::vector<std::string> Payloads(Database& db, const std::string& topic, TenantId tenant = {}) {
  std::vector<std::string> out;
  const auto fetched = db.Events().Fetch(tenant, topic, 0, {.limit = events::kFetchEventsMax, .bytes_max = 64 << 20});
  EXPECT_TRUE(fetched.ok()) << fetched.status().ToString();
  if (!fetched.ok()) return out;
  for (const events::EventPtr& event : fetched->events) out.emplace_back(event->view().payload);
  return out;
}

TEST(MetricFeed, SamplesThatASelectorMatchesAreEventsWhenTheWriteIsAnswered) {
  const auto db = Memory();
  PushLines(*db, "up{job=\"a\"} 1 1\n");
  Create(*db, "health", {"up{job=\"a\"}", "{__name__=~\"load.*\"}"});
  PushLines(*db, "up{job=\"a\"} 0 2\nup{job=\"b\"} 1 2\nload1 0.5 2\n");
  PushLines(*db, "up{job=\"a\"} 1 3\n");
  std::vector<std::string> found = Payloads(*db, "health");
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[2], R"({"name":"up","labels":{"job":"a"},"value":1,"timestamp":3})");
  found.pop_back();
  std::ranges::sort(found);
  EXPECT_EQ(found[0], R"({"name":"load1","labels":{},"value":0.5,"timestamp":2})");
  EXPECT_EQ(found[1], R"({"name":"up","labels":{"job":"a"},"value":0,"timestamp":2})");
}

TEST(MetricFeed, WritesOfColumnsAndBySeriesAreEventsToo) {
  const auto db = Memory();
  Create(*db, "t", {"m"});
  const std::vector<model::Label> labels{{"__name__", "m"}, {"i", "1"}};
  const std::vector<TimestampMs> times{1, 2, 3};
  const std::vector<double> values{1.5, NAN, INFINITY};
  ASSERT_TRUE(db->Write({}, labels, times, values).ok());
  const auto handles = db->SeriesHandles({}, std::vector<std::vector<model::Label>>{labels});
  ASSERT_TRUE(handles.ok());
  ASSERT_TRUE(db->Append({}, *handles, std::vector<TimestampMs>{4}, std::vector<double>{-2}).ok());
  EXPECT_EQ(Payloads(*db, "t"), std::vector<std::string>({
                                    R"({"name":"m","labels":{"i":"1"},"value":1.5,"timestamp":1})",
                                    R"({"name":"m","labels":{"i":"1"},"value":"NaN","timestamp":2})",
                                    R"({"name":"m","labels":{"i":"1"},"value":"+Inf","timestamp":3})",
                                    R"({"name":"m","labels":{"i":"1"},"value":-2,"timestamp":4})",
                                }));
}

TEST(MetricFeed, WhatTheStoreRefusesIsNoEventHoweverMuchItIs) {
  const auto db = Memory();
  Create(*db, "t", {"m"});
  std::string text;
  for (int i = 0; i < 300; ++i) text += fmt::format("m{{i=\"{}\"}} 1 1\n", i);
  PushLines(*db, text);
  // Another value at a time that is taken: all are refused but the last.
  std::string again;
  for (int i = 0; i < 300; ++i) again += fmt::format("m{{i=\"{}\"}} 2 {}\n", i, i == 299 ? 2 : 1);
  EXPECT_EQ(PushLines(*db, again).rejected, 299u);
  const std::vector<std::string> found = Payloads(*db, "t");
  ASSERT_EQ(found.size(), 301u);
  EXPECT_EQ(found.back(), R"({"name":"m","labels":{"i":"299"},"value":2,"timestamp":2})");
}

TEST(MetricFeed, AWriteThatComesAgainMakesNoSecondEvent) {
  const auto db = Memory();
  Create(*db, "t", {"m"});
  for (int i = 0; i < 3; ++i) PushLines(*db, "m 1 1\nm 2 2\n");
  EXPECT_EQ(Payloads(*db, "t").size(), 2u);
}

TEST(MetricFeed, OneSampleIsAnEventOfEachTopicThatWantsItAndOnceInEach) {
  const auto db = Memory();
  Create(*db, "all", {"{__name__=~\".+\"}", "m"});
  Create(*db, "some", {"m"});
  Create(*db, "none", {"n"});
  PushLines(*db, "m{a=\"\\\"\\n\xc3\xa4\"} 1 1\nk 2 1\n");
  EXPECT_EQ(Payloads(*db, "all").size(), 2u);
  EXPECT_EQ(
      Payloads(*db, "some"),
      std::vector<std::string>{"{\"name\":\"m\",\"labels\":{\"a\":\"\\\"\\n\xc3\xa4\"},\"value\":1,\"timestamp\":1}"});
  EXPECT_TRUE(Payloads(*db, "none").empty());
}

TEST(MetricFeed, StalenessMarkersAreNoEvents) {
  const auto db = Memory();
  Create(*db, "t", {"m"});
  const std::vector<model::Label> labels{{"__name__", "m"}};
  const std::vector<TimestampMs> times{1, 2};
  const std::vector<double> values{1, model::StaleNan()};
  EXPECT_EQ(db->Write({}, labels, times, values)->samples, 2u);
  EXPECT_EQ(Payloads(*db, "t").size(), 1u);
}

TEST(MetricFeed, WritesThatAreStoredTogetherFeedTheirOwnTenants) {
  const auto db = Memory();
  Create(*db, "t", {"m"});
  Create(*db, "t", {"n"}, kOther);
  std::vector<std::string> bodies;
  for (int i = 0; i < 6; ++i) bodies.push_back(fmt::format("m {0} {1}\nn {0} {1}\n", i, i + 1));
  bodies.push_back("m 9 1\n");  // another value at a time that is taken
  std::vector<TenantWrite> writes;
  for (size_t i = 0; i < bodies.size(); ++i) {
    writes.push_back({i % 2 == 0 ? TenantId() : kOther, {.format = "text", .body = bodies[i], .default_timestamp = 1}});
  }
  const auto outcomes = db->PushAll(writes);
  for (const auto& outcome : outcomes) ASSERT_TRUE(outcome.ok()) << outcome.status().ToString();
  EXPECT_EQ(outcomes.back()->rejected, 1u);
  EXPECT_EQ(Payloads(*db, "t"), std::vector<std::string>({R"({"name":"m","labels":{},"value":0,"timestamp":1})",
                                                          R"({"name":"m","labels":{},"value":2,"timestamp":3})",
                                                          R"({"name":"m","labels":{},"value":4,"timestamp":5})"}));
  EXPECT_EQ(Payloads(*db, "t", kOther).front(), R"({"name":"n","labels":{},"value":1,"timestamp":2})");
  EXPECT_EQ(Payloads(*db, "t", kOther).size(), 3u);
}

TEST(MetricFeed, AWriteIsRefusedAtOnceWhileAReaderHoldsItsTopicAndTakenWhenThereIsRoom) {
  const auto db = Memory();
  const auto reader = CreateHeld(*db, "t", {"m"});
  ASSERT_NE(reader, nullptr);
  const auto push = [&](int i) {
    return db->Push({}, {.format = "text", .body = fmt::format("m {} {}\n", i, i + 1), .default_timestamp = 1})
        .status();
  };
  int taken = 0;
  Status refused;
  while (taken < 1000 && refused.ok()) {
    refused = push(taken);
    if (refused.ok()) ++taken;
  }
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(refused.message().find("topic \"t\""), std::string_view::npos) << refused.ToString();
  EXPECT_GT(taken, 10);
  EXPECT_EQ(db->Stats().at("millstream_feed_failures_total"), 1);
  // What nobody asks for goes on.
  EXPECT_EQ(PushLines(*db, "other 1 1\n").samples, 1u);
  const auto got = reader->Poll(1000, 1 << 20, 0);
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->events.size(), static_cast<size_t>(taken));
  EXPECT_TRUE(push(taken).ok());
  const auto last = reader->Poll(1000, 1 << 20, 0);
  ASSERT_TRUE(last.ok());
  ASSERT_EQ(last->events.size(), 1u);
  EXPECT_EQ(last->events[0].event->view().timestamp, taken + 1);
}

TEST(MetricFeed, ATopicThatTakesNothingFailsOnlyTheWritesThatFeedIt) {
  const auto db = Memory();
  const auto reader = CreateHeld(*db, "t", {"m"});
  ASSERT_NE(reader, nullptr);
  int next = 1;
  const auto feed = [&] { return fmt::format("m 1 {}\n", next++); };
  while (next < 1000 && db->Push({}, {.format = "text", .body = feed(), .default_timestamp = 1}).ok()) {
  }
  ASSERT_LT(next, 1000);
  const std::vector<std::string> bodies{"a 1 1\n", feed(), "b 1 1\nb{i=\"\"} 2 1\n", "c 1 1\n"};
  std::vector<TenantWrite> writes;
  for (const std::string& body : bodies) {
    writes.push_back({{}, {.format = "text", .body = body, .default_timestamp = 1}});
  }
  const auto outcomes = db->PushAll(writes);
  EXPECT_TRUE(outcomes[0].ok()) << outcomes[0].status().ToString();
  EXPECT_EQ(outcomes[1].status().code(), StatusCode::kResourceExhausted);
  ASSERT_TRUE(outcomes[2].ok()) << outcomes[2].status().ToString();
  EXPECT_EQ(outcomes[2]->samples, 1u);
  EXPECT_EQ(outcomes[2]->rejected, 1u);
  EXPECT_TRUE(outcomes[3].ok()) << outcomes[3].status().ToString();
}

TEST(MetricFeed, TenantsAreKeptApart) {
  const auto db = Memory();
  Create(*db, "t", {"m"});
  Create(*db, "t", {"m"}, kOther);
  PushLines(*db, "m 1 1\n");
  PushLines(*db, "m 2 1\nm 3 2\n", kOther);
  EXPECT_EQ(Payloads(*db, "t").size(), 1u);
  EXPECT_EQ(Payloads(*db, "t", kOther).size(), 2u);
}

TEST(MetricFeed, AChangeOfSelectorsHoldsFromThenOn) {
  const auto db = Memory();
  Create(*db, "t", {"a"});
  PushLines(*db, "a 1 1\nb 1 1\n");
  ASSERT_TRUE(db->Events().AlterTopic({}, "t", {.from_metrics = std::vector<std::string>{"b"}}).ok());
  PushLines(*db, "a 1 2\nb 1 2\n");
  ASSERT_TRUE(db->Events().AlterTopic({}, "t", {.from_metrics = std::vector<std::string>{}}).ok());
  PushLines(*db, "a 1 3\nb 1 3\n");
  EXPECT_EQ(Payloads(*db, "t"), std::vector<std::string>({R"({"name":"a","labels":{},"value":1,"timestamp":1})",
                                                          R"({"name":"b","labels":{},"value":1,"timestamp":2})"}));
}

TEST(MetricFeed, WhatIsNoSelectorIsRefusedWithItsPlaceAndChangesNothing) {
  const auto db = Memory();
  Create(*db, "t", {"a"});
  const std::vector<std::pair<std::string, std::string>> wrong{
      {"up{", "from_metrics[1]: 1:4: parse error"},
      {"up{job=\"a}", "from_metrics[1]: 1:"},
      {"up{job=~\"(\"}", "from_metrics[1]"},
      {"rate(up[5m])", "from_metrics[1]"},
      {"up[5m]", "from_metrics[1]"},
      {"up offset 5m", "from_metrics[1]"},
      {"{}", "from_metrics[1]"},
      {"1", "from_metrics[1]"},
      {"", "1 to 4096 bytes"},
      {std::string(4097, 'm'), "1 to 4096 bytes"},
  };
  for (const auto& [selector, said] : wrong) {
    const auto altered = db->Events().AlterTopic({}, "t", {.from_metrics = std::vector<std::string>{"b", selector}});
    EXPECT_EQ(altered.status().code(), StatusCode::kInvalidArgument) << selector;
    EXPECT_NE(altered.status().message().find(said), std::string_view::npos) << altered.status().ToString();
  }
  const std::vector<std::string> many(17, "m");
  EXPECT_EQ(db->Events().AlterTopic({}, "t", {.from_metrics = many}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(db->Events().DescribeTopic({}, "t")->info.options.from_metrics, std::vector<std::string>{"a"});
}

TEST(MetricFeed, WhatRulesMakeOfEventsBecomesNoEventAgain) {
  const auto db = Memory();
  events::TopicOptions options;
  options.metrics = events::MetricRules({{.metric = "events_total", .value = "", .labels = {}, .filter = ""}});
  Create(*db, "loop", {"{__name__=~\".+\"}"}, {}, options);
  PushLines(*db, "m 1 1\n");
  const auto counted = [&] { return db->Stats().at("millstream_transform_samples_total") >= 1; };
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!counted() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  ASSERT_TRUE(counted());
  PushLines(*db, "m 1 2\n");
  EXPECT_EQ(Payloads(*db, "loop").size(), 2u);
}

TEST(MetricFeed, AnEventThatItsTopicNeverTakesKeepsNoSampleOut) {
  const auto db = Memory();
  events::TopicOptions options;
  options.schema = *events::TopicSchema::Compile(R"({"properties": {"value": {"minimum": 0}}})");
  Create(*db, "t", {"m"}, {}, options);
  EXPECT_EQ(PushLines(*db, "m -1 1\nm 1 2\n").samples, 2u);
  EXPECT_EQ(Payloads(*db, "t").size(), 1u);
  EXPECT_EQ(db->Stats().at("millstream_feed_refused_total"), 1);
}

TEST(MetricFeed, EventsAreThereAgainWhenTheDatabaseIsOpenedAgain) {
  DatabaseOptions options;
  options.partitions = 2;
  options.durability = storage::Durability::kFsync;
  const std::string folder = testing::TempDir() + "/metric_feed";
  std::filesystem::remove_all(folder);
  {
    const auto db = Database::Open(folder, options).value();
    Create(*db, "t", {"m"});
    PushLines(*db, fmt::format("m 1 {}\n", db->Now()));
  }
  const auto db = Database::Open(folder, options).value();
  EXPECT_EQ(db->Events().DescribeTopic({}, "t")->info.options.from_metrics, std::vector<std::string>{"m"});
  PushLines(*db, fmt::format("m 2 {}\n", db->Now() + 1));
  EXPECT_EQ(Payloads(*db, "t").size(), 2u);
  ASSERT_TRUE(db->Close().ok());
}

TEST(MetricFeed, OneSeriesStaysInOrderWhileManyAreWritten) {
  const auto db = Memory();
  Create(*db, "t", {"m"}, {}, {.partitions = 3});
  constexpr int kThreads = 4;
  constexpr int kPushes = 200;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 1; i <= kPushes; ++i) PushLines(*db, fmt::format("m{{t=\"{}\"}} {} {}\n", t, i, i));
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::map<std::string, TimestampMs> last;
  size_t count = 0;
  for (uint32_t partition = 0; partition < 3; ++partition) {
    const auto fetched = db->Events().Fetch({}, "t", partition, {.limit = events::kFetchEventsMax});
    ASSERT_TRUE(fetched.ok());
    for (const events::EventPtr& event : fetched->events) {
      TimestampMs& before = last[std::string(event->view().key.value())];
      EXPECT_EQ(event->view().timestamp, before + 1);
      before = event->view().timestamp;
      ++count;
    }
  }
  EXPECT_EQ(count, size_t{kThreads} * kPushes);
  EXPECT_EQ(last.size(), size_t{kThreads});
}

}  // namespace
}  // namespace millstream::engine

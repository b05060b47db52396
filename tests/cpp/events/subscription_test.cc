#include "millstream/events/subscription.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <thread>

#include "events_fixture.h"

namespace millstream::events {
namespace {

std::unique_ptr<Subscription> MustSubscribe(Broker& broker, const SubscribeOptions& options,
                                            std::shared_ptr<Notifier> notifier = nullptr) {
  auto made = broker.Subscribe(kTenant, options, std::move(notifier));
  EXPECT_TRUE(made.ok()) << made.status().ToString();
  return made.ok() ? std::move(*made) : nullptr;
}

// All that is there now.
std::vector<std::string> Drain(Subscription& subscription, uint64_t* dropped = nullptr) {
  std::vector<std::string> out;
  while (true) {
    const auto polled = subscription.Poll(3, 1 << 20, 0);
    EXPECT_TRUE(polled.ok()) << polled.status().ToString();
    if (!polled.ok()) return out;
    if (dropped != nullptr) *dropped += polled->dropped;
    if (polled->events.empty() && polled->dropped == 0) return out;
    for (const SubscribedEvent& event : polled->events) out.emplace_back(event.event->view().payload);
  }
}

TEST(Subscription, CatchesUpAndGoesOnLiveWithoutGapOrRepetition) {
  auto opened = Broker::Open(env::SystemEnv(), "", {.writers = 2});
  Broker& broker = **opened;
  MustCreate(broker, "orders", {.partitions = 3});
  constexpr int kPublishers = 3;
  constexpr uint64_t kEach = 3000;
  std::atomic<int> started{0};
  std::vector<std::thread> publishers;
  for (uint32_t p = 0; p < kPublishers; ++p) {
    publishers.emplace_back([&, p] {
      for (uint64_t i = 0; i < kEach; ++i) {
        EXPECT_TRUE(PublishOne(broker, Text("orders", std::to_string(i), p)).ok());
        if (i == kEach / 3) ++started;
      }
    });
  }
  // In the middle of it: a third is in the past.
  while (started < kPublishers) std::this_thread::yield();
  const auto subscription = MustSubscribe(broker, {.topics = {"orders"}, .from = SubscribeFrom::kEarliest});
  std::map<uint32_t, uint64_t> next;
  uint64_t seen = 0;
  while (seen < kPublishers * kEach) {
    const auto polled = subscription->Poll(50, 1 << 20, 60'000);
    ASSERT_TRUE(polled.ok());
    ASSERT_FALSE(polled->events.empty());
    for (const SubscribedEvent& event : polled->events) {
      ASSERT_EQ(event.event->view().payload, std::to_string(next[event.event->partition()]++));
      ++seen;
    }
  }
  for (std::thread& publisher : publishers) publisher.join();
  EXPECT_TRUE(Drain(*subscription).empty());
  RecordProperty("events", static_cast<int>(seen));
}

TEST(Subscription, BeginsAtEndsOffsetsAndTimes) {
  SimMachine machine(1);
  const auto broker = machine.MustOpen();
  MustCreate(*broker, "orders");
  for (int i = 0; i < 5; ++i) {
    PublishEvent event = Text("orders", i == 0 ? "0" : i == 1 ? "1" : i == 2 ? "2" : i == 3 ? "3" : "4");
    event.has_timestamp = true;
    event.event.timestamp = 100 * i;
    ASSERT_TRUE(PublishOne(*broker, event).ok());
  }
  using Payloads = std::vector<std::string>;
  const auto from = [&](auto start) {
    SubscribeOptions options{.topics = {"orders"}};
    options.from = start;
    return Drain(*MustSubscribe(*broker, options));
  };
  EXPECT_EQ(from(SubscribeFrom::kEarliest), (Payloads{"0", "1", "2", "3", "4"}));
  EXPECT_EQ(from(SubscribeFrom::kLatest), Payloads{});
  EXPECT_EQ(from(TimestampMs{150}), (Payloads{"2", "3", "4"}));
  EXPECT_EQ(from(TimestampMs{1000}), Payloads{});
  EXPECT_EQ(from(TopicOffsets{{"orders", {{0, 3}}}}), (Payloads{"3", "4"}));
  SubscribeOptions beyond{.topics = {"orders"}};
  beyond.from = TopicOffsets{{"orders", {{0, 6}}}};
  EXPECT_EQ(broker->Subscribe(kTenant, beyond, nullptr).status().code(), StatusCode::kOutOfRange);
  EXPECT_EQ(broker->Subscribe(kTenant, {.topics = {"absent"}}, nullptr).status().code(), StatusCode::kNotFound);
}

TEST(Subscription, NewTopicsAndPartitionsThatMatchJoinFromTheirFirstEvent) {
  SimMachine machine(1);
  const auto broker = machine.MustOpen();
  MustCreate(*broker, "orders.eu");
  const auto subscription = MustSubscribe(*broker, {.topics = {"orders.*"}});
  MustCreate(*broker, "orders.us");
  MustCreate(*broker, "other");
  MustCreate(*broker, "orders.us", {}, TenantId(2));
  ASSERT_TRUE(PublishOne(*broker, Text("orders.us", "us")).ok());
  ASSERT_TRUE(PublishOne(*broker, Text("other", "other")).ok());
  ASSERT_TRUE(PublishOne(*broker, Text("orders.us", "foreign"), TenantId(2)).ok());
  EXPECT_EQ(Drain(*subscription), std::vector<std::string>{"us"});
  ASSERT_TRUE(broker->AlterTopic(kTenant, "orders.eu", {.partitions = 2}).ok());
  ASSERT_TRUE(PublishOne(*broker, Text("orders.eu", "eu", 1)).ok());
  EXPECT_EQ(Drain(*subscription), std::vector<std::string>{"eu"});
  ASSERT_TRUE(broker->DeleteTopic(kTenant, "orders.us").ok());
  EXPECT_TRUE(Drain(*subscription).empty());
  EXPECT_EQ(subscription->Position(), (TopicOffsets{{"orders.eu", {{0, 0}, {1, 1}}}}));
}

TEST(Subscription, TheNotifierNamesItUntilNothingIsLeft) {
  SimMachine machine(1);
  const auto broker = machine.MustOpen();
  MustCreate(*broker, "a");
  MustCreate(*broker, "b");
  std::atomic<int> wakes{0};
  const auto notifier = std::make_shared<Notifier>([&] { ++wakes; });
  const auto on_a = MustSubscribe(*broker, {.topics = {"a"}}, notifier);
  const auto on_b = MustSubscribe(*broker, {.topics = {"b"}}, notifier);
  (void)notifier->Take();
  wakes = 0;
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(PublishOne(*broker, Text("a", "x")).ok());
  EXPECT_EQ(wakes, 1);
  EXPECT_EQ(notifier->Take(), std::vector<uint64_t>{on_a->token()});
  ASSERT_EQ(on_a->Poll(3, 1 << 20, 0)->events.size(), 3U);
  EXPECT_EQ(notifier->Take(), std::vector<uint64_t>{on_a->token()});
  ASSERT_EQ(on_a->Poll(3, 1 << 20, 0)->events.size(), 2U);
  EXPECT_TRUE(notifier->Take().empty());
  EXPECT_TRUE(on_b->Poll(3, 1 << 20, 0)->events.empty());
}

TEST(Subscription, WhatHappensWhenItIsSlowIsWhatItAskedFor) {
  SimMachine machine(1);
  const auto broker = machine.MustOpen();
  MustCreate(*broker, "orders");
  const auto make = [&](OnSlow on_slow) {
    return MustSubscribe(*broker, {.topics = {"orders"}, .on_slow = on_slow, .lag_max = 10});
  };
  const auto blocking = make(OnSlow::kBlock);
  const auto dropping = make(OnSlow::kDropOldest);
  const auto disconnecting = make(OnSlow::kDisconnect);
  for (int i = 0; i < 25; ++i) ASSERT_TRUE(PublishOne(*broker, Text("orders", "x")).ok());
  uint64_t dropped = 0;
  EXPECT_EQ(Drain(*blocking, &dropped).size(), 25U);
  EXPECT_EQ(dropped, 0U);
  EXPECT_EQ(Drain(*dropping, &dropped).size(), 10U);
  EXPECT_EQ(dropped, 15U);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(disconnecting->Poll(3, 1 << 20, 0).status().code(), StatusCode::kResourceExhausted);
  }
}

TEST(Subscription, FramesAreTheJsonTextsBehindTheirHeadsForEveryReader) {
  SimMachine machine(1);
  auto broker = machine.MustOpen();
  MustCreate(*broker, "orders");
  // On both sides of the lengths at which a frame's length takes more bytes.
  for (const size_t size : {0U, 1U, 500U, 65'000U, 66'000U}) {
    ASSERT_TRUE(PublishOne(*broker, Text("orders", std::string(size, 'x'))).ok());
  }
  const SubscribeOptions options{.topics = {"orders"}, .from = SubscribeFrom::kEarliest};
  const auto texts = MustSubscribe(*broker, options)->PollJson(10, 1 << 20, 0);
  ASSERT_TRUE(texts.ok());
  ASSERT_EQ(texts->events.size(), 5U);
  for (const std::string head : {R"({"subscription":1,)", R"({"subscription":"another",)"}) {
    const auto polled = MustSubscribe(*broker, options)->PollFrames(head, 10, 1 << 20);
    ASSERT_TRUE(polled.ok());
    EXPECT_EQ(polled->events, 5U);
    std::string_view rest = polled->frames;
    for (const std::string& text : texts->events) {
      ASSERT_EQ(rest.substr(0, 1), "\x81");
      size_t size = static_cast<uint8_t>(rest[1]);
      const size_t length_bytes = size < 126 ? 0 : (size == 126 ? 2 : 8);
      if (length_bytes > 0) size = 0;
      for (size_t i = 0; i < length_bytes; ++i) size = size << 8 | static_cast<uint8_t>(rest[2 + i]);
      rest.remove_prefix(2 + length_bytes);
      EXPECT_EQ(rest.substr(0, size), head + text.substr(1));
      rest.remove_prefix(size);
    }
    EXPECT_TRUE(rest.empty());
  }
}

TEST(Subscription, LooksHowFarBehindItIsWithoutAStepForward) {
  SimMachine machine(1);
  auto broker = machine.MustOpen();
  MustCreate(*broker, "orders");
  const auto subscription =
      MustSubscribe(*broker, {.topics = {"orders"}, .on_slow = OnSlow::kDisconnect, .lag_max = 2});
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(PublishOne(*broker, Text("orders", "x")).ok());
  EXPECT_TRUE(subscription->CheckLag().ok());
  EXPECT_EQ(subscription->Position()["orders"][0], 0U);
  ASSERT_TRUE(PublishOne(*broker, Text("orders", "x")).ok());
  for (int i = 0; i < 2; ++i) EXPECT_EQ(subscription->CheckLag().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(subscription->Poll(3, 1 << 20, 0).status().code(), StatusCode::kResourceExhausted);
}

TEST(Subscription, AGroupGoesOnWhereItCommitted) {
  SimMachine machine(1);
  auto broker = machine.MustOpen();
  MustCreate(*broker, "orders");
  for (const char* payload : {"0", "1", "2"}) ASSERT_TRUE(PublishOne(*broker, Text("orders", payload)).ok());
  const SubscribeOptions options{.topics = {"orders"}, .from = SubscribeFrom::kEarliest, .group = "g"};
  {
    const auto subscription = MustSubscribe(*broker, options);
    ASSERT_EQ(subscription->Poll(2, 1 << 20, 0)->events.size(), 2U);
    ASSERT_TRUE(subscription->Commit().ok());
    ASSERT_EQ(subscription->Poll(2, 1 << 20, 0)->events.size(), 1U);
  }
  broker = nullptr;
  broker = machine.MustOpen();
  EXPECT_EQ(broker->GroupOffsets(kTenant, "g")->front().lag, 1U);
  EXPECT_EQ(Drain(*MustSubscribe(*broker, options)), std::vector<std::string>{"2"});
  EXPECT_EQ(MustSubscribe(*broker, {.topics = {"orders"}})->Commit().code(), StatusCode::kFailedPrecondition);
}

TEST(Subscription, RetentionThatOvertakesItIsTold) {
  SimMachine machine(1);
  const auto broker = machine.MustOpen();
  MustCreate(*broker, "orders", {.retention_ms = 1000});
  const auto subscription = MustSubscribe(*broker, {.topics = {"orders"}});
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(PublishOne(*broker, Text("orders", "old")).ok());
  machine.clock.Advance(std::chrono::milliseconds(2000));
  ASSERT_TRUE(PublishOne(*broker, Text("orders", "new")).ok());
  broker->Maintain(false);
  EXPECT_EQ(broker->DescribeTopic(kTenant, "orders")->partitions[0].start_offset, 4U);
  uint64_t dropped = 0;
  EXPECT_EQ(Drain(*subscription, &dropped), std::vector<std::string>{"new"});
  EXPECT_EQ(dropped, 4U);
}

TEST(Subscription, RetentionByTimeLetsAllThatIsOldInMemoryGoAtOnce) {
  SimMachine machine(1);
  const auto broker = machine.MustOpen();
  MustCreate(*broker, "live", {.durability = TopicDurability::kEphemeral, .retention_ms = 1000});
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(PublishOne(*broker, Text("live", "old")).ok());
  machine.clock.Advance(std::chrono::milliseconds(2000));
  ASSERT_TRUE(PublishOne(*broker, Text("live", "new")).ok());
  broker->Maintain(false);
  EXPECT_EQ(broker->DescribeTopic(kTenant, "live")->partitions[0].start_offset, 10U);
  EXPECT_EQ(ReadAll(*broker, "live").size(), 1U);
}

TEST(Subscription, ClosingItFromAnotherThreadEndsAPollThatWaits) {
  SimMachine machine(1);
  const auto broker = machine.MustOpen();
  MustCreate(*broker, "orders");
  const auto subscription = MustSubscribe(*broker, {.topics = {"orders"}});
  Status ended;
  std::thread polling([&] {
    while (ended.ok()) ended = subscription->Poll(10, 1 << 20, kWaitMsMax).status();
  });
  subscription->Close();
  polling.join();
  EXPECT_EQ(ended.code(), StatusCode::kFailedPrecondition);
  EXPECT_TRUE(PublishOne(*broker, Text("orders", "x")).ok());
}

TEST(Subscription, RetentionByBytesLetsWholeSegmentsGo) {
  SimMachine machine(1);
  const auto broker = machine.MustOpen(storage::Durability::kProcess);
  MustCreate(*broker, "orders", {.retention_bytes = 256 << 10});
  const std::string payload(1000, 'x');
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(PublishOne(*broker, Text("orders", payload)).ok());
  broker->Maintain(false);
  const PartitionState state = broker->DescribeTopic(kTenant, "orders")->partitions[0];
  EXPECT_EQ(state.end_offset, 1000U);
  EXPECT_LE(state.bytes, 256U << 10);
  EXPECT_GE(state.bytes, 200U << 10);
  EXPECT_EQ(ReadAll(*broker, "orders").size(), 1000 - state.start_offset);
}

}  // namespace
}  // namespace millstream::events

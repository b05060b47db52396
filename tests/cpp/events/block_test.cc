// Topics in memory whose subscriptions block: publishers wait within a bound, nothing that a reader holds is lost, and
// a dead reader stops nobody for ever.
#include <gtest/gtest.h>

#include <atomic>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "events_fixture.h"

namespace millstream::events {
namespace {

constexpr int64_t kRingBytes = 20'000;
const std::string kPayload(500, 'p');

std::shared_ptr<Broker> Open(SimMachine& machine, int64_t wait_ms = 0) {
  auto opened = Broker::Open(machine.env(), "/data/events", {.writers = 1, .block_wait_ms = wait_ms});
  EXPECT_TRUE(opened.ok()) << opened.status().ToString();
  MustCreate(**opened, "t", {.durability = TopicDurability::kEphemeral, .retention_bytes = kRingBytes});
  return *opened;
}

std::unique_ptr<Subscription> Subscribe(Broker& broker, OnSlow on_slow) {
  auto made = broker.Subscribe(
      kTenant, {.topics = {"t"}, .from = SubscribeFrom::kEarliest, .on_slow = on_slow, .lag_max = 1'000'000}, nullptr);
  EXPECT_TRUE(made.ok()) << made.status().ToString();
  return std::move(*made);
}

// How many are taken before one is refused.
int FillUp(Broker& broker, int most) {
  for (int i = 0; i < most; ++i) {
    const auto placed = PublishOne(broker, Text("t", kPayload));
    if (placed.ok()) continue;
    EXPECT_EQ(placed.status().code(), StatusCode::kResourceExhausted) << placed.status().ToString();
    return i;
  }
  return most;
}

TEST(Block, WhatAReaderHoldsIsRefusedRoomAndNeverLost) {
  SimMachine machine(1);
  auto broker = Open(machine);
  auto reader = Subscribe(*broker, OnSlow::kBlock);
  uint64_t next = 0;
  uint64_t published = 0;
  for (int round = 0; round < 5; ++round) {
    const int taken = FillUp(*broker, 10'000);
    EXPECT_GT(taken, 3);
    EXPECT_LT(taken, 100);
    published += static_cast<uint64_t>(taken);
    EXPECT_LE(broker->DescribeTopic(kTenant, "t")->partitions[0].bytes, static_cast<uint64_t>(kRingBytes));
    // Some of it only, so that the next round begins in the middle.
    const size_t wanted = round < 4 ? 7 : 1000;
    const auto polled = reader->Poll(wanted, 1 << 20, 0);
    ASSERT_TRUE(polled.ok());
    EXPECT_EQ(polled->dropped, 0U);
    for (const SubscribedEvent& event : polled->events) EXPECT_EQ(event.event->offset(), next++);
  }
  EXPECT_EQ(next, published);
}

TEST(Block, OthersHoldNobodyBack) {
  for (const OnSlow on_slow : {OnSlow::kDropOldest, OnSlow::kDisconnect}) {
    SimMachine machine(1);
    auto broker = Open(machine);
    auto reader = Subscribe(*broker, on_slow);
    EXPECT_EQ(FillUp(*broker, 300), 300);
  }
  // On the disk nothing is full of what somebody has not read.
  SimMachine machine(1);
  auto broker = Open(machine);
  MustCreate(*broker, "d", {.retention_bytes = kRingBytes});
  auto reader = broker->Subscribe(kTenant, {.topics = {"d"}, .from = SubscribeFrom::kEarliest}, nullptr);
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(PublishOne(*broker, Text("d", kPayload)).ok());
}

TEST(Block, AReaderThatEndsOrReadsMakesRoom) {
  SimMachine machine(1);
  auto broker = Open(machine);
  auto first = Subscribe(*broker, OnSlow::kBlock);
  auto second = Subscribe(*broker, OnSlow::kBlock);
  (void)FillUp(*broker, 10'000);
  first->Close();
  EXPECT_EQ(FillUp(*broker, 1), 0);
  second = nullptr;
  EXPECT_EQ(FillUp(*broker, 300), 300);
}

TEST(Block, AReaderThatIsDeadIsCutOffAndTold) {
  SimMachine machine(1);
  auto broker = Open(machine);
  std::atomic<int> woken{0};
  auto notifier = std::make_shared<Notifier>([&] { ++woken; });
  auto dead = broker->Subscribe(kTenant, {.topics = {"t"}, .from = SubscribeFrom::kEarliest}, notifier);
  ASSERT_TRUE(dead.ok());
  auto alive = Subscribe(*broker, OnSlow::kBlock);
  (void)FillUp(*broker, 10'000);
  (void)notifier->Take();
  machine.clock.Advance(std::chrono::milliseconds(kHoldStallMs - 1));
  EXPECT_EQ(FillUp(*broker, 1), 0);
  // This one has read since, so its time begins anew.
  ASSERT_GT(alive->Poll(5, 1 << 20, 0)->events.size(), 0U);
  machine.clock.Advance(std::chrono::milliseconds(1));
  EXPECT_GT(FillUp(*broker, 10'000), 0);
  const auto polled = (*dead)->Poll(10, 1 << 20, 0);
  EXPECT_EQ(polled.status().code(), StatusCode::kResourceExhausted);
  EXPECT_NE(polled.status().ToString().find("while publishers waited"), std::string::npos);
  EXPECT_EQ((*dead)->Poll(10, 1 << 20, 0).status().code(), StatusCode::kResourceExhausted);
  ASSERT_TRUE(alive->Poll(5, 1 << 20, 0).ok());
}

TEST(Block, AReaderThatIsSlowAndHoldsNobodyUpIsLeftAlone) {
  SimMachine machine(1);
  auto broker = Open(machine);
  auto reader = Subscribe(*broker, OnSlow::kBlock);
  ASSERT_TRUE(PublishOne(*broker, Text("t", kPayload)).ok());
  machine.clock.Advance(std::chrono::hours(5));
  ASSERT_TRUE(PublishOne(*broker, Text("t", kPayload)).ok());
  EXPECT_EQ(reader->Poll(10, 1 << 20, 0)->events.size(), 2U);
}

TEST(Block, AnEventThatIsLargerThanTheTopicHasRoomWhenAllIsRead) {
  SimMachine machine(1);
  auto broker = Open(machine);
  auto reader = Subscribe(*broker, OnSlow::kBlock);
  const std::string large(2 * kRingBytes, 'x');
  ASSERT_TRUE(PublishOne(*broker, Text("t", large)).ok());
  EXPECT_EQ(FillUp(*broker, 1), 0);
  EXPECT_EQ(reader->Poll(10, 1 << 20, 0)->events.size(), 1U);
  EXPECT_EQ(FillUp(*broker, 1), 1);
}

// Of `count` events that are published together: which are taken. These are the first ones.
size_t PublishTogether(Broker& broker, size_t count, WhenHeld when_held = WhenHeld::kWait) {
  const std::vector<PublishEvent> events(count, Text("t", kPayload));
  const auto answers = broker.Publish(kTenant, events, when_held);
  EXPECT_EQ(answers.size(), count);
  size_t taken = 0;
  while (taken < answers.size() && answers[taken].ok()) ++taken;
  for (size_t i = taken; i < answers.size(); ++i) {
    EXPECT_EQ(answers[i].status().code(), StatusCode::kResourceExhausted) << i;
  }
  return taken;
}

uint64_t BytesOf(Broker& broker) {
  return broker.DescribeTopic(kTenant, "t")->partitions[0].bytes;
}

TEST(Block, OfWhatIsPublishedTogetherNoMoreIsTakenThanTheTopicHolds) {
  SimMachine machine(1);
  auto broker = Open(machine);
  auto reader = Subscribe(*broker, OnSlow::kBlock);
  uint64_t published = 0;
  uint64_t next = 0;
  for (int round = 0; round < 3; ++round) {
    const size_t taken = PublishTogether(*broker, 100);
    EXPECT_GT(taken, 3U);
    EXPECT_LT(taken, 100U);
    published += taken;
    EXPECT_LE(BytesOf(*broker), static_cast<uint64_t>(kRingBytes));
    const auto polled = reader->Poll(1000, 1 << 20, 0);
    ASSERT_TRUE(polled.ok());
    EXPECT_EQ(polled->dropped, 0U);
    for (const SubscribedEvent& event : polled->events) EXPECT_EQ(event.event->offset(), next++);
    EXPECT_EQ(next, published);
  }
}

TEST(Block, WhatIsPublishedTogetherIsTakenWholeWhereNobodyHoldsTheTopic) {
  SimMachine machine(1);
  auto broker = Open(machine);
  auto reader = Subscribe(*broker, OnSlow::kDropOldest);
  EXPECT_EQ(PublishTogether(*broker, 1000), 1000U);
  EXPECT_LE(BytesOf(*broker), static_cast<uint64_t>(kRingBytes));
}

TEST(Block, WhoWaitsForNoReaderIsTakenWholeOrNotAtAll) {
  SimMachine machine(1);
  auto broker = Open(machine);
  auto reader = Subscribe(*broker, OnSlow::kBlock);
  EXPECT_EQ(PublishTogether(*broker, 100, WhenHeld::kRefuse), 100U);
  EXPECT_EQ(PublishTogether(*broker, 100, WhenHeld::kRefuse), 0U);
}

TEST(Block, ItIsKnownWhetherAPublisherMayHaveToWait) {
  SimMachine machine(1);
  auto broker = Open(machine);
  MustCreate(*broker, "d", {});
  ASSERT_TRUE(PublishOne(*broker, Text("t", kPayload)).ok());
  ASSERT_TRUE(PublishOne(*broker, Text("d", kPayload)).ok());
  const std::vector<PublishEvent> both{Text("d", kPayload), Text("t", kPayload)};
  EXPECT_FALSE(broker->MayWait(kTenant, both));
  {
    auto dropping = Subscribe(*broker, OnSlow::kDropOldest);
    EXPECT_FALSE(broker->MayWait(kTenant, both));
    auto blocking = Subscribe(*broker, OnSlow::kBlock);
    ASSERT_TRUE(blocking->Poll(1, 1 << 20, 0).ok());
    EXPECT_TRUE(broker->MayWait(kTenant, both));
    auto of_the_disk = broker->Subscribe(kTenant, {.topics = {"d"}, .from = SubscribeFrom::kEarliest}, nullptr);
    ASSERT_TRUE(of_the_disk.ok());
    ASSERT_TRUE((*of_the_disk)->Poll(1, 1 << 20, 0).ok());
    EXPECT_FALSE(broker->MayWait(kTenant, std::span(both).first(1)));
    const std::vector<PublishEvent> unknown{Text("nowhere", kPayload)};
    EXPECT_FALSE(broker->MayWait(kTenant, unknown));
  }
  EXPECT_FALSE(broker->MayWait(kTenant, both));
}

TEST(Block, WhatIsPublishedTogetherGoesOnAsTheReaderReads) {
  SimMachine machine(1);
  auto broker = Open(machine, 60'000);
  auto reader = Subscribe(*broker, OnSlow::kBlock);
  constexpr uint64_t kTogether = 500;
  std::thread publisher([&] { EXPECT_EQ(PublishTogether(*broker, kTogether), kTogether); });
  uint64_t next = 0;
  while (next < kTogether) {
    EXPECT_LE(BytesOf(*broker), static_cast<uint64_t>(kRingBytes));
    const auto polled = reader->Poll(3, 1 << 20, 100);
    if (!polled.ok()) ADD_FAILURE() << polled.status().ToString();
    if (!polled.ok() || polled->dropped > 0) break;
    for (const SubscribedEvent& event : polled->events) EXPECT_EQ(event.event->offset(), next++);
    if (polled->events.empty()) machine.clock.Advance(std::chrono::milliseconds(1));
  }
  reader->Close();
  publisher.join();
  EXPECT_EQ(next, kTogether);
}

TEST(Block, PublishersThatWaitGoOnAsSoonAsTheReaderReads) {
  SimMachine machine(1);
  // The simulated clock stands still: whoever waits, waits for the reader and for nothing else.
  auto broker = Open(machine, 60'000);
  auto reader = Subscribe(*broker, OnSlow::kBlock);
  constexpr int kPublishers = 4;
  constexpr uint64_t kEach = 300;
  std::vector<std::thread> publishers;
  for (int p = 0; p < kPublishers; ++p) {
    publishers.emplace_back([&] {
      for (uint64_t i = 0; i < kEach; ++i) {
        const auto placed = PublishOne(*broker, Text("t", kPayload));
        ASSERT_TRUE(placed.ok()) << placed.status().ToString();
      }
    });
  }
  uint64_t next = 0;
  while (next < kPublishers * kEach) {
    const auto polled = reader->Poll(3, 1 << 20, 100);
    ASSERT_TRUE(polled.ok()) << polled.status().ToString();
    ASSERT_EQ(polled->dropped, 0U);
    for (const SubscribedEvent& event : polled->events) ASSERT_EQ(event.event->offset(), next++);
    if (polled->events.empty()) machine.clock.Advance(std::chrono::milliseconds(1));
  }
  for (std::thread& publisher : publishers) publisher.join();
}

}  // namespace
}  // namespace millstream::events

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "events_fixture.h"
#include "key_map.h"
#include "millstream/env/random.h"

namespace millstream::events {
namespace {

using storage::Durability;

constexpr uint64_t kSegmentBytes = 16 << 10;
constexpr int64_t kPauseMs = 20'000;

PublishEvent Keyed(std::string_view key, std::string_view payload) {
  PublishEvent event = Text("t", payload);
  event.event.key = key;
  return event;
}

TopicOptions Compacted() {
  TopicOptions options;
  options.cleanup = TopicCleanup::kCompact;
  return options;
}

struct Seen {
  std::string key;
  std::string payload;
  friend bool operator==(const Seen&, const Seen&) = default;
};
using SeenEvents = std::map<uint64_t, Seen>;

SeenEvents ReadEvents(Broker& broker, uint64_t from = 0) {
  SeenEvents out;
  FetchOptions options{.offset = from, .limit = 100};
  while (true) {
    const auto fetched = broker.Fetch(kTenant, "t", 0, options);
    EXPECT_TRUE(fetched.ok()) << fetched.status().ToString();
    if (!fetched.ok()) return out;
    for (const EventPtr& event : fetched->events) {
      out[event->offset()] = {std::string(event->view().key.value_or("-")), std::string(event->view().payload)};
    }
    if (fetched->next_offset >= fetched->end_offset) return out;
    EXPECT_GT(fetched->next_offset, std::get<uint64_t>(options.offset));
    options.offset = fetched->next_offset;
  }
}

void Compact(SimMachine& machine, Broker& broker) {
  machine.clock.Advance(std::chrono::milliseconds(kPauseMs));
  broker.Maintain(true);
}

std::shared_ptr<Broker> OpenCompacting(SimMachine& machine, uint64_t memory_bytes = kCompactionMemoryBytes) {
  auto opened = Broker::Open(machine.env(), "/data/events",
                             {.durability = Durability::kFsync,
                              .writers = 1,
                              .segment_bytes = kSegmentBytes,
                              .compaction_memory_bytes = memory_bytes});
  EXPECT_TRUE(opened.ok()) << opened.status().ToString();
  return *opened;
}

TEST(KeyMap, RefusesAKeyOnlyWhenThereIsNoRoom) {
  KeyMap keys(1000, 1 << 10, 7);
  uint64_t offset = 0;
  while (keys.Put(fmt::format("k{}", offset), offset)) ++offset;
  EXPECT_GT(offset, 10U);
  EXPECT_EQ(keys.size(), offset);
  // One that is there already is taken.
  EXPECT_TRUE(keys.Put("k0", offset + 5));
  EXPECT_EQ(keys.Find("k0"), offset + 5);
  EXPECT_EQ(keys.Find("k1"), 1U);
  EXPECT_EQ(keys.Find("other"), std::nullopt);
}

TEST(KeyMap, HasRoomForAsManyKeysAsItWasMadeFor) {
  for (const uint64_t wanted : {0U, 1U, 5U, 6U, 7U, 100U, 3000U}) {
    KeyMap keys(wanted, 1 << 20, 7);
    for (uint64_t offset = 0; offset < wanted; ++offset) {
      ASSERT_TRUE(keys.Put(fmt::format("k{}", offset), offset)) << offset << " of " << wanted;
    }
  }
}

TEST(Compaction, OfEachKeyTheNewestEventStaysWhereItIs) {
  for (const bool in_memory : {false, true}) {
    SCOPED_TRACE(in_memory);
    SimMachine machine(1);
    auto broker = OpenCompacting(machine);
    TopicOptions options = Compacted();
    if (in_memory) options.durability = TopicDurability::kEphemeral;
    MustCreate(*broker, "t", options);
    SeenEvents expected;
    std::map<std::string, uint64_t> newest;
    for (int i = 0; i < 3000; ++i) {
      const std::string key = fmt::format("k{}", i % 7 == 0 ? i / 7 : i % 50);
      const auto placed = PublishOne(*broker, Keyed(key, fmt::format("v{}", i)));
      ASSERT_TRUE(placed.ok());
      if (const auto old = newest.find(key); old != newest.end()) expected.erase(old->second);
      newest[key] = placed->offset;
      expected[placed->offset] = {key, fmt::format("v{}", i)};
    }
    EXPECT_EQ(ReadEvents(*broker).size(), 3000U);
    const uint64_t before = broker->DescribeTopic(kTenant, "t")->partitions[0].bytes;
    Compact(machine, *broker);
    EXPECT_EQ(ReadEvents(*broker), expected);
    const PartitionState state = broker->DescribeTopic(kTenant, "t")->partitions[0];
    EXPECT_LT(state.bytes, before / 3);
    EXPECT_EQ(state.end_offset, 3000U);
    // From an offset that is gone, the next one that is there comes.
    const auto gone =
        std::ranges::find_if(expected, [&](const auto& one) { return !expected.contains(one.first - 1); });
    const auto fetched = broker->Fetch(kTenant, "t", 0, {.offset = gone->first - 1, .limit = 1});
    ASSERT_TRUE(fetched.ok());
    EXPECT_EQ(fetched->events.at(0)->offset(), gone->first);
    EXPECT_EQ(fetched->next_offset, gone->first + 1);
    // Offsets go on where they were.
    EXPECT_EQ(PublishOne(*broker, Keyed("k1", "last"))->offset, 3000U);
    if (in_memory) continue;
    broker = nullptr;
    broker = OpenCompacting(machine);
    SeenEvents now = expected;
    now[3000] = {"k1", "last"};
    EXPECT_EQ(ReadEvents(*broker), now);
    EXPECT_GT(broker->Stats().at("millstream_events_published_total") + 1, 0);
  }
}

TEST(Compaction, AnEventWithoutAKeyIsRefusedAndOldOnesStay) {
  SimMachine machine(1);
  auto broker = OpenCompacting(machine);
  MustCreate(*broker, "t");
  ASSERT_TRUE(PublishOne(*broker, Text("t", "no key")).ok());
  ASSERT_TRUE(PublishOne(*broker, Keyed("a", "1")).ok());
  ASSERT_TRUE(broker->AlterTopic(kTenant, "t", {.cleanup = TopicCleanup::kCompact}).ok());
  const auto refused = PublishOne(*broker, Text("t", "no key"));
  EXPECT_EQ(refused.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(refused.status().ToString().find("needs a key"), std::string::npos);
  ASSERT_TRUE(PublishOne(*broker, Keyed("a", "2")).ok());
  ASSERT_TRUE(PublishOne(*broker, Keyed("", "an empty key is one")).ok());
  Compact(machine, *broker);
  EXPECT_EQ(ReadEvents(*broker), (SeenEvents{{0, {"-", "no key"}}, {2, {"a", "2"}}, {3, {"", "an empty key is one"}}}));
}

TEST(Compaction, ATombstoneTakesItsKeyAndGoesLater) {
  for (const bool in_memory : {false, true}) {
    for (const std::string_view payload : {"", "null", " null\n"}) {
      SCOPED_TRACE(fmt::format("{} \"{}\"", in_memory, payload));
      SimMachine machine(1);
      auto broker = OpenCompacting(machine);
      TopicOptions options = Compacted();
      options.delete_retention_ms = 3'600'000;
      options.min_dirty_ratio = 0;
      if (in_memory) options.durability = TopicDurability::kEphemeral;
      MustCreate(*broker, "t", options);
      ASSERT_TRUE(PublishOne(*broker, Keyed("a", "1")).ok());
      ASSERT_TRUE(PublishOne(*broker, Keyed("b", "1")).ok());
      PublishEvent tombstone = Keyed("a", payload);
      tombstone.event.is_json = !payload.empty();
      const auto placed = PublishOne(*broker, tombstone);
      ASSERT_TRUE(placed.ok());
      Compact(machine, *broker);
      EXPECT_EQ(ReadEvents(*broker), (SeenEvents{{1, {"b", "1"}}, {2, {"a", std::string(payload)}}}));
      machine.clock.Advance(std::chrono::hours(1));
      ASSERT_TRUE(PublishOne(*broker, Keyed("c", "1")).ok());
      Compact(machine, *broker);
      EXPECT_EQ(ReadEvents(*broker), (SeenEvents{{1, {"b", "1"}}, {3, {"c", "1"}}}));
      EXPECT_EQ(broker->StatusOf(kTenant, placed->Id()).status().code(), StatusCode::kNotFound);
    }
  }
}

TEST(Compaction, AStringOfNullOrANestedOneIsNoTombstone) {
  for (const std::string_view payload : {"\"null\"", "[null]", "0", "\"\"", "{}"}) {
    SimMachine machine(1);
    auto broker = OpenCompacting(machine);
    TopicOptions options = Compacted();
    options.delete_retention_ms = 0;
    MustCreate(*broker, "t", options);
    PublishEvent event = Keyed("a", payload);
    event.event.is_json = true;
    ASSERT_TRUE(PublishOne(*broker, event).ok());
    Compact(machine, *broker);
    EXPECT_EQ(ReadEvents(*broker).size(), 1U) << payload;
  }
}

TEST(Compaction, AWaitingFetchAndASubscriptionPassOverWhatIsGone) {
  SimMachine machine(1);
  auto broker = OpenCompacting(machine);
  TopicOptions options = Compacted();
  options.delete_retention_ms = 0;
  options.min_dirty_ratio = 0;
  MustCreate(*broker, "t", options);
  auto subscription = broker->Subscribe(kTenant, {.topics = {"t"}, .from = SubscribeFrom::kEarliest}, nullptr);
  ASSERT_TRUE(subscription.ok());
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(PublishOne(*broker, Keyed("a", "x")).ok());
  ASSERT_TRUE(PublishOne(*broker, Keyed("a", "")).ok());
  Compact(machine, *broker);
  // All of it is gone: the end is reached at once.
  const auto fetched = broker->Fetch(kTenant, "t", 0, {.limit = 10});
  ASSERT_TRUE(fetched.ok());
  EXPECT_TRUE(fetched->events.empty());
  EXPECT_EQ(fetched->next_offset, 101U);
  EXPECT_TRUE((*subscription)->Poll(10, 1 << 20, 0)->events.empty());
  ASSERT_TRUE(PublishOne(*broker, Keyed("a", "new")).ok());
  const auto polled = (*subscription)->Poll(10, 1 << 20, 0);
  ASSERT_TRUE(polled.ok());
  ASSERT_EQ(polled->events.size(), 1U);
  EXPECT_EQ(polled->events[0].event->offset(), 101U);
  EXPECT_EQ(polled->dropped, 0U);
}

TEST(Compaction, IdsAndSequencesOfEventsThatAreGoneAreStillKnown) {
  for (const bool reopen : {false, true}) {
    SCOPED_TRACE(reopen);
    SimMachine machine(1);
    auto broker = OpenCompacting(machine);
    TopicOptions options = Compacted();
    options.min_dirty_ratio = 0;
    MustCreate(*broker, "t", options);
    PublishEvent named = Keyed("a", "first");
    named.event.client_id = "order-1";
    const auto first = PublishOne(*broker, named);
    ASSERT_TRUE(first.ok());
    PublishEvent stamped = Keyed("a", "second");
    stamped.event.producer = ProducerStamp{.id = "p", .epoch = 1, .sequence = 0};
    const auto second = PublishOne(*broker, stamped);
    ASSERT_TRUE(second.ok());
    ASSERT_TRUE(PublishOne(*broker, Keyed("a", "third")).ok());
    for (int round = 0; round < 3; ++round) {
      Compact(machine, *broker);
      if (reopen) {
        broker = nullptr;
        broker = OpenCompacting(machine);
      }
      EXPECT_EQ(broker->StatusOf(kTenant, "order-1").status().code(), StatusCode::kNotFound);
      EXPECT_EQ(broker->StatusOf(kTenant, second->Id()).status().code(), StatusCode::kNotFound);
      // The same again is the same place, and nothing is stored.
      const auto again = PublishOne(*broker, named);
      ASSERT_TRUE(again.ok()) << again.status().ToString();
      EXPECT_EQ(again->offset, first->offset);
      EXPECT_EQ(again->Id(), "order-1");
      EXPECT_EQ(again->timestamp, first->timestamp);
      const auto repeated = PublishOne(*broker, stamped);
      ASSERT_TRUE(repeated.ok()) << repeated.status().ToString();
      EXPECT_EQ(repeated->offset, second->offset);
      EXPECT_EQ(repeated->Id(), second->Id());
      PublishEvent gap = stamped;
      gap.event.producer->sequence = 2;
      EXPECT_EQ(PublishOne(*broker, gap).status().code(), StatusCode::kAborted);
      EXPECT_EQ(ReadEvents(*broker), (SeenEvents{{2, {"a", "third"}}}));
    }
    stamped.event.producer->sequence = 1;
    EXPECT_EQ(PublishOne(*broker, stamped)->offset, 3U);
  }
}

TEST(Compaction, WithMoreKeysThanMemorySeveralPassesDoIt) {
  SimMachine machine(1);
  auto broker = OpenCompacting(machine, kCompactionMemoryBytesMin);
  MustCreate(*broker, "t", Compacted());
  constexpr int kKeys = 200;
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < kKeys; ++i) {
      ASSERT_TRUE(PublishOne(*broker, Keyed(fmt::format("k{}", i), fmt::format("v{}", round))).ok());
    }
  }
  Compact(machine, *broker);
  const SeenEvents events = ReadEvents(*broker);
  EXPECT_EQ(events.size(), static_cast<size_t>(kKeys));
  for (const auto& [offset, event] : events) EXPECT_EQ(event.payload, "v3");
  EXPECT_GT(broker->Stats().at("millstream_event_compactions_total"), 10);
  EXPECT_EQ(broker->Stats().at("millstream_event_compacted_events_total"), 3.0 * kKeys);
}

TEST(Compaction, WaitsForEnoughThatIsNewAndOldEnough) {
  SimMachine machine(1);
  auto broker = OpenCompacting(machine);
  TopicOptions options = Compacted();
  options.min_compaction_lag_ms = 600'000;
  MustCreate(*broker, "t", options);
  ASSERT_TRUE(PublishOne(*broker, Keyed("a", "1")).ok());
  ASSERT_TRUE(PublishOne(*broker, Keyed("a", "2")).ok());
  Compact(machine, *broker);
  EXPECT_EQ(ReadEvents(*broker).size(), 2U);
  machine.clock.Advance(std::chrono::minutes(20));
  // Too young to count, and to be the reason that others go.
  ASSERT_TRUE(PublishOne(*broker, Keyed("a", "3")).ok());
  ASSERT_TRUE(broker->AlterTopic(kTenant, "t", {.min_dirty_ratio = 0.1}).ok());
  Compact(machine, *broker);
  EXPECT_EQ(ReadEvents(*broker), (SeenEvents{{1, {"a", "2"}}, {2, {"a", "3"}}}));
  // A small part that is new is not worth it.
  ASSERT_TRUE(broker->AlterTopic(kTenant, "t", {.min_compaction_lag_ms = 0, .min_dirty_ratio = 0.9}).ok());
  for (int i = 0; i < 2000; ++i) ASSERT_TRUE(PublishOne(*broker, Keyed(fmt::format("k{}", i), "a value")).ok());
  Compact(machine, *broker);
  const size_t all = ReadEvents(*broker).size();
  EXPECT_EQ(all, 2001U);
  ASSERT_TRUE(PublishOne(*broker, Keyed("k5", "again")).ok());
  Compact(machine, *broker);
  EXPECT_EQ(ReadEvents(*broker).size(), all + 1);
}

TEST(Compaction, WithDeleteRetentionHoldsToo) {
  SimMachine machine(1);
  auto broker = OpenCompacting(machine);
  TopicOptions options = Compacted();
  options.retention_ms = 3'600'000;
  MustCreate(*broker, "t", options);
  ASSERT_TRUE(PublishOne(*broker, Keyed("a", "1")).ok());
  machine.clock.Advance(std::chrono::hours(2));
  broker->Maintain(true);
  // Compaction alone keeps the newest of a key for ever.
  EXPECT_EQ(ReadEvents(*broker).size(), 1U);
  ASSERT_TRUE(broker->AlterTopic(kTenant, "t", {.cleanup = TopicCleanup::kCompactDelete}).ok());
  broker->Maintain(true);
  EXPECT_EQ(broker->DescribeTopic(kTenant, "t")->partitions[0].start_offset, 1U);
}

TEST(Compaction, ItsOptionsAndItsPointAreThereAfterReopening) {
  SimMachine machine(1);
  auto broker = OpenCompacting(machine);
  TopicOptions options = Compacted();
  options.cleanup = TopicCleanup::kCompactDelete;
  options.delete_retention_ms = 5;
  options.min_compaction_lag_ms = 6;
  options.min_dirty_ratio = 0.25;
  MustCreate(*broker, "t", options);
  for (int i = 0; i < 500; ++i) ASSERT_TRUE(PublishOne(*broker, Keyed(fmt::format("k{}", i), "v")).ok());
  Compact(machine, *broker);
  EXPECT_EQ(broker->Stats().at("millstream_event_compactions_total"), 1);
  broker = nullptr;
  broker = OpenCompacting(machine);
  EXPECT_EQ(broker->DescribeTopic(kTenant, "t")->info.options, options);
  // Nothing is new, so nothing is done again.
  Compact(machine, *broker);
  EXPECT_EQ(broker->Stats().at("millstream_event_compactions_total"), 0);
  options.min_dirty_ratio = 1.5;
  EXPECT_EQ(broker->CreateTopic(kTenant, "u", options).status().code(), StatusCode::kInvalidArgument);
}

TEST(Compaction, PublishersReadersAndDeletionGoOnMeanwhile) {
  SimMachine machine(1);
  machine.many_threads = true;
  auto broker = OpenCompacting(machine);
  TopicOptions options = Compacted();
  options.min_dirty_ratio = 0;
  MustCreate(*broker, "t", options);
  std::atomic<bool> stop{false};
  std::thread compacting([&] {
    while (!stop.load()) Compact(machine, *broker);
  });
  std::atomic<uint64_t> read{0};
  std::thread reading([&] {
    auto subscription = broker->Subscribe(kTenant, {.topics = {"t"}, .from = SubscribeFrom::kEarliest}, nullptr);
    ASSERT_TRUE(subscription.ok());
    uint64_t next = 0;
    std::map<std::string, int> last;
    while (next < 4000) {
      const auto polled = (*subscription)->Poll(50, 1 << 20, 10);
      ASSERT_TRUE(polled.ok()) << polled.status().ToString();
      ASSERT_EQ(polled->dropped, 0U);
      for (const SubscribedEvent& event : polled->events) {
        ASSERT_GE(event.event->offset(), next);
        next = event.event->offset() + 1;
        last[std::string(*event.event->view().key)] = std::stoi(std::string(event.event->view().payload));
        ++read;
      }
    }
    // Whatever was passed over, of each key the last value has come.
    ASSERT_EQ(last.size(), 20U);
    for (const auto& [key, value] : last) ASSERT_GE(value, 3980) << key;
  });
  for (int i = 0; i < 4000; ++i) {
    ASSERT_TRUE(PublishOne(*broker, Keyed(fmt::format("k{}", i % 20), fmt::format("{}", i))).ok());
  }
  reading.join();
  while (broker->Stats().at("millstream_event_compactions_total") < 3) std::this_thread::yield();
  ASSERT_TRUE(broker->DeleteTopic(kTenant, "t").ok());
  stop = true;
  compacting.join();
  EXPECT_GE(read.load(), 20U);
  EXPECT_FALSE(*machine.files.Exists("/data/events/1"));
}

// Steps at random against a model of what must be there: of each key its newest event, of the others any.
TEST(Compaction, KeepsTheNewestOfEachKeyWhateverHappensInBetween) {
  uint64_t removed = 0;
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE(seed);
    SimMachine machine(seed);
    env::SeededRandom random(seed);
    auto broker = OpenCompacting(machine, kCompactionMemoryBytesMin << random.Below(3));
    TopicOptions options = Compacted();
    options.min_dirty_ratio = static_cast<double>(random.Below(6)) / 10;
    options.delete_retention_ms = static_cast<int64_t>(random.Below(5)) * 30'000;
    MustCreate(*broker, "t", options);
    SeenEvents all;
    std::map<std::string, uint64_t> newest;
    for (int step = 0; step < 300; ++step) {
      switch (random.Below(12)) {
        case 0:
          broker = nullptr;
          broker = OpenCompacting(machine, kCompactionMemoryBytesMin << random.Below(3));
          break;
        case 1:
        case 2:
          Compact(machine, *broker);
          break;
        default:
          for (uint64_t i = 1 + random.Below(20); i > 0; --i) {
            const std::string key = fmt::format("k{}", random.Below(40));
            const std::string payload = random.Below(6) == 0 ? "" : std::string(1 + random.Below(600), 'x');
            const auto placed = PublishOne(*broker, Keyed(key, payload));
            ASSERT_TRUE(placed.ok());
            newest[key] = placed->offset;
            all[placed->offset] = {key, payload};
          }
      }
      if (step % 20 != 19) continue;
      const SeenEvents found = ReadEvents(*broker);
      for (const auto& [offset, event] : found) ASSERT_EQ(event, all.at(offset)) << offset;
      for (const auto& [key, offset] : newest) {
        ASSERT_TRUE(found.contains(offset) || all.at(offset).payload.empty()) << key << " at " << offset;
      }
      // A value that was deleted never comes back: what is below a tombstone that is gone is gone, too.
      for (const auto& [offset, event] : found) {
        const uint64_t last = newest.at(event.key);
        if (all.at(last).payload.empty() && !found.contains(last)) FAIL() << event.key << " came back at " << offset;
      }
      removed += all.size() - found.size();
    }
  }
  EXPECT_GT(removed, 1000U);
}

}  // namespace
}  // namespace millstream::events

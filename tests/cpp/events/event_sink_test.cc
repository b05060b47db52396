// What a sink gets is what a poll gives, wherever the events are and whatever comes in between.
#include "millstream/events/event_sink.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "events_fixture.h"
#include "millstream/env/random.h"

namespace millstream::events {
namespace {

constexpr uint64_t kSmallSegments = 16 << 10;

// All that can be told of an event that was read.
struct Told {
  std::string topic;
  std::string id;
  uint32_t partition = 0;
  uint64_t offset = 0;
  TimestampMs taken_ms = 0;
  TimestampMs timestamp = 0;
  bool is_json = false;
  std::string key;  // "-" without one
  std::vector<std::pair<std::string, std::string>> headers;
  std::string payload;
  uint64_t bytes = 0;
  friend bool operator==(const Told&, const Told&) = default;
};

Told Tell(const std::string& topic, const PlacedEvent& event) {
  EventIdText room;
  Told told{.topic = topic,
            .id = std::string(event.Id(&room)),
            .partition = event.partition,
            .offset = event.offset,
            .taken_ms = event.view.taken_ms,
            .timestamp = event.view.timestamp,
            .is_json = event.view.is_json,
            .key = std::string(event.view.key.value_or("-")),
            .headers = {},
            .payload = std::string(event.view.payload),
            .bytes = event.bytes()};
  for (const auto& [name, value] : event.view.headers) told.headers.emplace_back(name, value);
  return told;
}

// Takes `room` events of each read.
class Taker final : public EventSink {
 public:
  explicit Taker(size_t room = SIZE_MAX) : room_(room) {}
  bool Take(const std::shared_ptr<const std::string>& topic, const PlacedEvent& event) override {
    if (left_ == 0) return false;
    --left_;
    told.push_back(Tell(*topic, event));
    return true;
  }
  void NextRead() { left_ = room_; }
  std::vector<Told> told;

 private:
  const size_t room_;
  size_t left_ = room_;
};

std::unique_ptr<Subscription> From(Broker& broker, const SubscribeOptions& options) {
  auto made = broker.Subscribe(kTenant, options, nullptr);
  EXPECT_TRUE(made.ok()) << made.status().ToString();
  return made.ok() ? std::move(*made) : nullptr;
}

std::vector<Told> ByPolls(Broker& broker, const SubscribeOptions& options, size_t limit, uint64_t bytes_max) {
  std::vector<Told> out;
  const auto subscription = From(broker, options);
  while (true) {
    const auto polled = subscription->Poll(limit, bytes_max, 0);
    EXPECT_TRUE(polled.ok()) << polled.status().ToString();
    if (!polled.ok() || polled->events.empty()) return out;
    for (const SubscribedEvent& event : polled->events) {
      out.push_back(Tell(*event.topic, PlacedEvent::Of(*event.event)));
      EXPECT_EQ(out.back().id, event.event->Id());
      EXPECT_EQ(out.back().bytes, event.event->bytes());
    }
  }
}

std::vector<Told> IntoSink(Broker& broker, const SubscribeOptions& options, size_t limit, uint64_t bytes_max,
                           size_t room = SIZE_MAX) {
  Taker taker(room);
  const auto subscription = From(broker, options);
  while (true) {
    taker.NextRead();
    const size_t before = taker.told.size();
    const auto polled = subscription->PollInto(limit, bytes_max, 0, taker);
    EXPECT_TRUE(polled.ok()) << polled.status().ToString();
    if (!polled.ok()) return taker.told;
    EXPECT_EQ(polled->events, taker.told.size() - before);
    EXPECT_LE(polled->events, std::min(limit, room));
    if (polled->events == 0) return taker.told;
  }
}

// Of each partition, since a limit decides when the next one's turn is.
std::map<std::pair<std::string, uint32_t>, std::vector<Told>> ByPartition(const std::vector<Told>& all) {
  std::map<std::pair<std::string, uint32_t>, std::vector<Told>> out;
  for (const Told& one : all) out[{one.topic, one.partition}].push_back(one);
  return out;
}

// Events with and without each of their parts, more than memory keeps of a partition of a log.
void PublishMany(Broker& broker, const std::string& topic, size_t count, uint64_t seed) {
  env::SeededRandom random(seed);
  std::vector<std::string> payloads(count);
  std::vector<std::string> texts(count);
  std::vector<PublishEvent> events;
  for (size_t i = 0; i < count; ++i) {
    payloads[i] = fmt::format(R"({{"n":{},"x":"{}"}})", i, std::string(random.Below(1500), 'x'));
    texts[i] = fmt::format("t{}", i);
    PublishEvent event = Text(topic, payloads[i], static_cast<uint32_t>(random.Below(2)));
    event.event.is_json = random.Below(2) == 0;
    if (random.Below(2) == 0) event.event.key = random.Below(4) == 0 ? std::string_view() : texts[i];
    if (random.Below(4) == 0) event.event.client_id = texts[i];
    for (uint64_t header = random.Below(4); header > 0; --header) event.event.headers.emplace_back(texts[i], "value");
    event.has_timestamp = random.Below(2) == 0;
    event.event.timestamp = static_cast<TimestampMs>(i);
    events.push_back(event);
  }
  for (size_t first = 0; first < count; first += 50) {
    const auto piece = std::span(events).subspan(first, std::min<size_t>(50, count - first));
    for (const auto& answer : broker.Publish(kTenant, piece)) ASSERT_TRUE(answer.ok()) << answer.status().ToString();
  }
}

TEST(EventSink, GetsWhatPollsGiveInAnyPiecesFromTheLogAndFromMemory) {
  for (const TopicDurability durability : {TopicDurability::kLocal, TopicDurability::kEphemeral}) {
    SimMachine machine(3);
    auto broker = machine.MustOpen(storage::Durability::kProcess, kOpenLogsMax, kSmallSegments);
    for (const char* const topic : {"a", "b"}) MustCreate(*broker, topic, {.partitions = 2, .durability = durability});
    PublishMany(*broker, "a", 3000, 1);
    PublishMany(*broker, "b", 300, 2);
    for (const std::string& filter : {std::string(), std::string("payload.n < 5 || payload.n > 2900 || key == \"\"")}) {
      const SubscribeOptions options{.topics = {"*"}, .from = SubscribeFrom::kEarliest, .filter = filter};
      const auto expected = ByPartition(ByPolls(*broker, options, 1000, 8 << 20));
      ASSERT_EQ(expected.size(), 4U);
      for (const size_t limit : {1000U, 7U}) {
        for (const uint64_t bytes_max : {8U << 20, 3000U}) {
          for (const size_t room : {size_t{1}, size_t{5}, SIZE_MAX}) {
            EXPECT_EQ(ByPartition(IntoSink(*broker, options, limit, bytes_max, room)), expected)
                << filter << " " << limit << " " << bytes_max << " " << room;
          }
        }
      }
    }
  }
}

TEST(EventSink, PassesOverWhatCompactionHasTaken) {
  SimMachine machine(4);
  auto broker = machine.MustOpen(storage::Durability::kFsync, kOpenLogsMax, kSmallSegments);
  TopicOptions options;
  options.cleanup = TopicCleanup::kCompact;
  options.min_dirty_ratio = 0;
  MustCreate(*broker, "t", options);
  const std::string payload(400, 'x');
  for (int i = 0; i < 2000; ++i) {
    const std::string key = fmt::format("k{}", i % 100 == 0 ? i : i % 10);
    const std::string id = fmt::format("id{}", i);
    PublishEvent event = Text("t", payload);
    event.event.key = key;
    // What the engine would know again leaves a mark.
    if (i % 2 == 0) event.event.client_id = id;
    ASSERT_TRUE(PublishOne(*broker, event).ok());
  }
  machine.clock.Advance(std::chrono::milliseconds(20'000));
  broker->Maintain(true);
  const SubscribeOptions all{.topics = {"t"}, .from = SubscribeFrom::kEarliest};
  const auto expected = ByPolls(*broker, all, 1000, 8 << 20);
  ASSERT_LT(expected.size(), 100U);
  ASSERT_GT(expected.size(), 20U);
  for (const size_t room : {size_t{1}, size_t{3}, SIZE_MAX})
    EXPECT_EQ(IntoSink(*broker, all, 1000, 8 << 20, room), expected);
}

TEST(EventSink, GetsWhatIsBeforeABrokenRecordThenTheErrorAndNothingOfTheBrokenBatch) {
  SimMachine machine(5);
  auto broker = machine.MustOpen(storage::Durability::kProcess, kOpenLogsMax, kSmallSegments);
  MustCreate(*broker, "t");
  constexpr size_t kEvents = 4000;
  const std::string filling(500, 'x');
  std::vector<std::string> payloads;
  for (size_t i = 0; i < kEvents; ++i) payloads.push_back(fmt::format("<{}>{}", i, filling));
  for (size_t i = 0; i < kEvents; i += 4) {
    std::vector<PublishEvent> batch;
    for (size_t j = i; j < i + 4; ++j) batch.push_back(Text("t", payloads[j]));
    for (const auto& answer : broker->Publish(kTenant, batch)) ASSERT_TRUE(answer.ok());
  }
  constexpr size_t kBroken = 1002;  // the third of its batch
  size_t flipped = 0;
  const auto files = machine.files.List("/data/events/1/0");
  ASSERT_TRUE(files.ok());
  for (const auto& file : *files) {
    if (file.is_folder) continue;
    const std::string path = "/data/events/1/0/" + file.name;
    std::string bytes = *machine.files.Contents(path);
    const size_t at = bytes.find(fmt::format("<{}>", kBroken));
    if (at == std::string::npos) continue;
    bytes[at + 1] = static_cast<char>(bytes[at + 1] ^ 1);
    ASSERT_TRUE(machine.files.Overwrite(path, bytes).ok());
    ++flipped;
  }
  ASSERT_EQ(flipped, 1U);
  const auto subscription = From(*broker, {.topics = {"t"}, .from = SubscribeFrom::kEarliest});
  Taker taker;
  auto polled = subscription->PollInto(900, 8 << 20, 0, taker);
  ASSERT_TRUE(polled.ok());
  EXPECT_EQ(polled->events, 900U);
  polled = subscription->PollInto(900, 8 << 20, 0, taker);
  ASSERT_TRUE(polled.ok()) << polled.status().ToString();
  EXPECT_EQ(polled->events, 100U);
  for (int again = 0; again < 2; ++again) {
    const auto broken = subscription->PollInto(900, 8 << 20, 0, taker);
    EXPECT_EQ(broken.status().code(), StatusCode::kDataLoss) << broken.status().ToString();
  }
  ASSERT_EQ(taker.told.size(), 1000U);
  for (size_t i = 0; i < taker.told.size(); ++i) EXPECT_EQ(taker.told[i].payload, payloads[i]);
}

TEST(EventSink, IsToldHowManyRetentionTook) {
  SimMachine machine(6);
  const auto broker = machine.MustOpen();
  MustCreate(*broker, "t", {.retention_ms = 1000});
  const auto subscription = From(*broker, {.topics = {"t"}});
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(PublishOne(*broker, Text("t", "old")).ok());
  machine.clock.Advance(std::chrono::milliseconds(2000));
  ASSERT_TRUE(PublishOne(*broker, Text("t", "new")).ok());
  broker->Maintain(false);
  Taker taker;
  const auto polled = subscription->PollInto(100, 1 << 20, 0, taker);
  ASSERT_TRUE(polled.ok());
  EXPECT_EQ(polled->dropped, 4U);
  ASSERT_EQ(taker.told.size(), 1U);
  EXPECT_EQ(taker.told[0].payload, "new");
}

TEST(EventSink, ATopicThatIsDeletedEndsItsPartOfARead) {
  SimMachine machine(7);
  const auto broker = machine.MustOpen();
  for (const char* const topic : {"a", "b"}) {
    MustCreate(*broker, topic);
    ASSERT_TRUE(PublishOne(*broker, Text(topic, topic)).ok());
  }
  const auto subscription = From(*broker, {.topics = {"a", "b"}, .from = SubscribeFrom::kEarliest});
  ASSERT_TRUE(broker->DeleteTopic(kTenant, "a").ok());
  Taker taker;
  ASSERT_TRUE(subscription->PollInto(100, 1 << 20, 0, taker).ok());
  ASSERT_EQ(taker.told.size(), 1U);
  EXPECT_EQ(taker.told[0].topic, "b");
}

TEST(EventSink, AMemberOfAGroupHasNone) {
  SimMachine machine(8);
  const auto broker = machine.MustOpen();
  MustCreate(*broker, "t");
  const auto member = From(*broker, {.topics = {"t"}, .group = "g"});
  Taker taker;
  EXPECT_EQ(member->PollInto(100, 1 << 20, 0, taker).status().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(From(*broker, {.topics = {"t"}})->PollInto(0, 1 << 20, 0, taker).status().code(),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace millstream::events

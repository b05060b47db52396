// The client in C++ for events, before a node in this process.
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "millstream/native/event_client.h"
#include "millstream/v1/events.grpc.pb.h"
#include "running_node.h"

namespace millstream::node {
namespace {

using native::Event;
using native::EventClient;
using native::From;
using native::Offsets;
using native::OnSlow;
using native::ReceivedEvent;

constexpr int kPatienceMs = 30'000;

void CreateTopic(RunningNode& node, const v1::CreateTopicRequest& request) {
  v1::Topic topic;
  grpc::ClientContext context;
  RunningNode::SetDeadline(&context);
  const grpc::Status status = v1::EventService::NewStub(node.channel())->CreateTopic(&context, request, &topic);
  ASSERT_TRUE(status.ok()) << status.error_message();
}

void CreateTopic(RunningNode& node, const std::string& name, int partitions = 1) {
  v1::CreateTopicRequest request;
  request.set_name(name);
  request.set_partitions(static_cast<uint32_t>(partitions));
  CreateTopic(node, request);
}

std::unique_ptr<EventClient> ConnectEventsTo(uint16_t port, std::optional<native::Producer> producer = {}) {
  native::ClientOptions options;
  options.port = port;
  auto connected = EventClient::Connect(options, std::move(producer));
  EXPECT_TRUE(connected.ok()) << connected.status().ToString();
  return std::move(connected).value();
}

std::vector<Event> Numbered(const std::string& topic, int first, int end) {
  std::vector<Event> events;
  for (int number = first; number < end; ++number) {
    events.push_back({.topic = topic, .payload = std::to_string(number), .is_json = true});
  }
  return events;
}

std::vector<std::string> Payloads(const std::vector<ReceivedEvent>& events) {
  std::vector<std::string> payloads;
  for (const ReceivedEvent& event : events) payloads.push_back(event.payload);
  return payloads;
}

std::vector<std::string> Numbers(int first, int end) {
  std::vector<std::string> numbers;
  for (int number = first; number < end; ++number) numbers.push_back(std::to_string(number));
  return numbers;
}

// So many, or fewer where no more come.
std::vector<std::string> Take(EventClient& client, uint64_t subscription, size_t count) {
  std::vector<std::string> taken;
  while (taken.size() < count) {
    const auto events = client.Poll(subscription, count - taken.size(), kPatienceMs);
    EXPECT_TRUE(events.ok()) << events.status().ToString();
    if (!events.ok() || events->empty()) break;
    for (const ReceivedEvent& event : *events) taken.push_back(event.payload);
  }
  return taken;
}

TEST(NodeNativeEventClient, WhatIsPublishedIsFetchedWithAllThatBelongsToIt) {
  RunningNode node(WithNative());
  CreateTopic(node, "whole", 2);
  const auto client = ConnectEventsTo(node.server().native_port());
  const std::vector<Event> events{{.topic = "whole",
                                   .payload = std::string("\0\xff", 2),
                                   .key = "k",
                                   .headers = {{"a", "b"}, {"c", "\xff"}},
                                   .timestamp = 12,
                                   .id = "mine",
                                   .partition = 1},
                                  {.topic = "whole", .payload = "{}", .is_json = true, .partition = 0}};
  ASSERT_TRUE(client->Publish(events).ok());
  const auto totals = client->Flush();
  ASSERT_TRUE(totals.ok()) << totals.status().ToString();
  EXPECT_EQ(totals->stored, 2u);
  const auto fetched = client->Fetch({.topic = "whole", .partition = 1});
  ASSERT_TRUE(fetched.ok()) << fetched.status().ToString();
  ASSERT_EQ(fetched->events.size(), 1u);
  const ReceivedEvent& first = fetched->events[0];
  EXPECT_EQ(first.id, "mine");
  EXPECT_EQ(first.payload, events[0].payload);
  EXPECT_EQ(first.key, "k");
  EXPECT_EQ(first.headers, events[0].headers);
  EXPECT_EQ(first.timestamp, 12);
  EXPECT_EQ(first.partition, 1u);
  EXPECT_FALSE(first.is_json);
  EXPECT_EQ(fetched->next_offset, 1u);
  EXPECT_EQ(fetched->end_offset, 1u);
  const auto other = client->Fetch({.topic = "whole", .from = From::kOffset, .offset = 0});
  ASSERT_TRUE(other.ok());
  EXPECT_TRUE(other->events.at(0).is_json);
  EXPECT_FALSE(other->events.at(0).key.has_value());
  EXPECT_TRUE(
      client->Fetch({.topic = "whole", .partition = 1, .from = From::kTimestamp, .timestamp = 13})->events.empty());
  EXPECT_EQ(client->Fetch({.topic = "nowhere"}).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(client->Fetch({.topic = "whole", .from = From::kOffset, .offset = 99}).status().code(),
            StatusCode::kOutOfRange);
  EXPECT_EQ(client->connections(), 1);
}

TEST(NodeNativeEventClient, AnEventThatIsRefusedIsNamedAndTheOthersStay) {
  RunningNode node(WithNative());
  CreateTopic(node, "strict");
  const auto client = ConnectEventsTo(node.server().native_port());
  ASSERT_TRUE(client
                  ->Publish(std::vector<Event>{{.topic = "strict", .payload = "first"},
                                               {.topic = "nowhere", .payload = "lost", .id = "lost-1"},
                                               {.topic = "strict", .payload = "second"}})
                  .ok());
  const auto totals = client->Flush();
  ASSERT_TRUE(totals.ok()) << totals.status().ToString();
  EXPECT_EQ(totals->stored, 2u);
  EXPECT_EQ(totals->refused, 1u);
  ASSERT_EQ(totals->refusals.size(), 1u);
  EXPECT_EQ(totals->refusals[0].topic, "nowhere");
  EXPECT_EQ(totals->refusals[0].id, "lost-1");
  EXPECT_EQ(totals->refusals[0].why.code(), StatusCode::kNotFound);
  EXPECT_EQ(Payloads(client->Fetch({.topic = "strict"})->events), (std::vector<std::string>{"first", "second"}));
}

TEST(NodeNativeEventClient, NoMoreRefusalsAreKeptThanItSays) {
  RunningNode node(WithNative());
  const auto client = ConnectEventsTo(node.server().native_port());
  ASSERT_TRUE(client->Publish(Numbered("nowhere", 0, 250)).ok());
  const auto totals = client->Flush();
  ASSERT_TRUE(totals.ok()) << totals.status().ToString();
  EXPECT_EQ(totals->refused, 250u);
  EXPECT_EQ(totals->refusals.size(), native::kEventRefusalsMax);
}

TEST(NodeNativeEventClient, WhatIsTooMuchForOneFrameGoesInSeveral) {
  RunningNode node(WithNative());
  CreateTopic(node, "long");
  const auto client = ConnectEventsTo(node.server().native_port());
  ASSERT_TRUE(client->Publish(std::vector<Event>(12, {.topic = "long", .payload = std::string(900'000, 'x')})).ok());
  std::vector<Event> scattered;
  for (int i = 0; i < 1500; ++i) scattered.push_back({.topic = "nowhere-" + std::to_string(i), .payload = "x"});
  ASSERT_TRUE(client->Publish(scattered).ok());
  const auto totals = client->Flush();
  ASSERT_TRUE(totals.ok()) << totals.status().ToString();
  EXPECT_EQ(totals->stored, 12u);
  EXPECT_EQ(totals->refused, 1500u);
  EXPECT_EQ(client->Publish(std::vector<Event>{{.topic = "long", .payload = std::string(5 << 20, 'x')}}).code(),
            StatusCode::kResourceExhausted);
  EXPECT_EQ(client->Publish(std::vector<Event>{{.topic = std::string(2000, 't'), .payload = "x"}}).code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(client->connections(), 1);
}

TEST(NodeNativeEventClient, AProducerThatStartsAnewStoresNothingTwice) {
  RunningNode node(WithNative());
  CreateTopic(node, "numbered");
  for (int start = 0; start < 2; ++start) {
    const auto client = ConnectEventsTo(node.server().native_port(), native::Producer{"till-7", 1});
    for (int begin = 0; begin < 100; begin += 10) {
      std::vector<Event> events = Numbered("numbered", begin, begin + 10);
      for (int i = 0; i < 10; ++i) events[static_cast<size_t>(i)].sequence = static_cast<uint64_t>(begin + i);
      ASSERT_TRUE(client->Publish(events).ok());
    }
    ASSERT_TRUE(client->Publish(std::vector<Event>{{.topic = "numbered", .payload = "gap", .sequence = 500}}).ok());
    const auto totals = client->Flush();
    ASSERT_TRUE(totals.ok()) << totals.status().ToString();
    EXPECT_EQ(totals->stored, 100u);
    ASSERT_EQ(totals->refusals.size(), 1u);
    EXPECT_EQ(totals->refusals[0].why.code(), StatusCode::kAborted);
    EXPECT_EQ(Payloads(client->Fetch({.topic = "numbered"})->events), Numbers(0, 100));
    EXPECT_EQ(client->Publish(Numbered("numbered", 0, 1)).code(), StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(EventClient::Connect({}, native::Producer{}).status().code(), StatusCode::kInvalidArgument);
}

class NodeNativeEventClientRefused : public testing::TestWithParam<bool> {};

TEST_P(NodeNativeEventClientRefused, WhatIsRefusedForNowGoesAgainInItsOrderAndNothingTwice) {
  constexpr int kBatches = 5;
  constexpr int kBatch = 10;
  constexpr int kAll = kBatches * kBatch;
  RunningNode node(WithNative());
  // Two batches at most have room while a reader holds what it has not read.
  v1::CreateTopicRequest small;
  small.set_name("held");
  small.set_durability(v1::TOPIC_DURABILITY_EPHEMERAL);
  small.set_retention_bytes(25'000);
  CreateTopic(node, small);
  const auto reader = ConnectEventsTo(node.server().native_port());
  const auto tail = reader->Follow({.topics = {"held"}, .on_slow = OnSlow::kBlock, .credit = 1});
  ASSERT_TRUE(tail.ok()) << tail.status().ToString();

  const bool numbered = GetParam();
  const auto publisher = ConnectEventsTo(node.server().native_port(),
                                         numbered ? std::optional(native::Producer{"till-7", 1}) : std::nullopt);
  for (int first = 0; first < kAll; first += kBatch) {
    std::vector<Event> batch = Numbered("held", first, first + kBatch);
    for (Event& event : batch) {
      event.headers = {{"padding", std::string(1000, 'x')}};
      if (numbered) event.sequence = std::stoull(event.payload);
    }
    ASSERT_TRUE(publisher->Publish(batch).ok());
    // The server may take several batches as one, and a topic that holds nothing takes one of any size.
    if (first == 0) {
      ASSERT_TRUE(publisher->Flush().ok());
    }
  }
  // Answered behind all that was published: not all of that has room.
  const auto fetched = publisher->Fetch({.topic = "held"});
  ASSERT_TRUE(fetched.ok()) << fetched.status().ToString();
  EXPECT_GE(fetched->end_offset, static_cast<uint64_t>(kBatch));
  EXPECT_LE(fetched->end_offset, static_cast<uint64_t>(2 * kBatch));

  std::thread flushing([&publisher] {
    const auto totals = publisher->Flush();
    ASSERT_TRUE(totals.ok()) << totals.status().ToString();
    EXPECT_EQ(totals->stored, static_cast<uint64_t>(kAll));
    EXPECT_EQ(totals->refused, 0u);
  });
  EXPECT_EQ(Take(*reader, *tail, kAll), Numbers(0, kAll));
  flushing.join();
  EXPECT_EQ(publisher->connections(), 1);
  // Nothing came twice, or it would stand behind.
  EXPECT_EQ(publisher->Fetch({.topic = "held", .from = From::kLatest})->end_offset, static_cast<uint64_t>(kAll));
}

INSTANTIATE_TEST_SUITE_P(Producers, NodeNativeEventClientRefused, testing::Bool(),
                         [](const auto& named) { return named.param ? "Numbered" : "WithoutNumbers"; });

TEST(NodeNativeEventClient, ASubscriptionReplaysGoesOnLiveAndBeginsAgainAtAnOffset) {
  RunningNode node(WithNative());
  CreateTopic(node, "followed");
  const auto publisher = ConnectEventsTo(node.server().native_port());
  ASSERT_TRUE(publisher->Publish(Numbered("followed", 0, 500)).ok());
  ASSERT_TRUE(publisher->Flush().ok());
  const auto reader = ConnectEventsTo(node.server().native_port());
  const auto tail = reader->Follow({.topics = {"follow*"}, .from = From::kEarliest, .credit = 7});
  ASSERT_TRUE(tail.ok()) << tail.status().ToString();
  EXPECT_EQ(Take(*reader, *tail, 300), Numbers(0, 300));
  // What has come ahead of the reader is not counted as taken.
  EXPECT_EQ(*reader->Position(*tail), (Offsets{{"followed", {{0, 300}}}}));
  ASSERT_TRUE(publisher->Publish(Numbered("followed", 500, 1000)).ok());
  ASSERT_TRUE(publisher->Flush().ok());
  EXPECT_EQ(Take(*reader, *tail, 700), Numbers(300, 1000));
  EXPECT_TRUE(reader->Poll(*tail, 10, 0)->empty());
  EXPECT_EQ(*reader->Dropped(*tail), 0u);
  const auto again =
      reader->Follow({.topics = {"followed"}, .from = From::kOffset, .offsets = {{"followed", {{0, 990}}}}});
  ASSERT_TRUE(again.ok()) << again.status().ToString();
  EXPECT_EQ(Take(*reader, *again, 10), Numbers(990, 1000));
  EXPECT_EQ(reader->connections(), 1);
}

TEST(NodeNativeEventClient, ASubscriptionHasAFilterAndAnEnd) {
  RunningNode node(WithNative());
  CreateTopic(node, "chosen");
  const auto client = ConnectEventsTo(node.server().native_port());
  const auto tail = client->Follow({.topics = {"chosen"}, .filter = "key == \"wanted\""});
  ASSERT_TRUE(tail.ok()) << tail.status().ToString();
  ASSERT_TRUE(client
                  ->Publish(std::vector<Event>{{.topic = "chosen", .payload = "0"},
                                               {.topic = "chosen", .payload = "1", .key = "wanted"}})
                  .ok());
  EXPECT_EQ(Take(*client, *tail, 1), std::vector<std::string>{"1"});
  ASSERT_TRUE(client->Unfollow(*tail).ok());
  EXPECT_EQ(client->Poll(*tail, 1, 0).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(client->Unfollow(*tail).code(), StatusCode::kNotFound);
  EXPECT_EQ(client->Follow({.topics = {"chosen"}, .filter = "key >"}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(client->Follow({.topics = {"nowhere"}}).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(client->Follow({.topics = {"chosen"}, .credit = 0}).status().code(), StatusCode::kInvalidArgument);
  // The connection has outlived all of them.
  EXPECT_EQ(client->Fetch({.topic = "chosen"})->events.size(), 2u);
  EXPECT_EQ(client->connections(), 1);
}

TEST(NodeNativeEventClient, AReaderTooSlowForItsLagIsToldHowMuchItMisses) {
  RunningNode node(WithNative());
  CreateTopic(node, "fast");
  const auto client = ConnectEventsTo(node.server().native_port());
  const auto tail = client->Follow({.topics = {"fast"}, .on_slow = OnSlow::kDropOldest, .lag_max = 10, .credit = 1});
  ASSERT_TRUE(tail.ok()) << tail.status().ToString();
  ASSERT_TRUE(client->Publish(Numbered("fast", 0, 1000)).ok());
  ASSERT_TRUE(client->Flush().ok());
  std::vector<std::string> seen;
  while (seen.empty() || seen.back() != "999") {
    const std::vector<std::string> some = Take(*client, *tail, 1);
    ASSERT_FALSE(some.empty());
    seen.push_back(some[0]);
  }
  EXPECT_GT(*client->Dropped(*tail), 0u);
  EXPECT_EQ(*client->Dropped(*tail) + seen.size(), 1000u);
}

TEST(NodeNativeEventClient, PublishingToWhatItFollowsItselfNeverWaitsForItself) {
  RunningNode node(WithNative());
  CreateTopic(node, "echo");
  const auto client = ConnectEventsTo(node.server().native_port());
  const auto tail = client->Follow({.topics = {"echo"}});
  ASSERT_TRUE(tail.ok()) << tail.status().ToString();
  // More than sockets hold, in both directions.
  for (int round = 0; round < 50; ++round) {
    ASSERT_TRUE(client->Publish(std::vector<Event>(10, {.topic = "echo", .payload = std::string(100'000, 'x')})).ok());
  }
  EXPECT_EQ(Take(*client, *tail, 500).size(), 500u);
  EXPECT_EQ(client->Flush()->stored, 500u);
  EXPECT_EQ(client->connections(), 1);
}

TEST(NodeNativeEventClient, ANodeThatComesBackGetsWhatWasNotAcknowledged) {
  auto first = std::make_unique<RunningNode>(WithNative());
  const uint16_t port = first->server().native_port();
  CreateTopic(*first, "left");
  const auto client = ConnectEventsTo(port);
  ASSERT_TRUE(client->Publish(Numbered("left", 0, 10)).ok());
  ASSERT_TRUE(client->Flush().ok());
  first.reset();
  RunningNode second(WithNative(port));
  CreateTopic(second, "left");
  ASSERT_TRUE(client->Publish(Numbered("left", 10, 20)).ok());
  const auto totals = client->Flush();
  ASSERT_TRUE(totals.ok()) << totals.status().ToString();
  EXPECT_EQ(totals->stored, 20u);
  EXPECT_EQ(client->connections(), 2);
  EXPECT_EQ(Payloads(client->Fetch({.topic = "left"})->events), Numbers(10, 20));
}

TEST(NodeNativeEventClient, WithoutANodeItGivesUpAfterItsAttempts) {
  uint16_t port = 0;
  {
    RunningNode node(WithNative());
    port = node.server().native_port();
  }
  native::ClientOptions options;
  options.port = port;
  options.attempts_max = 2;
  EXPECT_EQ(EventClient::Connect(options).status().code(), StatusCode::kUnavailable);
  options.host = "localhost";
  EXPECT_EQ(EventClient::Connect(options).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(native::EventSender::Open(options).status().code(), StatusCode::kInvalidArgument);
}

TEST(NodeNativeEventClient, DatagramsOfEventsAreStored) {
  RunningNode node(WithNative());
  CreateTopic(node, "thrown");
  const auto client = ConnectEventsTo(node.server().native_port());
  const auto tail = client->Follow({.topics = {"thrown"}});
  ASSERT_TRUE(tail.ok()) << tail.status().ToString();
  native::ClientOptions options;
  options.port = node.server().native_port();
  const auto sender = native::EventSender::Open(options);
  ASSERT_TRUE(sender.ok()) << sender.status().ToString();
  ASSERT_TRUE((*sender)->Publish(Numbered("thrown", 0, 3)).ok());
  EXPECT_EQ(Take(*client, *tail, 3), Numbers(0, 3));
  EXPECT_EQ((*sender)->Publish(std::vector<Event>{{.topic = "thrown", .payload = std::string(70'000, 'x')}}).code(),
            StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace millstream::node

// What the tests of groups share.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "events_fixture.h"

namespace millstream::events {

using std::chrono::milliseconds;

inline constexpr int64_t kSessionMs = 3000;
inline constexpr int64_t kRebalanceMs = 1000;

inline SubscribeOptions InGroup(std::vector<std::string> topics, ConsumerOptions consumer = {}) {
  consumer.session_timeout_ms = kSessionMs;
  consumer.rebalance_timeout_ms = kRebalanceMs;
  return {.topics = std::move(topics), .from = SubscribeFrom::kEarliest, .group = "g", .consumer = std::move(consumer)};
}

inline std::unique_ptr<Subscription> MustJoin(Broker& broker, const SubscribeOptions& options) {
  auto made = broker.Subscribe(kTenant, options, nullptr);
  EXPECT_TRUE(made.ok()) << made.status().ToString();
  return made.ok() ? std::move(*made) : nullptr;
}

// What comes at once, as "partition/offset" and "*attempt" from the second on.
inline std::vector<std::string> PollNow(Subscription& subscription, size_t limit = 100) {
  std::vector<std::string> out;
  const auto polled = subscription.Poll(limit, 1 << 20, 0);
  EXPECT_TRUE(polled.ok()) << polled.status().ToString();
  if (!polled.ok()) return out;
  for (const SubscribedEvent& event : polled->events) {
    out.push_back(fmt::format("{}/{}", event.event->partition(), event.event->offset()));
    if (event.attempt > 1) out.back() += fmt::format("*{}", event.attempt);
  }
  std::ranges::sort(out);
  return out;
}

inline void PublishTo(Broker& broker, const std::string& topic, std::vector<uint32_t> partitions) {
  for (const uint32_t partition : partitions) {
    ASSERT_TRUE(PublishOne(broker, Text(topic, "x", partition)).ok());
  }
}

inline GroupDescription Describe(Broker& broker) {
  auto described = broker.DescribeGroup(kTenant, "g");
  EXPECT_TRUE(described.ok());
  return *described;
}

// How many partitions each member has, fewest first.
inline std::vector<size_t> Shares(Broker& broker) {
  std::vector<size_t> out;
  for (const GroupMember& member : Describe(broker).members) out.push_back(member.owned.size());
  std::ranges::sort(out);
  return out;
}

inline std::map<std::string, uint64_t> Committed(Broker& broker) {
  std::map<std::string, uint64_t> out;
  const auto offsets = broker.GroupOffsets(kTenant, "g");
  EXPECT_TRUE(offsets.ok());
  for (const GroupOffset& one : *offsets) out[fmt::format("{}/{}", one.topic, one.partition)] = one.committed;
  return out;
}

}  // namespace millstream::events

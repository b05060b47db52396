#include "millstream/events/live_bus.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <latch>
#include <map>
#include <thread>
#include <vector>

namespace millstream::events {
namespace {

struct Trade {
  uint64_t publisher = 0;
  uint64_t key = 0;
  uint64_t sequence = 0;
};
using Bus = LiveBus<Trade>;

const env::Env& Machine() {
  return env::SystemEnv();
}

TEST(LiveBus, EveryEventReachesItsTopicsHandlerOnceAndInTheOrderOfItsKey) {
  constexpr size_t kPublishers = 3;
  constexpr uint64_t kEach = 30'000;
  constexpr uint64_t kKeys = 8;
  // Keys of one topic are spread over two workers: each key has its own entry, and one worker.
  struct Seen {
    std::array<std::array<uint64_t, kKeys>, kPublishers> next{};
    std::atomic<bool> in_order = true;
    std::atomic<uint64_t> count = 0;
  };
  std::array<Seen, 2> seen;
  const auto handler = [&seen](size_t topic) {
    return [&of = seen[topic]](Bus::Events trades) {
      if (trades.size() == 0) of.in_order = false;
      for (const Trade& trade : trades) {
        if (of.next[trade.publisher][trade.key]++ != trade.sequence) of.in_order = false;
      }
      of.count += trades.size();
    };
  };
  auto bus = *Bus::Open(Machine(), {.workers = 2, .ring_capacity = 256},
                        {{"orders.eu", handler(0)}, {"orders.us", handler(1)}});
  std::vector<std::thread> threads;
  for (size_t number = 0; number < kPublishers; ++number) {
    threads.emplace_back([&, number] {
      const auto publisher = *bus->NewPublisher();
      const std::array<LiveTopic, 2> topics = {*bus->Topic("orders.eu"), *bus->Topic("orders.us")};
      for (uint64_t i = 0; i < kEach; ++i) {
        // Each key goes through the topics by turns.
        const Trade trade{number, i % kKeys, i / kKeys / 2};
        const LiveTopic topic = topics[i / kKeys % 2];
        if (number == 0) {
          publisher->Publish(topic, trade.key, trade);
        } else {
          publisher->Stage(topic, trade.key, trade);
          if (i % 50 == 49) publisher->Flush();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(bus->Close().ok());
  EXPECT_TRUE(seen[0].in_order);
  EXPECT_TRUE(seen[1].in_order);
  EXPECT_EQ(seen[0].count + seen[1].count, kPublishers * kEach);
  const LiveBusStats stats = bus->Stats();
  EXPECT_EQ(stats.handled, kPublishers * kEach);
  EXPECT_EQ(stats.depth, 0U);
  EXPECT_GT(stats.latency.count(), 0U);
}

TEST(LiveBus, AFullRingIsAnAnswerThatIsCounted) {
  std::latch handling(1);
  std::latch go_on(1);
  std::atomic<int> handled = 0;
  auto bus = *Bus::Open(Machine(), {.ring_capacity = 2, .batch_max = 1}, {{"t", [&](Bus::Events trades) {
                                                                             if (handled++ > 0) return;
                                                                             EXPECT_EQ(trades[0].key, 5U);
                                                                             handling.count_down();
                                                                             go_on.wait();
                                                                           }}});
  const LiveTopic topic = *bus->Topic("t");
  auto publisher = *bus->NewPublisher();
  EXPECT_TRUE(publisher->TryPublish(topic, 5, {0, 5, 0}));
  handling.wait();
  EXPECT_TRUE(publisher->TryPublish(topic, 5, {}));
  EXPECT_FALSE(publisher->TryPublish(topic, 5, {}));
  EXPECT_EQ(bus->Stats().refused, 1U);
  EXPECT_EQ(bus->Close().code(), StatusCode::kFailedPrecondition);
  go_on.count_down();
  publisher->Publish(topic, "five", {});
  publisher = nullptr;
  ASSERT_TRUE(bus->Close().ok());
  EXPECT_EQ(handled, 3);
}

TEST(LiveBus, TopicsAreNamedAndHaveOneHandlerEach) {
  const auto open = [](std::vector<std::pair<std::string, Bus::Handler>> topics) {
    return Bus::Open(Machine(), {}, std::move(topics)).status().code();
  };
  const Bus::Handler handler = [](Bus::Events) {};
  EXPECT_EQ(open({{"a", handler}, {"b", handler}}), StatusCode::kOk);
  EXPECT_EQ(open({{"a", handler}, {"a", handler}}), StatusCode::kInvalidArgument);
  EXPECT_EQ(open({{"a b", handler}}), StatusCode::kInvalidArgument);
  const auto bus = *Bus::Open(Machine(), {}, {{"a", handler}});
  EXPECT_EQ(bus->Topic("b").status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace millstream::events

#include "millstream/queue/dispatcher.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <latch>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "millstream/env/env.h"

namespace millstream::queue {
namespace {

struct Value {
  uint64_t producer = 0;
  uint64_t key = 0;
  uint64_t sequence = 0;
};

const env::Env& Machine() {
  return env::SystemEnv();
}

class DispatcherWaits : public ::testing::TestWithParam<WaitStrategy> {};

TEST_P(DispatcherWaits, EveryValueIsHandledOnceByItsKeysWorkerInItsProducersOrder) {
  constexpr size_t kProducers = 4;
  constexpr size_t kWorkers = 2;
  constexpr uint64_t kKeys = 16;
  const uint64_t each = GetParam() == WaitStrategy::kSpin ? 20'000 : 50'000;
  struct PerWorker {
    std::map<std::pair<uint64_t, uint64_t>, uint64_t> next;  // by producer and key
    std::set<uint64_t> keys;
    uint64_t count = 0;
    bool in_order = true;
  };
  std::array<PerWorker, kWorkers> seen;
  auto dispatcher = *Dispatcher<Value>::Start(
      Machine(), {.name = "d", .workers = kWorkers, .wait = GetParam(), .ring_capacity = 64, .batch_max = 16},
      [&](size_t worker, Priority priority, std::span<Value> values) {
        PerWorker& of = seen[worker];
        of.in_order &= priority == Priority::kData && !values.empty() && values.size() <= 16;
        for (const Value& value : values) {
          of.keys.insert(value.key);
          of.in_order &= of.next[{value.producer, value.key}]++ == value.sequence;
          ++of.count;
        }
      });
  std::vector<std::thread> threads;
  for (size_t number = 0; number < kProducers; ++number) {
    threads.emplace_back([&, number] {
      const auto producer = *dispatcher->NewProducer();
      for (uint64_t i = 0; i < each; ++i) {
        Value value{number, i % kKeys, i / kKeys};
        const uint64_t route = RouteOf(1, value.key);
        if (number % 2 == 0) {
          producer->Submit(route, value);
        } else {
          producer->StageWith(route, [&](Value& slot) { slot = value; });  // published by others or at the end
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(dispatcher->Stop().ok());
  uint64_t handled = 0;
  for (size_t worker = 0; worker < kWorkers; ++worker) {
    EXPECT_TRUE(seen[worker].in_order);
    EXPECT_FALSE(seen[worker].keys.empty());
    for (const uint64_t key : seen[worker].keys) {
      EXPECT_EQ(Dispatcher<Value>::WorkerOf(RouteOf(1, key), kWorkers), worker);
    }
    const WorkerStats stats = dispatcher->Stats(worker);
    EXPECT_EQ(stats.handled, seen[worker].count);
    EXPECT_EQ(stats.depth, 0U);
    EXPECT_GT(stats.batches, 0U);
    EXPECT_GT(stats.latency.count(), 0U);
    EXPECT_LE(stats.latency.count(), seen[worker].count);
    handled += stats.handled;
  }
  EXPECT_EQ(handled, kProducers * each);
}

INSTANTIATE_TEST_SUITE_P(Strategies, DispatcherWaits,
                         ::testing::Values(WaitStrategy::kSpin, WaitStrategy::kYield, WaitStrategy::kPark));

// A worker that stands still in its handler until it is let go.
struct Gate {
  std::latch handling{1};
  std::latch go_on{1};
  std::atomic<bool> closed = true;
  void Pass() {
    if (!closed.exchange(false)) return;
    handling.count_down();
    go_on.wait();
  }
};

TEST(Dispatcher, ControlGoesBeforeDataThatWaits) {
  Gate gate;
  std::vector<std::pair<Priority, uint64_t>> handled;
  auto dispatcher = *Dispatcher<Value>::Start(Machine(), {.name = "d", .batch_max = 1},
                                              [&](size_t, Priority priority, std::span<Value> values) {
                                                for (const Value& value : values) {
                                                  handled.emplace_back(priority, value.sequence);
                                                }
                                                gate.Pass();
                                              });
  auto producer = *dispatcher->NewProducer();
  for (uint64_t i = 0; i < 3; ++i) {
    Value value{0, 0, i};
    ASSERT_TRUE(producer->TrySubmit(0, value));
    if (i == 0) gate.handling.wait();
  }
  Value control{0, 0, 100};
  EXPECT_EQ(dispatcher->SubmitControl(0, control), PushResult::kOk);
  EXPECT_EQ(dispatcher->Stats(0).control_depth, 1U);
  EXPECT_GE(dispatcher->Stats(0).depth, 2U);
  gate.go_on.count_down();
  producer = nullptr;
  ASSERT_TRUE(dispatcher->Stop().ok());
  using Handled = std::pair<Priority, uint64_t>;
  EXPECT_EQ(handled, (std::vector<Handled>{
                         {Priority::kData, 0}, {Priority::kControl, 100}, {Priority::kData, 1}, {Priority::kData, 2}}));
  EXPECT_EQ(dispatcher->Stats(0).control_handled, 1U);
  EXPECT_EQ(dispatcher->SubmitControl(0, control), PushResult::kClosed);
}

TEST(Dispatcher, AFullLaneRefusesAndCountsAndTheValueStaysTheCallers) {
  Gate gate;
  std::atomic<int> handled = 0;
  auto dispatcher =
      *Dispatcher<std::unique_ptr<int>>::Start(Machine(), {.name = "d", .ring_capacity = 2, .batch_max = 1},
                                               [&](size_t, Priority, std::span<std::unique_ptr<int>> values) {
                                                 handled += static_cast<int>(values.size());
                                                 gate.Pass();
                                               });
  auto producer = *dispatcher->NewProducer();
  auto value = std::make_unique<int>(0);
  ASSERT_TRUE(producer->TrySubmit(0, value));
  gate.handling.wait();
  // The one that is being handled keeps its slot.
  value = std::make_unique<int>(1);
  ASSERT_TRUE(producer->TrySubmit(0, value));
  value = std::make_unique<int>(2);
  EXPECT_FALSE(producer->TrySubmit(0, value));
  ASSERT_NE(value, nullptr);
  EXPECT_EQ(dispatcher->Stats(0).refused, 1U);
  gate.go_on.count_down();
  producer->Submit(0, value);
  EXPECT_EQ(value, nullptr);
  producer = nullptr;
  ASSERT_TRUE(dispatcher->Stop().ok());
  EXPECT_EQ(handled, 3);
}

TEST(Dispatcher, StopRefusesWhileAProducerExistsAndLanesAreUsedAgain) {
  std::atomic<int> handled = 0;
  auto dispatcher = *Dispatcher<int>::Start(
      Machine(), {.name = "d", .workers = 3, .producers_max = 2},
      [&](size_t, Priority, std::span<int> values) { handled += static_cast<int>(values.size()); });
  for (int round = 0; round < 20; ++round) {
    auto one = *dispatcher->NewProducer();
    auto two = *dispatcher->NewProducer();
    EXPECT_EQ(dispatcher->NewProducer().status().code(), StatusCode::kResourceExhausted);
    EXPECT_EQ(dispatcher->Stop().code(), StatusCode::kFailedPrecondition);
    for (int i = 0; i < 30; ++i) {
      int value = i;
      one->Submit(RouteOf(2, static_cast<uint64_t>(i)), value);
      two->Submit(RouteOf(3, static_cast<uint64_t>(i)), value);
    }
  }
  ASSERT_TRUE(dispatcher->Stop().ok());
  ASSERT_TRUE(dispatcher->Stop().ok());
  EXPECT_EQ(handled, 1200);
  EXPECT_EQ(dispatcher->NewProducer().status().code(), StatusCode::kUnavailable);
}

TEST(Dispatcher, TimesEveryValueWhenAskedToAndNoneWhenNot) {
  for (const size_t every : {size_t{0}, size_t{1}, size_t{3}}) {
    auto dispatcher = *Dispatcher<int>::Start(Machine(), {.name = "d", .ring_capacity = 8, .latency_every = every},
                                              [](size_t, Priority, std::span<int>) {});
    {
      const auto producer = *dispatcher->NewProducer();
      for (int i = 0; i < 100; ++i) {
        int value = i;
        producer->Submit(0, value);
      }
    }
    ASSERT_TRUE(dispatcher->Stop().ok());
    const uint64_t expected = every == 0 ? 0 : every == 1 ? 100 : 25;  // 3 becomes 4
    EXPECT_EQ(dispatcher->Stats(0).latency.count(), expected);
  }
}

TEST(Dispatcher, APinnedWorkerRunsAndAnAbsentCpuIsRefused) {
  std::atomic<int> handled = 0;
  const auto handle = [&](size_t, Priority, std::span<int> values) { handled += static_cast<int>(values.size()); };
  {
    auto dispatcher = *Dispatcher<int>::Start(Machine(), {.name = "d", .cpus = {0}}, handle);
    const auto producer = *dispatcher->NewProducer();
    int value = 1;
    producer->Submit(0, value);
  }
  EXPECT_EQ(handled, 1);
  EXPECT_EQ(Dispatcher<int>::Start(Machine(), {.name = "d", .cpus = {9'999}}, handle).status().code(),
            StatusCode::kInvalidArgument);
}

TEST(Dispatcher, OptionsOutOfBoundsAreRefused) {
  const auto start = [](const DispatcherOptions& options) {
    return Dispatcher<int>::Start(Machine(), options, [](size_t, Priority, std::span<int>) {}).status().code();
  };
  EXPECT_EQ(start({.name = "d", .workers = 0}), StatusCode::kInvalidArgument);
  EXPECT_EQ(start({.name = "d", .workers = kDispatcherWorkersMax + 1}), StatusCode::kInvalidArgument);
  EXPECT_EQ(start({.name = "d", .workers = 2, .cpus = {0}}), StatusCode::kInvalidArgument);
  EXPECT_EQ(start({.name = "d", .ring_capacity = 1}), StatusCode::kInvalidArgument);
  EXPECT_EQ(start({.name = "d", .control_capacity = 0}), StatusCode::kInvalidArgument);
  EXPECT_EQ(start({.name = "d", .producers_max = 0}), StatusCode::kInvalidArgument);
  EXPECT_EQ(start({.name = "d", .batch_max = 0}), StatusCode::kInvalidArgument);
  EXPECT_EQ(start({.name = "d"}), StatusCode::kOk);
}

TEST(Route, KeysSpreadEvenlyOverWorkersAndTextAndNumbersAreHashed) {
  constexpr size_t kWorkers = 7;
  std::array<int, kWorkers> counts{};
  for (uint64_t key = 0; key < 70'000; ++key) ++counts[Dispatcher<int>::WorkerOf(RouteOf(5, key), kWorkers)];
  for (const int count : counts) EXPECT_NEAR(count, 10'000, 500);
  EXPECT_NE(RouteOf("a", "b"), RouteOf("b", "a"));
  EXPECT_EQ(RouteOf("a", "b"), RouteOf("a", "b"));
}

}  // namespace
}  // namespace millstream::queue

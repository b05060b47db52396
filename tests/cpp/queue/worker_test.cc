#include "millstream/queue/worker.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <latch>
#include <memory>
#include <thread>
#include <vector>

#include "millstream/env/env.h"

namespace millstream::queue {
namespace {

env::Executor& Threads() {
  return *env::SystemEnv().executor;
}

TEST(Worker, HandlesWhatManyThreadsSubmitOnceAndInEachOnesOrder) {
  constexpr size_t kProducers = 4;
  constexpr uint64_t kEach = 20'000;
  std::array<uint64_t, kProducers> next{};  // the worker's thread alone, until it has stopped
  bool in_order = true;
  auto worker = *Worker<uint64_t>::Start(Threads(), {.name = "w", .cpu = {}, .queue_capacity = 64, .batch_max = 8},
                                         [&](std::span<uint64_t> batch) {
                                           in_order &= !batch.empty() && batch.size() <= 8;
                                           for (const uint64_t value : batch) {
                                             in_order &= (value & 0xFFFFFFFF) == next[value >> 32]++;
                                           }
                                         });
  std::vector<std::thread> producers;
  for (size_t producer = 0; producer < kProducers; ++producer) {
    producers.emplace_back([&, producer] {
      for (uint64_t i = 0; i < kEach;) {
        uint64_t value = producer << 32 | i;
        if (worker->Submit(value).ok()) {
          ++i;
        } else {
          std::this_thread::yield();
        }
      }
    });
  }
  for (std::thread& producer : producers) producer.join();
  worker->Stop();
  EXPECT_TRUE(in_order);
  for (const uint64_t count : next) EXPECT_EQ(count, kEach);
}

TEST(Worker, AFullQueueIsResourceExhaustedAndTheValueStaysTheCallers) {
  std::latch handling(1);
  std::latch go_on(1);
  std::atomic<int> handled = 0;
  auto worker =
      *Worker<std::unique_ptr<int>>::Start(Threads(), {.name = "slow", .cpu = {}, .queue_capacity = 2, .batch_max = 1},
                                           [&](std::span<std::unique_ptr<int>>) {
                                             if (handled++ == 0) {
                                               handling.count_down();
                                               go_on.wait();
                                             }
                                           });
  auto value = std::make_unique<int>(0);
  ASSERT_TRUE(worker->Submit(value).ok());
  handling.wait();
  for (int i = 0; i < 2; ++i) {
    value = std::make_unique<int>(i);
    ASSERT_TRUE(worker->Submit(value).ok());
  }
  EXPECT_EQ(worker->queued(), 2U);
  value = std::make_unique<int>(3);
  const Status refused = worker->Submit(value);
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(refused.message().find("slow"), std::string_view::npos);
  EXPECT_NE(value, nullptr);
  go_on.count_down();
  worker->Stop();
  EXPECT_EQ(handled, 3);
}

TEST(Worker, AStoppedWorkerRefusesAndHasHandledWhatItTook) {
  std::atomic<int> handled = 0;
  auto worker = *Worker<int>::Start(Threads(), {.name = "w", .cpu = {}},
                                    [&](std::span<int> batch) { handled += static_cast<int>(batch.size()); });
  for (int i = 0; i < 100; ++i) {
    int value = i;
    ASSERT_TRUE(worker->Submit(value).ok());
  }
  worker->Stop();
  worker->Stop();
  EXPECT_EQ(handled, 100);
  int value = 1;
  EXPECT_EQ(worker->Submit(value).code(), StatusCode::kUnavailable);
}

TEST(Worker, OptionsOutOfBoundsAreRefused) {
  const auto start = [](size_t capacity, size_t batch_max) {
    return Worker<int>::Start(Threads(), {.name = "w", .cpu = {}, .queue_capacity = capacity, .batch_max = batch_max},
                              [](std::span<int>) {})
        .status()
        .code();
  };
  EXPECT_EQ(start(1, 1), StatusCode::kInvalidArgument);
  EXPECT_EQ(start(kWorkerQueueCapacityMax + 1, 1), StatusCode::kInvalidArgument);
  EXPECT_EQ(start(2, 0), StatusCode::kInvalidArgument);
  EXPECT_EQ(start(2, 1), StatusCode::kOk);
}

}  // namespace
}  // namespace millstream::queue

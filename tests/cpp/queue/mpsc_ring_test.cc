#include "millstream/queue/mpsc_ring.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <span>
#include <thread>
#include <vector>

namespace millstream::queue {
namespace {

TEST(MpscRing, RejectsPushWhenFullAndKeepsTheValue) {
  MpscRing<std::unique_ptr<int>> ring(4);
  for (int i = 0; i < 4; ++i) {
    auto value = std::make_unique<int>(i);
    EXPECT_EQ(ring.TryPush(value), PushResult::kOk);
    EXPECT_EQ(value, nullptr);
  }
  EXPECT_EQ(ring.size(), 4U);
  auto value = std::make_unique<int>(4);
  EXPECT_EQ(ring.TryPush(value), PushResult::kFull);
  ASSERT_NE(value, nullptr);
  std::vector<std::unique_ptr<int>> out;
  EXPECT_EQ(ring.PopBatch(&out, 1), 1U);
  EXPECT_EQ(ring.TryPush(value), PushResult::kOk);
  EXPECT_EQ(ring.PopBatch(&out, 10), 4U);
  EXPECT_FALSE(ring.HasNext());
  EXPECT_EQ(ring.size(), 0U);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(*out[static_cast<size_t>(i)], i);
}

TEST(MpscRing, GoesRoundManyTimes) {
  MpscRing<int> ring(2);
  std::vector<int> out;
  for (int i = 0; i < 1000; ++i) {
    int value = i;
    ASSERT_EQ(ring.TryPush(value), PushResult::kOk);
    out.clear();
    ASSERT_EQ(ring.PopBatch(&out, 5), 1U);
    ASSERT_EQ(out.front(), i);
  }
}

TEST(MpscRing, AClosedRingTakesNothingMoreAndGivesOutWhatItHolds) {
  MpscRing<int> ring(4);
  int value = 1;
  EXPECT_EQ(ring.TryPush(value), PushResult::kOk);
  EXPECT_FALSE(ring.IsDrained());
  ring.Close();
  ring.Close();
  EXPECT_EQ(ring.TryPush(value), PushResult::kClosed);
  EXPECT_FALSE(ring.IsDrained());
  EXPECT_EQ(ring.size(), 1U);
  std::vector<int> out;
  EXPECT_EQ(ring.PopBatch(&out, 5), 1U);
  EXPECT_TRUE(ring.IsDrained());
}

TEST(MpscRing, ABatchMovesInWhatThereIsRoomForAndTheRestStays) {
  MpscRing<std::unique_ptr<int>> ring(4);
  std::vector<std::unique_ptr<int>> in;
  for (int i = 0; i < 6; ++i) in.push_back(std::make_unique<int>(i));
  EXPECT_EQ(ring.PushBatch({}), 0U);
  EXPECT_EQ(ring.PushBatch(std::span(in).first(1)), 1U);
  EXPECT_EQ(ring.PushBatch(std::span(in).subspan(1)), 3U);
  EXPECT_EQ(in[3], nullptr);
  EXPECT_NE(in[4], nullptr);
  EXPECT_EQ(ring.PushBatch(std::span(in).subspan(4)), 0U);
  EXPECT_EQ(ring.TryPush(in[4]), PushResult::kFull);
  std::vector<std::unique_ptr<int>> out;
  EXPECT_EQ(ring.PopBatch(&out, 2), 2U);
  EXPECT_EQ(ring.PushBatch(std::span(in).subspan(4)), 2U);
  EXPECT_EQ(ring.PopBatch(&out, 9), 4U);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(*out[static_cast<size_t>(i)], i);
  ring.Close();
  in[0] = std::make_unique<int>(7);
  EXPECT_EQ(ring.PushBatch(std::span(in).first(1)), 0U);
  EXPECT_NE(in[0], nullptr);
}

TEST(MpscRing, BatchesOfManyProducersArriveWholeAndInOrder) {
  constexpr size_t kProducers = 3;
  constexpr uint64_t kEach = 60'000;
  MpscRing<uint64_t> ring(64);
  std::vector<std::thread> producers;
  for (size_t producer = 0; producer < kProducers; ++producer) {
    producers.emplace_back([&, producer] {
      std::array<uint64_t, 9> batch{};
      for (uint64_t i = 0; i < kEach;) {
        const size_t wanted = std::min<uint64_t>(i % 9 + 1, kEach - i);
        for (size_t j = 0; j < wanted; ++j) batch[j] = producer << 32 | (i + j);
        const size_t pushed = ring.PushBatch(std::span(batch).first(wanted));
        if (pushed == 0) std::this_thread::yield();
        i += pushed;
      }
    });
  }
  std::array<uint64_t, kProducers> next{};
  std::vector<uint64_t> out;
  for (uint64_t seen = 0; seen < kProducers * kEach;) {
    out.clear();
    if (ring.PopBatch(&out, 7) == 0) std::this_thread::yield();
    seen += out.size();
    for (const uint64_t value : out) ASSERT_EQ(value & 0xFFFFFFFF, next[value >> 32]++);
  }
  for (std::thread& producer : producers) producer.join();
}

TEST(MpscRing, EveryValueArrivesOnceAndInItsProducersOrder) {
  constexpr size_t kProducers = 4;
  constexpr uint64_t kEach = 50'000;
  MpscRing<uint64_t> ring(128);
  std::vector<std::thread> producers;
  for (size_t producer = 0; producer < kProducers; ++producer) {
    producers.emplace_back([&, producer] {
      for (uint64_t i = 0; i < kEach;) {
        uint64_t value = producer << 32 | i;
        if (ring.TryPush(value) == PushResult::kOk) {
          ++i;
        } else {
          std::this_thread::yield();
        }
      }
    });
  }
  std::array<uint64_t, kProducers> next{};
  std::vector<uint64_t> batch;
  for (uint64_t seen = 0; seen < kProducers * kEach;) {
    batch.clear();
    if (ring.PopBatch(&batch, 32) == 0) std::this_thread::yield();
    seen += batch.size();
    for (const uint64_t value : batch) {
      const size_t producer = value >> 32;
      ASSERT_LT(producer, kProducers);
      ASSERT_EQ(value & 0xFFFFFFFF, next[producer]++);
    }
  }
  for (std::thread& producer : producers) producer.join();
  for (const uint64_t count : next) EXPECT_EQ(count, kEach);
}

TEST(MpscRing, WhatWasAcceptedBeforeAConcurrentCloseIsPopped) {
  for (int round = 0; round < 200; ++round) {
    MpscRing<int> ring(64);
    std::atomic<int> accepted = 0;
    std::vector<std::thread> producers;
    for (int producer = 0; producer < 3; ++producer) {
      producers.emplace_back([&] {
        while (true) {
          int value = 1;
          const PushResult result = ring.TryPush(value);
          if (result == PushResult::kClosed) return;
          if (result == PushResult::kOk) ++accepted;
          if (result == PushResult::kFull) std::this_thread::yield();
        }
      });
    }
    std::vector<int> popped;
    while (popped.size() < 100) {
      if (ring.PopBatch(&popped, 16) == 0) std::this_thread::yield();
    }
    ring.Close();
    while (!ring.IsDrained()) {
      if (ring.PopBatch(&popped, 16) == 0) std::this_thread::yield();
    }
    for (std::thread& producer : producers) producer.join();
    ASSERT_EQ(popped.size(), static_cast<size_t>(accepted.load()));
  }
}

}  // namespace
}  // namespace millstream::queue

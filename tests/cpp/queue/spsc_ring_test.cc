#include "millstream/queue/spsc_ring.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace millstream::queue {
namespace {

TEST(SpscRing, RejectsPushWhenFullAndKeepsTheValue) {
  SpscRing<std::unique_ptr<int>> ring(3);
  EXPECT_EQ(ring.capacity(), 4U);
  for (int i = 0; i < 4; ++i) {
    auto value = std::make_unique<int>(i);
    EXPECT_TRUE(ring.TryPush(value));
    EXPECT_EQ(value, nullptr);
  }
  EXPECT_EQ(ring.size(), 4U);
  auto value = std::make_unique<int>(4);
  EXPECT_FALSE(ring.TryPush(value));
  ASSERT_NE(value, nullptr);
  std::vector<std::unique_ptr<int>> out;
  EXPECT_EQ(ring.PopBatch(&out, 1), 1U);
  EXPECT_TRUE(ring.TryPush(value));
  while (ring.HasNext()) ASSERT_GT(ring.PopBatch(&out, 10), 0U);
  EXPECT_EQ(ring.PopBatch(&out, 10), 0U);
  ASSERT_EQ(out.size(), 5U);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(*out[static_cast<size_t>(i)], i);
}

TEST(SpscRing, WhatIsStagedIsSeenOnlyOncePublished) {
  SpscRing<int> ring(4);
  int value = 1;
  EXPECT_TRUE(ring.Stage(value));
  EXPECT_TRUE(ring.StageWith([](int& slot) { slot = 2; }));
  EXPECT_FALSE(ring.HasNext());
  EXPECT_EQ(ring.size(), 0U);
  ring.Publish();
  EXPECT_TRUE(ring.HasNext());
  std::vector<int> out;
  EXPECT_EQ(ring.PopBatch(&out, 9), 2U);
  EXPECT_EQ(out, (std::vector<int>{1, 2}));
}

TEST(SpscRing, ABatchMovesInWhatThereIsRoomForAndTheRestStays) {
  SpscRing<std::unique_ptr<int>> ring(4);
  std::vector<std::unique_ptr<int>> in;
  for (int i = 0; i < 6; ++i) in.push_back(std::make_unique<int>(i));
  EXPECT_EQ(ring.PushBatch(in), 4U);
  EXPECT_EQ(in[3], nullptr);
  EXPECT_NE(in[4], nullptr);
  EXPECT_EQ(ring.PushBatch(std::span(in).subspan(4)), 0U);
  EXPECT_EQ(ring.PushBatch({}), 0U);
}

TEST(SpscRing, ConsumingGoesRoundTheEndInTwoPieces) {
  SpscRing<int> ring(4);
  std::vector<int> out;
  std::array<int, 3> first = {0, 1, 2};
  EXPECT_EQ(ring.PushBatch(first), 3U);
  EXPECT_EQ(ring.PopBatch(&out, 3), 3U);
  std::array<int, 4> second = {3, 4, 5, 6};
  EXPECT_EQ(ring.PushBatch(second), 4U);
  std::vector<size_t> pieces;
  EXPECT_EQ(ring.Consume(4,
                         [&](std::span<int> values) {
                           pieces.push_back(values.size());
                           out.insert(out.end(), values.begin(), values.end());
                         }),
            4U);
  EXPECT_EQ(pieces, (std::vector<size_t>{1, 3}));
  EXPECT_EQ(out, (std::vector<int>{0, 1, 2, 3, 4, 5, 6}));
}

TEST(SpscRing, ARingOfOneWorks) {
  SpscRing<int> ring(1);
  std::vector<int> out;
  for (int i = 0; i < 100; ++i) {
    int value = i;
    ASSERT_TRUE(ring.TryPush(value));
    ASSERT_FALSE(ring.TryPush(value));
    ASSERT_EQ(ring.PopBatch(&out, 2), 1U);
    ASSERT_EQ(out.back(), i);
  }
}

TEST(SpscRing, EveryValueArrivesOnceAndInOrder) {
  constexpr uint64_t kCount = 100'000;
  struct Wide {
    std::array<uint64_t, 8> words;
  };
  SpscRing<Wide> ring(512);
  std::thread producer([&] {
    uint64_t next = 0;
    std::array<Wide, 7> batch;
    while (next < kCount) {
      const size_t wanted = std::min<uint64_t>(next % 7 + 1, kCount - next);
      for (size_t i = 0; i < wanted; ++i) batch[i].words.fill(next + i);
      const size_t pushed = ring.PushBatch(std::span(batch).first(wanted));
      next += pushed;
      if (pushed == 0) std::this_thread::yield();
    }
  });
  uint64_t seen = 0;
  bool right = true;
  while (seen < kCount) {
    const size_t count = ring.Consume(5, [&](std::span<Wide> values) {
      for (const Wide& value : values) {
        for (const uint64_t word : value.words) right &= word == seen;
        ++seen;
      }
    });
    if (count == 0) std::this_thread::yield();
  }
  producer.join();
  EXPECT_TRUE(right);
  EXPECT_EQ(seen, kCount);
  EXPECT_FALSE(ring.HasNext());
}

}  // namespace
}  // namespace millstream::queue

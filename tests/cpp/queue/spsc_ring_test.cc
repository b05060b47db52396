#include "millstream/queue/spsc_ring.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

namespace millstream::queue {
namespace {

TEST(SpscRing, CapacityIsRoundedUpToAPowerOfTwo) {
  EXPECT_EQ(SpscRing<int>(1).capacity(), 1U);
  EXPECT_EQ(SpscRing<int>(5).capacity(), 8U);
  EXPECT_EQ(SpscRing<int>(8).capacity(), 8U);
}

TEST(SpscRing, RejectsPushWhenFullAndKeepsTheValue) {
  SpscRing<std::unique_ptr<int>> ring(2);
  for (int i = 0; i < 2; ++i) {
    auto value = std::make_unique<int>(i);
    EXPECT_TRUE(ring.TryPush(value));
    EXPECT_EQ(value, nullptr);
  }
  auto value = std::make_unique<int>(2);
  EXPECT_FALSE(ring.TryPush(value));
  ASSERT_NE(value, nullptr);
  std::vector<std::unique_ptr<int>> out;
  EXPECT_EQ(ring.PopBatch(&out, 1), 1U);
  EXPECT_TRUE(ring.TryPush(value));
  EXPECT_EQ(ring.PopBatch(&out, 10), 2U);
  EXPECT_EQ(ring.PopBatch(&out, 10), 0U);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(*out[static_cast<size_t>(i)], i);
}

TEST(SpscRing, KeepsTheOrderBetweenTwoThreads) {
  constexpr int kCount = 200'000;
  SpscRing<int> ring(64);
  std::thread producer([&] {
    for (int i = 0; i < kCount;) {
      int value = i;
      if (ring.TryPush(value)) {
        ++i;
      } else {
        std::this_thread::yield();
      }
    }
  });
  int expected = 0;
  std::vector<int> batch;
  while (expected < kCount) {
    batch.clear();
    if (ring.PopBatch(&batch, 16) == 0) std::this_thread::yield();
    for (const int value : batch) ASSERT_EQ(value, expected++);
  }
  producer.join();
}

}  // namespace
}  // namespace millstream::queue

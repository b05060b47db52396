#include "millstream/queue/wait.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "millstream/queue/spsc_ring.h"

namespace millstream::queue {
namespace {

class WaiterTest : public ::testing::TestWithParam<WaitStrategy> {};

// Each thread goes on only when the other has let it: one lost wake-up and the test never ends.
TEST_P(WaiterTest, NothingIsMissedBetweenTwoThreadsThatTakeTurns) {
  // Where there is one CPU for both, spinning threads go on only when their time is up.
  const int rounds = GetParam() == WaitStrategy::kSpin ? 200 : 5'000;
  SpscRing<int> to(2);
  SpscRing<int> back(2);
  Waiter at_to(GetParam());
  Waiter at_back(GetParam());
  const auto pass = [](SpscRing<int>& ring, Waiter& waiter, int value) {
    ASSERT_TRUE(ring.TryPush(value));
    waiter.Notify();
  };
  const auto take = [](SpscRing<int>& ring, Waiter& waiter) {
    waiter.Until([&] { return ring.HasNext(); });
    std::vector<int> out;
    ring.PopBatch(&out, 1);
    return out.at(0);
  };
  std::thread other([&] {
    for (int i = 0; i < rounds; ++i) pass(back, at_back, take(to, at_to) + 1);
  });
  for (int i = 0; i < rounds; ++i) {
    pass(to, at_to, i);
    ASSERT_EQ(take(back, at_back), i + 1);
  }
  other.join();
}

INSTANTIATE_TEST_SUITE_P(Strategies, WaiterTest,
                         ::testing::Values(WaitStrategy::kSpin, WaitStrategy::kYield, WaitStrategy::kPark));

TEST(Waiter, WhoParksSleepsUntilNotifiedAndIsCounted) {
  Waiter waiter(WaitStrategy::kPark);
  std::atomic<bool> work = false;
  std::thread sleeper([&] { waiter.Until([&] { return work.load(); }); });
  while (waiter.parks() == 0 && !work) {
    // Wakes it again and again: each time it finds nothing and goes to sleep anew, until it has slept once.
    waiter.Notify();
    std::this_thread::yield();
  }
  work = true;
  waiter.Notify();
  sleeper.join();
  EXPECT_GE(waiter.parks(), 1U);
}

}  // namespace
}  // namespace millstream::queue

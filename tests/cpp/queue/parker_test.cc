#include "millstream/queue/parker.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace millstream::queue {
namespace {

TEST(Parker, NotifyAfterPrepareIsNotLost) {
  Parker parker;
  parker.Prepare();
  parker.Notify();
  parker.Wait();
}

TEST(Parker, ACancelledPreparationLeavesItReadyForTheNext) {
  Parker parker;
  parker.Prepare();
  parker.Cancel();
  parker.Notify();
  parker.Prepare();
  parker.Notify();
  parker.Wait();
}

// Each thread goes on only when the other has woken it: one lost wake-up and the test never ends.
TEST(Parker, NoWakeUpIsLostBetweenTwoThreadsThatTakeTurns) {
  constexpr int kRounds = 50'000;
  Parker ping;
  Parker pong;
  std::atomic<int> ball = 0;
  const auto play = [&](Parker& own, Parker& other, int parity) {
    for (int i = parity; i < kRounds; i += 2) {
      while (true) {
        if (ball.load(std::memory_order_relaxed) == i) break;
        own.Prepare();
        if (ball.load(std::memory_order_relaxed) == i) {
          own.Cancel();
        } else {
          own.Wait();
        }
      }
      ball.store(i + 1, std::memory_order_relaxed);
      other.Notify();
    }
  };
  std::thread other([&] { play(pong, ping, 1); });
  play(ping, pong, 0);
  other.join();
  EXPECT_EQ(ball, kRounds);
}

}  // namespace
}  // namespace millstream::queue

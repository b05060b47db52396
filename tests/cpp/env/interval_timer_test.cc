#include "millstream/env/interval_timer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <semaphore>

#include "millstream/env/env.h"

namespace millstream::env {
namespace {

using std::chrono::milliseconds;

TEST(IntervalTimer, CallsAgainAndAgainUntilItIsDestroyed) {
  std::counting_semaphore<> called(0);
  std::atomic<int> calls = 0;
  auto timer = IntervalTimer::Start(
      "ms-test", milliseconds(1),
      [&] {
        ++calls;
        called.release();
      },
      *SystemEnv().executor);
  ASSERT_TRUE(timer.ok()) << timer.status().ToString();
  for (int i = 0; i < 5; ++i) called.acquire();
  timer->reset();
  EXPECT_GE(calls, 5);
  while (called.try_acquire()) {
  }
  EXPECT_FALSE(called.try_acquire_for(milliseconds(20)));
}

TEST(IntervalTimer, EndsAtOnceThoughItsTurnIsHoursAway) {
  std::atomic<int> calls = 0;
  auto timer = IntervalTimer::Start("ms-test", std::chrono::hours(1), [&] { ++calls; }, *SystemEnv().executor);
  ASSERT_TRUE(timer.ok()) << timer.status().ToString();
  timer->reset();
  EXPECT_EQ(calls, 0);
}

TEST(IntervalTimer, ItsEndWaitsForACallThatRuns) {
  std::counting_semaphore<> began(0);
  std::counting_semaphore<> go_on(0);
  std::atomic<int> running = 0;
  auto timer = IntervalTimer::Start(
      "ms-test", milliseconds(1),
      [&] {
        ++running;
        began.release();
        go_on.acquire();
        --running;
      },
      *SystemEnv().executor);
  ASSERT_TRUE(timer.ok()) << timer.status().ToString();
  began.acquire();
  go_on.release(1000);
  timer->reset();
  EXPECT_EQ(running, 0);
}

}  // namespace
}  // namespace millstream::env

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>

#include <array>
#include <atomic>
#include <chrono>
#include <string>

#include "millstream/env/env.h"
#include "millstream/env/sim_clock.h"

namespace millstream::env {
namespace {

TEST(SystemClock, MonotonicTimeNeverGoesBackAndWallTimeIsAfter2020) {
  const Clock& clock = *SystemEnv().clock;
  auto before = clock.MonotonicNow();
  for (int i = 0; i < 1000; ++i) {
    const auto now = clock.MonotonicNow();
    ASSERT_GE(now, before);
    before = now;
  }
  EXPECT_GT(clock.WallNow(), 1'577'836'800'000);
}

TEST(SimClock, StandsStillUntilItIsMoved) {
  SimClock clock(1000);
  const auto start = clock.MonotonicNow();
  EXPECT_EQ(clock.WallNow(), 1000);
  EXPECT_EQ(clock.MonotonicNow(), start);
  clock.Advance(std::chrono::milliseconds(5));
  EXPECT_EQ(clock.WallNow(), 1005);
  EXPECT_EQ(clock.MonotonicNow() - start, std::chrono::milliseconds(5));
}

TEST(SimClock, WallTimeMayJumpBackWhileMonotonicTimeDoesNot) {
  SimClock clock(1000);
  const auto start = clock.MonotonicNow();
  clock.SetWall(-5);
  EXPECT_EQ(clock.WallNow(), -5);
  EXPECT_EQ(clock.MonotonicNow(), start);
}

TEST(SystemExecutor, ThreadHasRunToItsEndOnceItIsDestroyed) {
  std::atomic<bool> ran = false;
  {
    const auto thread = SystemEnv().executor->Start({.name = "t", .cpu = {}}, [&] { ran = true; });
  }
  EXPECT_TRUE(ran);
}

TEST(SystemExecutor, ThreadCarriesTheFirst15BytesOfItsName) {
  std::string name;
  {
    const auto thread = SystemEnv().executor->Start({.name = "a name that is too long", .cpu = {}}, [&] {
      std::array<char, 32> buffer{};
      ASSERT_EQ(pthread_getname_np(pthread_self(), buffer.data(), buffer.size()), 0);
      name = buffer.data();
    });
  }
  EXPECT_EQ(name, "a name that is ");
}

TEST(SystemExecutor, PinnedThreadRunsOnItsCpuAlone) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  int cpu = 0;
  while (!CPU_ISSET(cpu, &allowed)) ++cpu;
  cpu_set_t seen;
  CPU_ZERO(&seen);
  {
    const auto thread = SystemEnv().executor->Start({.name = "pinned", .cpu = cpu},
                                                    [&] { ASSERT_EQ(sched_getaffinity(0, sizeof(seen), &seen), 0); });
    ASSERT_TRUE(thread.ok()) << thread.status().ToString();
  }
  EXPECT_EQ(CPU_COUNT(&seen), 1);
  EXPECT_TRUE(CPU_ISSET(cpu, &seen));
  EXPECT_GE(SystemEnv().executor->cpu_count(), 1);
}

TEST(SystemExecutor, AnAbsentCpuIsRefused) {
  const auto thread = SystemEnv().executor->Start({.name = "nowhere", .cpu = 100'000}, [] {});
  EXPECT_EQ(thread.status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace millstream::env

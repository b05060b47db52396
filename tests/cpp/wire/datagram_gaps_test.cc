#include "millstream/wire/datagram_gaps.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

namespace millstream::wire {
namespace {

TEST(DatagramGaps, ThoseAreLostThatNeverCome) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    constexpr uint64_t kSent = 2000;
    std::set<uint64_t> missing;
    while (missing.size() < 150) missing.insert(1 + random() % (kSent - 200));
    std::vector<std::pair<uint64_t, uint64_t>> order;
    for (uint64_t number = 0; number < kSent; ++number) {
      // Neighbours change places, and some come twice.
      if (missing.contains(number)) continue;
      order.emplace_back(number == 0 ? 0 : 1 + number + random() % 20, number);
      if (number % 50 == 0) order.emplace_back(number + 30, number);
    }
    std::sort(order.begin(), order.end());
    DatagramGaps gaps;
    uint64_t lost = 0;
    for (const auto& [at, number] : order) lost += gaps.LostAt(7, number);
    EXPECT_EQ(lost, missing.size()) << "seed " << seed;
  }
}

TEST(DatagramGaps, ASenderThatBeginsAnewHasLostNothing) {
  DatagramGaps gaps;
  EXPECT_EQ(gaps.LostAt(1, 5'000'000), 0u);
  EXPECT_EQ(gaps.LostAt(1, 0), 0u);
  EXPECT_EQ(gaps.LostAt(1, 1), 0u);
  EXPECT_EQ(gaps.LostAt(2, 100), 0u);
  EXPECT_EQ(gaps.LostAt(1, 1 + 1000), 999u - 63u);
  EXPECT_EQ(gaps.LostAt(1, UINT64_MAX), 0u);
  EXPECT_EQ(gaps.LostAt(1, 0), 0u);
}

TEST(DatagramGaps, TheLongestSilentSenderIsForgotten) {
  DatagramGaps gaps;
  for (uint64_t sender = 0; sender <= DatagramGaps::kSendersMax; ++sender) gaps.LostAt(sender, 0);
  EXPECT_EQ(gaps.LostAt(1, 1000), 936u);
  EXPECT_EQ(gaps.LostAt(0, 1000), 0u);
}

}  // namespace
}  // namespace millstream::wire

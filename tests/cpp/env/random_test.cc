#include "millstream/env/random.h"

#include <gtest/gtest.h>

#include <array>
#include <set>

#include "millstream/env/env.h"

namespace millstream::env {
namespace {

TEST(SeededRandom, SameSeedGivesTheSameSequenceAndAnotherSeedAnother) {
  SeededRandom a(7);
  SeededRandom b(7);
  SeededRandom c(8);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const uint64_t value = a.Next64();
    EXPECT_EQ(value, b.Next64());
    differs |= value != c.Next64();
  }
  EXPECT_TRUE(differs);
}

TEST(SeededRandom, BelowStaysBelowAndReachesEveryValue) {
  SeededRandom random(1);
  std::set<uint64_t> seen;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t value = random.Below(10);
    ASSERT_LT(value, 10U);
    seen.insert(value);
  }
  EXPECT_EQ(seen.size(), 10U);
  EXPECT_EQ(random.Below(1), 0U);
}

TEST(SystemRandom, FillsEveryByteOfTheBuffer) {
  // Any one byte stays zero in all 64 tries with a chance of 2^-512.
  std::array<std::byte, 13> seen{};
  for (int i = 0; i < 64; ++i) {
    std::array<std::byte, 13> bytes{};
    SystemEnv().random->Fill(bytes);
    for (size_t k = 0; k < bytes.size(); ++k) seen[k] |= bytes[k];
  }
  for (const std::byte byte : seen) EXPECT_NE(byte, std::byte{0});
}

}  // namespace
}  // namespace millstream::env

#include "millstream/codec/bit_io.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <utility>
#include <vector>

namespace millstream::codec {
namespace {

TEST(BitIo, RunsOfEveryWidthAtEveryPlaceComeBack) {
  std::mt19937_64 random(1);
  for (int first = 0; first <= 64; ++first) {
    for (int second = 0; second <= 64; ++second) {
      // Runs up to the last bit, so that the last reads find fewer than eight bytes.
      std::vector<std::pair<int, uint64_t>> runs;
      std::string bytes;
      BitWriter writer(&bytes);
      for (const int width : {first, second, 1, first, second}) {
        const uint64_t bits = width == 0 ? 0 : random() >> (64 - width);
        runs.emplace_back(width, bits);
        writer.Write(bits, width);
      }
      writer.Finish();
      BitReader reader(bytes);
      for (const auto& [width, bits] : runs) {
        uint64_t read = 0;
        ASSERT_TRUE(reader.Read(width, &read));
        ASSERT_EQ(read, bits) << "width " << width << " of " << first << " and " << second;
      }
      EXPECT_EQ(reader.bytes_read(), bytes.size());
    }
  }
}

TEST(BitIo, ReadsNothingBeyondTheEnd) {
  const std::string bytes = "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF";
  for (int width = 1; width <= 64; ++width) {
    BitReader reader(bytes);
    uint64_t bits = 0;
    for (int left = 72; left >= width; left -= width) {
      ASSERT_TRUE(reader.Read(width, &bits));
      EXPECT_EQ(bits, ~uint64_t{0} >> (64 - width));
    }
    EXPECT_EQ(reader.Read(width, &bits), false) << width;
  }
}

}  // namespace
}  // namespace millstream::codec

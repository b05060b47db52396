#include "millstream/codec/crc32c.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <string_view>

namespace millstream::codec {
namespace {

TEST(Crc32c, AgreesWithThePublishedVectors) {
  EXPECT_EQ(Crc32c(""), 0U);
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283U);
  // RFC 3720, B.4: 32 bytes of zeros, of ones, ascending, descending.
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(Crc32c(std::string(32, '\xFF')), 0x62A8AB43U);
  std::string ascending;
  std::string descending;
  for (int i = 0; i < 32; ++i) {
    ascending.push_back(static_cast<char>(i));
    descending.push_back(static_cast<char>(31 - i));
  }
  EXPECT_EQ(Crc32c(ascending), 0x46DD794EU);
  EXPECT_EQ(Crc32c(descending), 0x113FDB5CU);
}

TEST(Crc32c, InstructionAndTablesAgreeAtEveryLengthAndAlignment) {
  std::mt19937 random(1);
  // Also beyond several stretches of those that are folded side by side.
  std::string bytes(1700, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  for (size_t start = 0; start < 9; ++start) {
    for (size_t length = 0; start + length <= bytes.size(); ++length) {
      const auto part = std::string_view(bytes).substr(start, length);
      ASSERT_EQ(Crc32cExtend(7, part), Crc32cExtendPortable(7, part)) << start << "+" << length;
    }
  }
}

TEST(Crc32c, ExtendingByPartsEqualsTheWhole) {
  const std::string_view text = "a record is a header followed by its payload";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    EXPECT_EQ(Crc32cExtend(Crc32c(text.substr(0, cut)), text.substr(cut)), Crc32c(text)) << cut;
  }
}

TEST(Crc32c, AnyFlippedBitChangesTheChecksum) {
  std::string bytes = "offset 17, 3 records";
  const uint32_t good = Crc32c(bytes);
  for (char& byte : bytes) {
    for (int bit = 0; bit < 8; ++bit) {
      byte = static_cast<char>(byte ^ (1 << bit));
      EXPECT_NE(Crc32c(bytes), good);
      byte = static_cast<char>(byte ^ (1 << bit));
    }
  }
}

}  // namespace
}  // namespace millstream::codec

#include "millstream/base/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace millstream {
namespace {

TEST(Utf8, AcceptsAsciiAndEveryWellFormedLength) {
  EXPECT_TRUE(IsValidUtf8(""));
  EXPECT_TRUE(IsValidUtf8("node_cpu_seconds_total"));
  EXPECT_TRUE(IsValidUtf8("caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80"));
  EXPECT_TRUE(IsValidUtf8("\xF4\x8F\xBF\xBF"));
}

TEST(Utf8, NamesTheFirstBadByte) {
  EXPECT_EQ(FirstInvalidUtf8("12345678abc\xFFz"), 11u);
  EXPECT_EQ(FirstInvalidUtf8("ab\xC0\xAF"), 2u);
}

TEST(Utf8, RejectsOverlongSurrogateTooLargeAndTruncated) {
  EXPECT_EQ(FirstInvalidUtf8("\xE0\x80\x80"), 0u);
  EXPECT_EQ(FirstInvalidUtf8("\xED\xA0\x80"), 0u);
  EXPECT_EQ(FirstInvalidUtf8("\xF4\x90\x80\x80"), 0u);
  EXPECT_EQ(FirstInvalidUtf8("\xF0\x9F\x98"), 0u);
  EXPECT_EQ(FirstInvalidUtf8("\x80"), 0u);
}

}  // namespace
}  // namespace millstream

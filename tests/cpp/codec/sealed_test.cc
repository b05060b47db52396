#include "millstream/codec/sealed.h"

#include <gtest/gtest.h>

#include <string>

#include "millstream/base/status.h"

namespace millstream::codec {
namespace {

constexpr SealKind kKind{.magic = "MSTESTED", .version = 3, .name = "a tested file"};

TEST(Sealed, GivesBackWhatWasSealed) {
  for (const std::string& content : {std::string(), std::string("x"), std::string(100'000, '\xff')}) {
    const std::string sealed = Seal(kKind, content);
    EXPECT_EQ(sealed.size(), content.size() + 16);
    const auto opened = Unseal(kKind, sealed);
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    EXPECT_EQ(*opened, content);
  }
}

TEST(Sealed, EveryChangedBitAndEveryLengthIsRefused) {
  const std::string sealed = Seal(kKind, "content");
  for (size_t bit = 0; bit < sealed.size() * 8; ++bit) {
    std::string changed = sealed;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_EQ(Unseal(kKind, changed).status().code(), StatusCode::kDataLoss) << bit;
  }
  for (size_t length = 0; length < sealed.size(); ++length) {
    EXPECT_FALSE(Unseal(kKind, std::string_view(sealed).substr(0, length)).ok()) << length;
  }
  EXPECT_FALSE(Unseal(kKind, sealed + '\0').ok());
}

TEST(Sealed, AnotherKindAndAnotherVersionAreNamed) {
  const std::string sealed = Seal(kKind, "content");
  const auto other = Unseal({.magic = "MSOTHERS", .version = 3, .name = "another file"}, sealed);
  EXPECT_EQ(other.status().message(), "what should be another file is something else");
  const auto newer = Unseal({.magic = kKind.magic, .version = 2, .name = kKind.name}, sealed);
  EXPECT_EQ(newer.status().message(), "a tested file is of version 3; this is version 2");
}

}  // namespace
}  // namespace millstream::codec

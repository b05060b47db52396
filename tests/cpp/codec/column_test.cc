#include "millstream/codec/column.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace millstream::codec {
namespace {

constexpr uint64_t kSeed = 20260101;

std::vector<uint64_t> Bits(const std::vector<double>& column) {
  std::vector<uint64_t> bits;
  for (const double value : column) bits.push_back(std::bit_cast<uint64_t>(value));
  return bits;
}

void ExpectDoublesSurvive(const std::vector<double>& column, const char* what) {
  for (const ColumnCodec codec :
       {ColumnCodec::kRaw, ColumnCodec::kConstant, ColumnCodec::kDecimal, ColumnCodec::kXor}) {
    std::string bytes;
    if (!EncodeDoublesAs(codec, column, &bytes)) continue;
    std::vector<double> decoded(column.size());
    bytes += "behind";
    ByteReader reader(bytes);
    ASSERT_TRUE(DecodeDoubles(&reader, decoded).ok()) << what;
    EXPECT_EQ(Bits(decoded), Bits(column)) << what << ", codec " << static_cast<int>(codec);
    EXPECT_EQ(reader.rest(), "behind") << what << ", codec " << static_cast<int>(codec);
  }
  std::string bytes;
  EncodeDoubles(column, &bytes);
  EXPECT_LE(bytes.size(), column.size() * 8 + 1) << what;
  std::vector<double> decoded(column.size());
  ByteReader reader(bytes);
  ASSERT_TRUE(DecodeDoubles(&reader, decoded).ok()) << what;
  EXPECT_EQ(Bits(decoded), Bits(column)) << what;
  EXPECT_TRUE(reader.empty()) << what;
}

void ExpectIntegersSurvive(const std::vector<int64_t>& column, const char* what) {
  for (const ColumnCodec codec : {ColumnCodec::kRaw, ColumnCodec::kConstant, ColumnCodec::kFixedInterval,
                                  ColumnCodec::kFrame, ColumnCodec::kDelta, ColumnCodec::kDeltaOfDelta}) {
    std::string bytes;
    if (!EncodeIntegersAs(codec, column, &bytes)) continue;
    bytes += "behind";
    std::vector<int64_t> decoded(column.size());
    ByteReader reader(bytes);
    ASSERT_TRUE(DecodeIntegers(&reader, decoded).ok()) << what;
    EXPECT_EQ(decoded, column) << what << ", codec " << static_cast<int>(codec);
    EXPECT_EQ(reader.rest(), "behind") << what << ", codec " << static_cast<int>(codec);
  }
  std::string bytes;
  EncodeIntegers(column, &bytes);
  EXPECT_LE(bytes.size(), column.size() * 8 + 3) << what;
  std::vector<int64_t> decoded(column.size());
  ByteReader reader(bytes);
  ASSERT_TRUE(DecodeIntegers(&reader, decoded).ok()) << what;
  EXPECT_EQ(decoded, column) << what;
}

std::vector<double> SpecialDoubles() {
  return {0.0,
          -0.0,
          1.0,
          -1.0,
          0.1,
          1e300,
          1e-300,
          std::numeric_limits<double>::infinity(),
          -std::numeric_limits<double>::infinity(),
          std::numeric_limits<double>::quiet_NaN(),
          std::bit_cast<double>(uint64_t{0x7ff0000000000002}),
          std::bit_cast<double>(uint64_t{0x7ff8000000000001}),
          std::bit_cast<double>(uint64_t{0xfff123456789abcd}),
          std::numeric_limits<double>::denorm_min(),
          -std::numeric_limits<double>::denorm_min(),
          std::numeric_limits<double>::min(),
          std::numeric_limits<double>::max(),
          std::numeric_limits<double>::lowest(),
          9007199254740992.0,
          9007199254740993.0,
          -9007199254740992.0,
          18014398509481984.0};
}

TEST(DoubleColumn, EverySpecialValueSurvivesAloneAndBesideEveryOther) {
  const auto special = SpecialDoubles();
  ExpectDoublesSurvive(special, "all");
  for (const double a : special) {
    ExpectDoublesSurvive({a}, "alone");
    ExpectDoublesSurvive({a, a, a}, "three times");
    for (const double b : special) ExpectDoublesSurvive({a, b, 1, 2, 3, a, b}, "pair");
  }
}

TEST(DoubleColumn, AnyBitPatternSurvives) {
  std::mt19937_64 random(kSeed);
  for (int round = 0; round < 200; ++round) {
    std::vector<double> column(random() % 400 + 1);
    for (double& value : column) value = std::bit_cast<double>(random());
    ExpectDoublesSurvive(column, "random bits");
  }
}

TEST(DoubleColumn, TypicalMetricsSurvive) {
  std::mt19937_64 random(kSeed + 1);
  const auto special = SpecialDoubles();
  for (int round = 0; round < 300; ++round) {
    std::vector<double> column(random() % 300 + 1);
    const int digits = static_cast<int>(random() % 8);
    const double power = std::pow(10.0, digits);
    double counter = static_cast<double>(random() % 1'000'000);
    for (double& value : column) {
      counter += static_cast<double>(random() % 1000);
      value = counter / power;
      if (random() % 16 == 0) value = special[random() % special.size()];
    }
    ExpectDoublesSurvive(column, "counter with exceptions");
  }
}

TEST(DoubleColumn, WholeNumbersThatGrowEvenlyTakeLessThanTwoBytesEach) {
  std::vector<double> column;
  for (int i = 0; i < 240; ++i) column.push_back(1e9 + 15.0 * i + i % 7);
  std::string bytes;
  EncodeDoubles(column, &bytes);
  EXPECT_EQ(static_cast<ColumnCodec>(bytes[0]), ColumnCodec::kDecimal);
  EXPECT_LT(bytes.size(), column.size() * 2);
}

TEST(DoubleColumn, DecimalsOfAFewDigitsUseTheDecimalCodec) {
  std::vector<double> column;
  for (int i = 0; i < 240; ++i) column.push_back((i * 37 % 100) / 100.0);
  std::string bytes;
  EncodeDoubles(column, &bytes);
  EXPECT_EQ(static_cast<ColumnCodec>(bytes[0]), ColumnCodec::kDecimal);
  EXPECT_LT(bytes.size(), column.size() * 2);
}

TEST(DoubleColumn, AStaleMarkerAmongWholeNumbersIsAnException) {
  std::vector<double> column(100, 5.0);
  for (size_t i = 0; i < column.size(); ++i) column[i] += static_cast<double>(i);
  column[50] = std::bit_cast<double>(uint64_t{0x7ff0000000000002});
  std::string bytes;
  EncodeDoubles(column, &bytes);
  EXPECT_EQ(static_cast<ColumnCodec>(bytes[0]), ColumnCodec::kDecimal);
  EXPECT_LT(bytes.size(), 40u);
  ExpectDoublesSurvive(column, "stale marker");
}

TEST(IntegerColumn, ExtremesSurviveInEveryCodec) {
  const int64_t least = std::numeric_limits<int64_t>::min();
  const int64_t most = std::numeric_limits<int64_t>::max();
  ExpectIntegersSurvive({}, "empty");
  ExpectIntegersSurvive({least}, "least");
  ExpectIntegersSurvive({most}, "most");
  ExpectIntegersSurvive({least, most, least, 0, -1, 1, most}, "extremes");
  ExpectIntegersSurvive({least, 0, most}, "steps that overflow");
}

TEST(IntegerColumn, RandomColumnsSurvive) {
  std::mt19937_64 random(kSeed + 2);
  for (int round = 0; round < 300; ++round) {
    std::vector<int64_t> column(random() % 400);
    const int width = static_cast<int>(random() % 64) + 1;
    int64_t time = static_cast<int64_t>(random());
    for (int64_t& item : column) {
      time = static_cast<int64_t>(static_cast<uint64_t>(time) + (random() >> (64 - width)));
      item = time;
    }
    ExpectIntegersSurvive(column, "random steps");
  }
}

TEST(IntegerColumn, ARegularScrapeTakesAFewBytesInAll) {
  std::vector<int64_t> column;
  for (int i = 0; i < 1000; ++i) column.push_back(1'700'000'000'000 + i * 15'000);
  std::string bytes;
  EncodeIntegers(column, &bytes);
  EXPECT_EQ(static_cast<ColumnCodec>(bytes[0]), ColumnCodec::kFixedInterval);
  EXPECT_LT(bytes.size(), 16u);
}

TEST(IntegerColumn, AScrapeWithJitterTakesAboutOneByteEach) {
  std::mt19937_64 random(kSeed + 3);
  std::vector<int64_t> column;
  for (int i = 0; i < 1000; ++i) column.push_back(1'700'000'000'000 + i * 15'000 + static_cast<int64_t>(random() % 8));
  std::string bytes;
  EncodeIntegers(column, &bytes);
  EXPECT_LT(bytes.size(), 1000u);
}

TEST(Column, EveryTruncationIsDataLossOrShort) {
  std::vector<double> doubles;
  std::vector<int64_t> integers;
  std::mt19937_64 random(kSeed + 4);
  for (int i = 0; i < 150; ++i) {
    doubles.push_back(static_cast<double>(random() % 1000) / 10);
    integers.push_back(static_cast<int64_t>(random() % 100'000));
  }
  std::string bytes;
  EncodeDoubles(doubles, &bytes);
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    ByteReader reader(std::string_view(bytes).substr(0, cut));
    EXPECT_EQ(DecodeDoubles(&reader, doubles).code(), StatusCode::kDataLoss) << cut;
  }
  bytes.clear();
  EncodeIntegers(integers, &bytes);
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    ByteReader reader(std::string_view(bytes).substr(0, cut));
    EXPECT_EQ(DecodeIntegers(&reader, integers).code(), StatusCode::kDataLoss) << cut;
  }
}

TEST(ByteReader, RefusesAVarintOfMoreThanSixtyFourBits) {
  uint64_t value = 0;
  EXPECT_FALSE(ByteReader(std::string(9, '\xFF') + '\x02').Varint(&value));
  EXPECT_TRUE(ByteReader(std::string(9, '\xFF') + '\x01').Varint(&value));
  EXPECT_EQ(value, std::numeric_limits<uint64_t>::max());
  EXPECT_FALSE(ByteReader("\x80").Varint(&value));
}

}  // namespace
}  // namespace millstream::codec

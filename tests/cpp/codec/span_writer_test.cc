#include "millstream/codec/span_writer.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "millstream/codec/byte_io.h"

namespace millstream::codec {
namespace {

// Each power of two and what is beside it: where a varint gets longer.
std::vector<uint64_t> Numbers() {
  std::vector<uint64_t> out = {0, UINT64_MAX};
  for (int bit = 0; bit < 64; ++bit) {
    for (const uint64_t beside : {uint64_t{0}, uint64_t{1}, UINT64_MAX}) out.push_back((uint64_t{1} << bit) + beside);
  }
  return out;
}

TEST(SpanWriter, AVarintHasAsManyBytesAsAreCounted) {
  for (const uint64_t value : Numbers()) {
    std::string bytes;
    ByteWriter(&bytes).Varint(value);
    EXPECT_EQ(VarintBytes(value), bytes.size()) << value;
  }
}

TEST(SpanWriter, WritesWhatAByteWriterWrites) {
  for (const uint64_t value : Numbers()) {
    std::string wanted;
    ByteWriter grows(&wanted);
    grows.U8(static_cast<uint8_t>(value));
    grows.U32(static_cast<uint32_t>(value));
    grows.U64(value);
    grows.Varint(value);
    grows.Bytes("bytes");
    grows.Raw("raw");
    std::string written(wanted.size(), '\0');
    SpanWriter fills(written);
    fills.U8(static_cast<uint8_t>(value));
    fills.U32(static_cast<uint32_t>(value));
    fills.U64(value);
    fills.Varint(value);
    EXPECT_EQ(fills.Bytes("bytes").data(), written.data() + written.size() - 8);
    EXPECT_FALSE(fills.is_full());
    EXPECT_EQ(fills.Raw("raw"), "raw");
    EXPECT_TRUE(fills.is_full());
    EXPECT_EQ(written, wanted) << value;
  }
}

TEST(SpanWriterDeathTest, WritesNothingBehindItsMemory) {
  std::string two(2, '\0');
  SpanWriter writer(two);
  EXPECT_DEATH(writer.U32(1), "check failed");
}

}  // namespace
}  // namespace millstream::codec

#include "xor_chunk.h"

#include <algorithm>
#include <bit>
#include <cstdint>

#include "protobuf_append.h"

namespace millstream::wire {
namespace {

constexpr int kLeadingZerosMax = 31;  // five bits

// Bits from the highest one of a byte down.
class HighBitWriter {
 public:
  explicit HighBitWriter(std::string* out) : out_(*out) {}

  // The lowest `width` bits of `bits`.
  void Write(uint64_t bits, int width) {
    while (width > 0) {
      if (free_ == 0) {
        out_.push_back('\0');
        free_ = 8;
      }
      const int take = std::min(width, free_);
      const auto piece = static_cast<unsigned>((bits >> (width - take)) & ((uint64_t{1} << take) - 1));
      out_.back() = static_cast<char>(static_cast<unsigned char>(out_.back()) | (piece << (free_ - take)));
      free_ -= take;
      width -= take;
    }
  }
  void WriteBytes(std::string_view bytes) {
    for (const char byte : bytes) Write(static_cast<unsigned char>(byte), 8);
  }

 private:
  std::string& out_;
  int free_ = 0;  // bits of the last byte
};

// Whether a signed number of `width` bits can hold it, in the range that the format uses.
bool Fits(int64_t value, int width) {
  return -((int64_t{1} << (width - 1)) - 1) <= value && value <= int64_t{1} << (width - 1);
}

void WriteDeltaOfDelta(int64_t value, HighBitWriter* out) {
  if (value == 0) return out->Write(0, 1);
  if (Fits(value, 14)) {
    out->Write(0b10, 2);
    return out->Write(static_cast<uint64_t>(value), 14);
  }
  if (Fits(value, 17)) {
    out->Write(0b110, 3);
    return out->Write(static_cast<uint64_t>(value), 17);
  }
  if (Fits(value, 20)) {
    out->Write(0b1110, 4);
    return out->Write(static_cast<uint64_t>(value), 20);
  }
  out->Write(0b1111, 4);
  out->Write(static_cast<uint64_t>(value), 64);
}

class XorColumn {
 public:
  void Write(double value, HighBitWriter* out) {
    const auto bits = std::bit_cast<uint64_t>(value);
    const uint64_t change = bits ^ previous_;
    previous_ = bits;
    if (change == 0) return out->Write(0, 1);
    out->Write(1, 1);
    const int leading = std::min(std::countl_zero(change), kLeadingZerosMax);
    const int trailing = std::countr_zero(change);
    if (has_window_ && leading >= leading_ && trailing >= trailing_) {
      out->Write(0, 1);
      return out->Write(change >> trailing_, 64 - leading_ - trailing_);
    }
    has_window_ = true;
    leading_ = leading;
    trailing_ = trailing;
    const int significant = 64 - leading - trailing;
    out->Write(1, 1);
    out->Write(static_cast<uint64_t>(leading), 5);
    // 64 does not fit into six bits and is written as 0, which cannot occur.
    out->Write(static_cast<uint64_t>(significant), 6);
    out->Write(change >> trailing, significant);
  }
  void WriteFirst(double value, HighBitWriter* out) {
    previous_ = std::bit_cast<uint64_t>(value);
    out->Write(previous_, 64);
  }

 private:
  uint64_t previous_ = 0;
  bool has_window_ = false;
  int leading_ = 0;
  int trailing_ = 0;
};

}  // namespace

std::string EncodeXorChunk(std::span<const TimestampMs> timestamps, std::span<const double> values) {
  std::string chunk;
  chunk.push_back(static_cast<char>(timestamps.size() >> 8));
  chunk.push_back(static_cast<char>(timestamps.size()));
  HighBitWriter out(&chunk);
  XorColumn column;
  uint64_t delta = 0;
  for (size_t i = 0; i < timestamps.size(); ++i) {
    std::string number;
    if (i == 0) {
      PutVarint(ZigZagOf(timestamps[0]), &number);
      out.WriteBytes(number);
      column.WriteFirst(values[0], &out);
      continue;
    }
    // Modulo 2^64, as the reader adds.
    const uint64_t next = static_cast<uint64_t>(timestamps[i]) - static_cast<uint64_t>(timestamps[i - 1]);
    if (i == 1) {
      PutVarint(next, &number);
      out.WriteBytes(number);
    } else {
      WriteDeltaOfDelta(static_cast<int64_t>(next - delta), &out);
    }
    delta = next;
    column.Write(values[i], &out);
  }
  return chunk;
}

}  // namespace millstream::wire

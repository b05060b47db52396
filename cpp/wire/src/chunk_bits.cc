#include "chunk_bits.h"

#include <algorithm>
#include <bit>
#include <iterator>

namespace millstream::wire {
namespace {

constexpr int kLeadingZerosMax = 31;  // five bits
// A number of the i-th width stands behind i + 1 ones and a zero; what fits none of them, 64 bits wide behind ones
// alone.
constexpr int kVarbitWidths[] = {3, 6, 9, 12, 18, 25, 56};
constexpr int kOnesMax = static_cast<int>(std::size(kVarbitWidths)) + 1;

// `fits` says whether a width is wide enough.
template <typename Fits>
void WriteVarbit(uint64_t bits, const Fits& fits, HighBitWriter* out) {
  if (bits == 0) return out->Write(0, 1);
  int ones = 1;
  for (const int width : kVarbitWidths) {
    if (fits(width)) {
      out->Write((uint64_t{1} << (ones + 1)) - 2, ones + 1);
      return out->Write(bits, width);
    }
    ++ones;
  }
  out->Write((uint64_t{1} << kOnesMax) - 1, kOnesMax);
  out->Write(bits, 64);
}

}  // namespace

void HighBitWriter::Write(uint64_t bits, int width) {
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

void HighBitWriter::WriteDouble(double value) {
  Write(std::bit_cast<uint64_t>(value), 64);
}

void HighBitWriter::WriteSigned(int64_t value) {
  WriteVarbit(static_cast<uint64_t>(value), [value](int width) { return FitsSigned(value, width); }, this);
}

void HighBitWriter::WriteUnsigned(uint64_t value) {
  WriteVarbit(value, [value](int width) { return value >> width == 0; }, this);
}

void XorColumn::WriteFirst(double value, HighBitWriter* out) {
  previous_ = std::bit_cast<uint64_t>(value);
  out->Write(previous_, 64);
}

void XorColumn::Write(double value, HighBitWriter* out) {
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

}  // namespace millstream::wire

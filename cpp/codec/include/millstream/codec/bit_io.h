// BitWriter and BitReader: runs of bits in bytes, the lowest bit of a byte first.
//
// Errors      Read returns false when fewer bits are left than asked for.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace millstream::codec {

static_assert(std::endian::native == std::endian::little, "eight bytes are read as one little-endian word");

// Ownership   Appends to a string that it borrows. Finish pads the last byte with zeros.
class BitWriter {
 public:
  explicit BitWriter(std::string* out) : out_(*out) {}

  // The lowest `width` bits of `bits`; 0 <= width <= 64.
  void Write(uint64_t bits, int width) {
    while (width > 0) {
      const int take = width < 8 - used_ ? width : 8 - used_;
      current_ |= static_cast<unsigned>((bits & ((uint64_t{1} << take) - 1)) << used_);
      bits >>= take;
      used_ += take;
      width -= take;
      if (used_ == 8) Flush();
    }
  }
  void Finish() {
    if (used_ > 0) Flush();
  }

 private:
  void Flush() {
    out_.push_back(static_cast<char>(current_));
    current_ = 0;
    used_ = 0;
  }

  std::string& out_;
  unsigned current_ = 0;
  int used_ = 0;
};

// Ownership   Borrows the bytes.
class BitReader {
 public:
  explicit BitReader(std::string_view bytes) : bytes_(bytes) {}

  // 0 <= width <= 64.
  [[nodiscard]] bool Read(int width, uint64_t* bits) {
    if (static_cast<uint64_t>(width) > bytes_.size() * 8 - position_) return false;
    const size_t at = static_cast<size_t>(position_ >> 3);
    const int used = static_cast<int>(position_ & 7);
    position_ += static_cast<uint64_t>(width);
    // Eight bytes at once, or what is left of them, and what a run that begins inside a byte has in the ninth.
    const size_t left = bytes_.size() - at;
    uint64_t word = 0;
    if (left >= sizeof(word)) {
      std::memcpy(&word, bytes_.data() + at, sizeof(word));
    } else {
      for (size_t i = 0; i < left; ++i) word |= uint64_t{static_cast<uint8_t>(bytes_[at + i])} << (8 * i);
    }
    word >>= used;
    if (used + width > 64) word |= uint64_t{static_cast<uint8_t>(bytes_[at + 8])} << (64 - used);
    *bits = width == 0 ? 0 : word & (~uint64_t{0} >> (64 - width));
    return true;
  }
  // How many bytes were touched.
  size_t bytes_read() const { return static_cast<size_t>((position_ + 7) >> 3); }

 private:
  std::string_view bytes_;
  uint64_t position_ = 0;
};

}  // namespace millstream::codec

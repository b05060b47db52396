// BitWriter and BitReader: runs of bits in bytes, the lowest bit of a byte first.
//
// Errors      Read returns false when fewer bits are left than asked for.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace millstream::codec {

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
    uint64_t result = 0;
    int have = 0;
    while (have < width) {
      const int used = static_cast<int>(position_ & 7);
      const int take = width - have < 8 - used ? width - have : 8 - used;
      const uint64_t byte = static_cast<uint8_t>(bytes_[position_ >> 3]);
      result |= ((byte >> used) & ((uint64_t{1} << take) - 1)) << have;
      have += take;
      position_ += static_cast<uint64_t>(take);
    }
    *bits = result;
    return true;
  }
  // How many bytes were touched.
  size_t bytes_read() const { return static_cast<size_t>((position_ + 7) >> 3); }

 private:
  std::string_view bytes_;
  uint64_t position_ = 0;
};

}  // namespace millstream::codec

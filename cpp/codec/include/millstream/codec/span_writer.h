// SpanWriter: what ByteWriter writes (byte_io.h), into memory whose size was counted before.
//
// Ownership   Borrows the memory.
// Errors      None: writing more than the memory holds is a bug, and aborts.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "millstream/base/check.h"

namespace millstream::codec {

// How many bytes a varint has.
constexpr size_t VarintBytes(uint64_t value) {
  return value < 0x80 ? 1 : (static_cast<size_t>(std::bit_width(value)) + 6) / 7;
}

class SpanWriter {
 public:
  explicit SpanWriter(std::span<char> out) : at_(out.data()), end_(out.data() + out.size()) {}

  void U8(uint8_t value) { Fixed(value); }
  void U32(uint32_t value) { Fixed(value); }
  void U64(uint64_t value) { Fixed(value); }
  void Varint(uint64_t value) {
    while (value >= 0x80) {
      U8(static_cast<uint8_t>(value | 0x80));
      value >>= 7;
    }
    U8(static_cast<uint8_t>(value));
  }
  // Both return what was written of `bytes`, where it stands now.
  std::string_view Bytes(std::string_view bytes) {
    Varint(bytes.size());
    return Raw(bytes);
  }
  std::string_view Raw(std::string_view bytes) {
    char* const at = Take(bytes.size());
    if (!bytes.empty()) std::memcpy(at, bytes.data(), bytes.size());
    return {at, bytes.size()};
  }

  size_t left() const { return static_cast<size_t>(end_ - at_); }
  bool is_full() const { return at_ == end_; }

 private:
  static_assert(std::endian::native == std::endian::little, "integers are written as they are in memory");

  template <typename T>
  void Fixed(T value) {
    std::memcpy(Take(sizeof(value)), &value, sizeof(value));
  }
  char* Take(size_t bytes) {
    MS_CHECK(left() >= bytes);
    char* const at = at_;
    at_ += bytes;
    return at;
  }

  char* at_;
  char* const end_;
};

}  // namespace millstream::codec

// ByteWriter and ByteReader: integers, doubles and strings as bytes, little-endian.
//
// Layout      Varint: seven bits a byte, lowest first, the top bit says that more follow; at most ten bytes. Signed
//             ones are mapped 0, -1, 1, -2, … to 0, 1, 2, 3, … first. Bytes: a varint length, then the bytes.
// Errors      A read returns false when the bytes end too early or are no such number; the reader must not be used
//             afterwards.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace millstream::codec {

static_assert(std::endian::native == std::endian::little, "integers are written as they are in memory");

inline uint64_t ZigZag(int64_t value) {
  return (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
}
inline int64_t UnZigZag(uint64_t value) {
  return static_cast<int64_t>((value >> 1) ^ (~(value & 1) + 1));
}

// Ownership   Appends to a string that it borrows.
class ByteWriter {
 public:
  explicit ByteWriter(std::string* out) : out_(*out) {}

  void U8(uint8_t value) { out_.push_back(static_cast<char>(value)); }
  void U32(uint32_t value) { Fixed(value); }
  void U64(uint64_t value) { Fixed(value); }
  void Double(double value) { U64(std::bit_cast<uint64_t>(value)); }
  void Varint(uint64_t value) {
    std::array<char, 10> bytes;
    size_t count = 0;
    while (value >= 0x80) {
      bytes[count++] = static_cast<char>(value | 0x80);
      value >>= 7;
    }
    bytes[count++] = static_cast<char>(value);
    out_.append(bytes.data(), count);
  }
  void SignedVarint(int64_t value) { Varint(ZigZag(value)); }
  void Bytes(std::string_view bytes) {
    Varint(bytes.size());
    out_.append(bytes);
  }
  void Raw(std::string_view bytes) { out_.append(bytes); }

  std::string& out() { return out_; }

 private:
  template <typename T>
  void Fixed(T value) {
    const auto bytes = std::bit_cast<std::array<char, sizeof(T)>>(value);
    out_.append(bytes.data(), bytes.size());
  }

  std::string& out_;
};

// Ownership   Borrows the bytes.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : rest_(bytes) {}

  size_t remaining() const { return rest_.size(); }
  std::string_view rest() const { return rest_; }
  bool empty() const { return rest_.empty(); }

  [[nodiscard]] bool U8(uint8_t* value) {
    if (rest_.empty()) return false;
    *value = static_cast<uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return true;
  }
  [[nodiscard]] bool U32(uint32_t* value) { return Fixed(value); }
  [[nodiscard]] bool U64(uint64_t* value) { return Fixed(value); }
  [[nodiscard]] bool Double(double* value) {
    uint64_t bits = 0;
    if (!Fixed(&bits)) return false;
    *value = std::bit_cast<double>(bits);
    return true;
  }
  [[nodiscard]] bool Varint(uint64_t* value) {
    // Most are of one byte.
    if (!rest_.empty() && static_cast<uint8_t>(rest_.front()) < 0x80) {
      *value = static_cast<uint8_t>(rest_.front());
      rest_.remove_prefix(1);
      return true;
    }
    return LongVarint(value);
  }
  [[nodiscard]] bool SignedVarint(int64_t* value) {
    uint64_t raw = 0;
    if (!Varint(&raw)) return false;
    *value = UnZigZag(raw);
    return true;
  }
  // A varint that must not exceed `max`.
  [[nodiscard]] bool Count(uint64_t* value, uint64_t max) { return Varint(value) && *value <= max; }
  [[nodiscard]] bool Bytes(std::string_view* bytes) {
    uint64_t length = 0;
    return Varint(&length) && Raw(length, bytes);
  }
  [[nodiscard]] bool Raw(uint64_t length, std::string_view* bytes) {
    if (length > rest_.size()) return false;
    *bytes = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return true;
  }

 private:
  [[nodiscard]] bool LongVarint(uint64_t* value) {
    uint64_t result = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      uint8_t byte = 0;
      if (!U8(&byte)) return false;
      // The tenth byte has room for one bit only.
      if (shift == 63 && byte > 1) return false;
      result |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if ((byte & 0x80) == 0) {
        *value = result;
        return true;
      }
    }
    return false;
  }
  template <typename T>
  [[nodiscard]] bool Fixed(T* value) {
    if (rest_.size() < sizeof(T)) return false;
    std::memcpy(value, rest_.data(), sizeof(T));
    rest_.remove_prefix(sizeof(T));
    return true;
  }

  std::string_view rest_;
};

}  // namespace millstream::codec

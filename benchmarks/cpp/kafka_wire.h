// Kafka's bytes, as far as load generators write and read them.
//
// Source  https://kafka.apache.org/protocol#protocol_types
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace millstream::bench {

class KafkaWriter {
 public:
  template <typename T>
  KafkaWriter& Put(T value) {
    for (int shift = 8 * (static_cast<int>(sizeof(T)) - 1); shift >= 0; shift -= 8) {
      bytes += static_cast<char>(static_cast<uint64_t>(value) >> shift & 0xFF);
    }
    return *this;
  }
  KafkaWriter& Zigzag(int64_t value) {
    auto rest = static_cast<uint64_t>(value) << 1 ^ static_cast<uint64_t>(value >> 63);
    for (; rest >= 0x80; rest >>= 7) bytes += static_cast<char>(rest | 0x80);
    bytes += static_cast<char>(rest);
    return *this;
  }
  KafkaWriter& Text(std::string_view text) {
    Put(static_cast<int16_t>(text.size()));
    bytes += text;
    return *this;
  }

  // With its length in front, as a request goes out.
  std::string Framed() const { return KafkaWriter().Put(static_cast<int32_t>(bytes.size())).bytes + bytes; }

  std::string bytes;
};

// The number of `count` bytes at `at`.
inline uint64_t KafkaNumber(std::string_view bytes, size_t at, size_t count) {
  uint64_t value = 0;
  for (size_t i = 0; i < count; ++i) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  return value;
}

}  // namespace millstream::bench

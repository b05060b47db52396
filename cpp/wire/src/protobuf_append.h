// Appends fields of protobuf messages to a string.
//
// Source      protobuf.dev, "Encoding".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "millstream/codec/byte_io.h"

namespace millstream::wire {

inline void PutVarint(uint64_t value, std::string* out) {
  codec::ByteWriter(out).Varint(value);
}

inline void PutDouble(double value, std::string* out) {
  codec::ByteWriter(out).Double(value);
}

inline void PutVarintField(uint32_t field, uint64_t value, std::string* out) {
  PutVarint(uint64_t{field} << 3, out);
  PutVarint(value, out);
}

inline void PutDoubleField(uint32_t field, double value, std::string* out) {
  PutVarint(uint64_t{field} << 3 | 1, out);
  PutDouble(value, out);
}

// A string, or a message that is encoded already.
inline void PutBytesField(uint32_t field, std::string_view bytes, std::string* out) {
  PutVarint(uint64_t{field} << 3 | 2, out);
  PutVarint(bytes.size(), out);
  out->append(bytes);
}

}  // namespace millstream::wire

// ProtobufReader: a cursor over the fields of one protobuf message.
//
// Errors      kInvalidArgument at the first malformed byte, with its position in the message. Lengths are compared with
//             what is left before they are used.
// Source      protobuf.dev, "Encoding".
#pragma once

#include <cstdint>
#include <string_view>

#include "millstream/base/result.h"

namespace millstream::wire {

enum class WireType : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

class ProtobufReader {
 public:
  // `origin` is where `message` begins within the request, for error texts.
  explicit ProtobufReader(std::string_view message, size_t origin = 0)
      : begin_(message.data()), position_(message.data()), end_(message.data() + message.size()), origin_(origin) {}

  bool done() const { return position_ == end_; }
  size_t offset() const { return origin_ + static_cast<size_t>(position_ - begin_); }
  const char* position() const { return position_; }

  // Reads a tag; field() and wire_type() then describe what follows.
  Status Next();
  uint32_t field() const { return field_; }
  WireType wire_type() const { return wire_type_; }

  Result<uint64_t> Varint();
  Result<double> Double();
  Result<std::string_view> Bytes();
  Status Skip();

  // kInvalidArgument unless the field just read has this type.
  Status Expect(WireType type) const;

 private:
  Status Malformed(std::string_view what) const;

  const char* begin_;
  const char* position_;
  const char* end_;
  size_t origin_;
  uint32_t field_ = 0;
  WireType wire_type_ = WireType::kVarint;
};

inline int64_t ZigZag(uint64_t value) {
  return static_cast<int64_t>((value >> 1) ^ (~(value & 1) + 1));
}

}  // namespace millstream::wire

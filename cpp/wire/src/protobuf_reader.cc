#include "protobuf_reader.h"

#include <bit>
#include <cstring>

namespace millstream::wire {
namespace {

constexpr int kReadVarintBytesMax = 10;

}  // namespace

Status ProtobufReader::Malformed(std::string_view what) const {
  return InvalidArgument("malformed protobuf at byte {}: {}", offset(), what);
}

Result<uint64_t> ProtobufReader::Varint() {
  uint64_t value = 0;
  for (int i = 0; i < kReadVarintBytesMax; ++i) {
    if (position_ == end_) return Malformed("the message ends inside a number");
    const auto byte = static_cast<unsigned char>(*position_++);
    value |= uint64_t{byte & 0x7Fu} << (7 * i);
    if (byte < 0x80) return value;
  }
  return Malformed("a number is longer than 10 bytes");
}

Status ProtobufReader::Next() {
  MS_ASSIGN_OR_RETURN(const uint64_t tag, Varint());
  if (tag >> 3 == 0 || tag >> 3 > 0x1FFFFFFF) return Malformed("bad field number");
  field_ = static_cast<uint32_t>(tag >> 3);
  switch (tag & 7) {
    case 0:
    case 1:
    case 2:
    case 5:
      wire_type_ = static_cast<WireType>(tag & 7);
      return Status::Ok();
    default:
      return Malformed("unsupported wire type");
  }
}

Result<double> ProtobufReader::Double() {
  uint64_t bits;
  if (static_cast<size_t>(end_ - position_) < sizeof(bits)) return Malformed("the message ends inside a double");
  std::memcpy(&bits, position_, sizeof(bits));
  if constexpr (std::endian::native == std::endian::big) bits = __builtin_bswap64(bits);
  position_ += sizeof(bits);
  return std::bit_cast<double>(bits);
}

Result<std::string_view> ProtobufReader::Bytes() {
  MS_ASSIGN_OR_RETURN(const uint64_t length, Varint());
  if (length > static_cast<uint64_t>(end_ - position_)) return Malformed("a length reaches past the end");
  const std::string_view bytes(position_, length);
  position_ += length;
  return bytes;
}

Status ProtobufReader::Skip() {
  switch (wire_type_) {
    case WireType::kVarint: {
      return Varint().ok() ? Status::Ok() : Malformed("the message ends inside a number");
    }
    case WireType::kFixed64:
    case WireType::kFixed32: {
      const size_t width = wire_type_ == WireType::kFixed64 ? 8 : 4;
      if (static_cast<size_t>(end_ - position_) < width) return Malformed("the message ends inside a fixed number");
      position_ += width;
      return Status::Ok();
    }
    case WireType::kBytes: {
      MS_ASSIGN_OR_RETURN([[maybe_unused]] const std::string_view skipped, Bytes());
      return Status::Ok();
    }
  }
  return Malformed("unsupported wire type");
}

Status ProtobufReader::Expect(WireType type) const {
  if (wire_type_ != type) return Malformed("a field has the wrong type");
  return Status::Ok();
}

}  // namespace millstream::wire

// Loops over the fields of protobuf messages.
#pragma once

#include <string_view>

#include "protobuf_reader.h"

namespace millstream::wire {

// A message, perhaps within another, and where it begins in the whole.
struct Child {
  std::string_view bytes;
  size_t origin = 0;
};

// Calls visit(reader) for each field; it must read or skip the field's value.
template <typename Visit>
Status ForEachField(const Child& message, Visit visit) {
  ProtobufReader reader(message.bytes, message.origin);
  while (!reader.done()) {
    MS_RETURN_IF_ERROR(reader.Next());
    MS_RETURN_IF_ERROR(visit(reader));
  }
  return Status::Ok();
}

// A repeated scalar, packed or not: calls read(reader) for each element.
template <typename Read>
Status ReadRepeated(ProtobufReader& reader, WireType element, Read read) {
  if (reader.wire_type() != WireType::kBytes) {
    MS_RETURN_IF_ERROR(reader.Expect(element));
    return read(reader);
  }
  MS_ASSIGN_OR_RETURN(const std::string_view packed, reader.Bytes());
  ProtobufReader elements(packed, reader.offset() - packed.size());
  while (!elements.done()) MS_RETURN_IF_ERROR(read(elements));
  return Status::Ok();
}

// Each reads the value of the field that was just read; another wire type is kInvalidArgument.
inline Status ReadVarint(ProtobufReader& reader, uint64_t* out) {
  MS_RETURN_IF_ERROR(reader.Expect(WireType::kVarint));
  MS_ASSIGN_OR_RETURN(*out, reader.Varint());
  return Status::Ok();
}

inline Status ReadInt64(ProtobufReader& reader, int64_t* out) {
  uint64_t raw = 0;
  MS_RETURN_IF_ERROR(ReadVarint(reader, &raw));
  *out = static_cast<int64_t>(raw);
  return Status::Ok();
}

inline Status ReadZigZag32(ProtobufReader& reader, int32_t* out) {
  uint64_t raw = 0;
  MS_RETURN_IF_ERROR(ReadVarint(reader, &raw));
  *out = static_cast<int32_t>(ZigZag(raw));
  return Status::Ok();
}

inline Status ReadBytes(ProtobufReader& reader, std::string_view* out) {
  MS_RETURN_IF_ERROR(reader.Expect(WireType::kBytes));
  MS_ASSIGN_OR_RETURN(*out, reader.Bytes());
  return Status::Ok();
}

inline Status ReadChild(ProtobufReader& reader, Child* out) {
  MS_RETURN_IF_ERROR(ReadBytes(reader, &out->bytes));
  out->origin = reader.offset() - out->bytes.size();
  return Status::Ok();
}

inline Status ReadDouble(ProtobufReader& reader, double* out) {
  MS_RETURN_IF_ERROR(reader.Expect(WireType::kFixed64));
  MS_ASSIGN_OR_RETURN(*out, reader.Double());
  return Status::Ok();
}

}  // namespace millstream::wire

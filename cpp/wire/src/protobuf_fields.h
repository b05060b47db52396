// Loops over the fields of protobuf messages.
#pragma once

#include <string_view>

#include "protobuf_reader.h"

namespace millstream::wire {

// Calls visit(reader) for each field; it must read or skip the field's value.
template <typename Visit>
Status ForEachField(std::string_view message, size_t origin, Visit visit) {
  ProtobufReader reader(message, origin);
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

// A timestamp or another int64 of the field that was just read.
inline Status ReadInt64(ProtobufReader& reader, int64_t* out) {
  MS_RETURN_IF_ERROR(reader.Expect(WireType::kVarint));
  MS_ASSIGN_OR_RETURN(const uint64_t raw, reader.Varint());
  *out = static_cast<int64_t>(raw);
  return Status::Ok();
}

inline Status ReadDouble(ProtobufReader& reader, double* out) {
  MS_RETURN_IF_ERROR(reader.Expect(WireType::kFixed64));
  MS_ASSIGN_OR_RETURN(*out, reader.Double());
  return Status::Ok();
}

}  // namespace millstream::wire

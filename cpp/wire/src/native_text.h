// What all native frames and datagrams have in common.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "millstream/base/result.h"
#include "millstream/codec/byte_io.h"

namespace millstream::wire {

// Of at most kNativeTextBytesMax bytes.
bool ReadNativeText(codec::ByteReader& in, std::string_view* text);

// A datagram: a magic number, a checksum of all behind it, who sends, and the rest.
struct NativeEnvelope {
  uint64_t client = 0;
  uint64_t sequence = 0;
  std::string_view key;
  std::string_view tenant;
  std::string_view rest;
};
Result<std::string> EncodeNativeEnvelope(std::string_view magic, const NativeEnvelope& envelope);
// `what` is what the bytes should be.
Result<NativeEnvelope> DecodeNativeEnvelope(std::string_view magic, std::string_view what, std::string_view bytes);

}  // namespace millstream::wire

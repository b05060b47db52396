// What all native frames and datagrams have in common.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "millstream/base/result.h"
#include "millstream/base/status.h"
#include "millstream/codec/byte_io.h"

namespace millstream::wire {

// What the first frame of a connection begins with.
inline constexpr std::string_view kNativeHelloMagic = "MSN1";

Status MalformedNative(std::string_view what);
bool ReadNativeCode(codec::ByteReader& in, StatusCode* code);
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

#include "native_text.h"

#include "millstream/codec/crc32c.h"
#include "millstream/wire/native_frame.h"

namespace millstream::wire {

using codec::ByteReader;
using codec::ByteWriter;

Status MalformedNative(std::string_view what) {
  return InvalidArgument("the {} frame is cut off or malformed", what);
}

bool ReadNativeCode(ByteReader& in, StatusCode* code) {
  uint8_t number = 0;
  if (!in.U8(&number) || number > static_cast<uint8_t>(StatusCode::kUnauthenticated)) return false;
  *code = static_cast<StatusCode>(number);
  return true;
}

bool ReadNativeText(ByteReader& in, std::string_view* text) {
  return in.Bytes(text) && text->size() <= kNativeTextBytesMax;
}

Result<std::string> EncodeNativeEnvelope(std::string_view magic, const NativeEnvelope& envelope) {
  std::string checked;
  ByteWriter out(&checked);
  out.U64(envelope.client);
  out.U64(envelope.sequence);
  out.Bytes(envelope.key);
  out.Bytes(envelope.tenant);
  out.Raw(envelope.rest);
  const size_t size = magic.size() + sizeof(uint32_t) + checked.size();
  if (size > kNativeDatagramBytesMax) {
    return ResourceExhausted("a datagram of {} bytes; the limit is {}", size, kNativeDatagramBytesMax);
  }
  std::string bytes(magic);
  ByteWriter(&bytes).U32(codec::Crc32c(checked));
  return bytes + checked;
}

Result<NativeEnvelope> DecodeNativeEnvelope(std::string_view magic, std::string_view what, std::string_view bytes) {
  ByteReader in(bytes);
  std::string_view found;
  uint32_t checksum = 0;
  if (!in.Raw(magic.size(), &found) || found != magic || !in.U32(&checksum)) {
    return InvalidArgument("this is no {}", what);
  }
  if (codec::Crc32c(in.rest()) != checksum) return DataLoss("the checksum of a datagram does not match");
  NativeEnvelope out;
  if (!in.U64(&out.client) || !in.U64(&out.sequence) || !ReadNativeText(in, &out.key) ||
      !ReadNativeText(in, &out.tenant)) {
    return InvalidArgument("the datagram is cut off or malformed");
  }
  out.rest = in.rest();
  return out;
}

}  // namespace millstream::wire

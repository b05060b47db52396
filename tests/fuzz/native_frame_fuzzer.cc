#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "millstream/codec/byte_io.h"
#include "millstream/codec/crc32c.h"
#include "millstream/wire/column_batch.h"
#include "millstream/wire/native_frame.h"
#include "wire_fuzz.h"

namespace {

using namespace millstream::wire;  // NOLINT(google-build-using-namespace)

void Run(std::string_view bytes, size_t step) {
  NativeSession session({.series_max = 100, .label_bytes_max = 10'000});
  for (size_t at = 0; at < bytes.size(); at += step) {
    session.Feed(bytes.substr(at, step));
    while (true) {
      const auto event = session.Next();
      if (!event.ok()) return;
      if (!*event) break;
      if (const auto* write = std::get_if<NativeSession::Write>(&**event)) {
        CheckDecoded(write->samples);
        MS_CHECK(DecodeColumnBatch(EncodeColumnBatch(write->samples)).ok());
      }
    }
  }
}

// Frames out of the input, so that the fuzzer need not find checksums: a type and a length, then the payload.
std::string Framed(std::string_view bytes) {
  std::string out = EncodeNative(NativeHello{});
  while (bytes.size() >= 2) {
    const size_t size = std::min<size_t>(static_cast<uint8_t>(bytes[1]), bytes.size() - 2);
    std::string frame;
    millstream::codec::ByteWriter writer(&frame);
    writer.U32(static_cast<uint32_t>(size));
    writer.U8(static_cast<uint8_t>(bytes[0]));
    for (int i = 0; i < 3; ++i) writer.U8(0);
    const std::string_view payload = bytes.substr(2, size);
    writer.U32(millstream::codec::Crc32cExtend(millstream::codec::Crc32c(frame), payload));
    out += frame;
    out += payload;
    bytes.remove_prefix(2 + size);
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  Run(bytes, 7);
  Run(Framed(bytes), 1'000'000);
  NativeFrameReader reader;
  reader.Feed(Framed(bytes));
  while (true) {
    const auto frame = reader.Next();
    if (!frame.ok() || !*frame) break;
    (void)DecodeNativeAnswer(**frame).ok();
  }
  const auto datagram = DecodeNativeDatagram(bytes);
  if (datagram.ok()) (void)DecodeColumnBatch(std::string(datagram->batch)).ok();
  return 0;
}

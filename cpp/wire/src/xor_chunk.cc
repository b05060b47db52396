#include "xor_chunk.h"

#include <cstdint>

#include "chunk_bits.h"
#include "millstream/codec/byte_io.h"
#include "protobuf_append.h"

namespace millstream::wire {
namespace {

void WriteDeltaOfDelta(int64_t value, HighBitWriter* out) {
  if (value == 0) return out->Write(0, 1);
  if (FitsSigned(value, 14)) {
    out->Write(0b10, 2);
    return out->Write(static_cast<uint64_t>(value), 14);
  }
  if (FitsSigned(value, 17)) {
    out->Write(0b110, 3);
    return out->Write(static_cast<uint64_t>(value), 17);
  }
  if (FitsSigned(value, 20)) {
    out->Write(0b1110, 4);
    return out->Write(static_cast<uint64_t>(value), 20);
  }
  out->Write(0b1111, 4);
  out->Write(static_cast<uint64_t>(value), 64);
}

}  // namespace

std::string EncodeXorChunk(std::span<const TimestampMs> timestamps, std::span<const double> values) {
  std::string chunk;
  chunk.push_back(static_cast<char>(timestamps.size() >> 8));
  chunk.push_back(static_cast<char>(timestamps.size()));
  HighBitWriter out(&chunk);
  XorColumn column;
  uint64_t delta = 0;
  for (size_t i = 0; i < timestamps.size(); ++i) {
    std::string number;
    if (i == 0) {
      PutVarint(codec::ZigZag(timestamps[0]), &number);
      out.WriteBytes(number);
      column.WriteFirst(values[0], &out);
      continue;
    }
    // Modulo 2^64, as the reader adds.
    const uint64_t next = static_cast<uint64_t>(timestamps[i]) - static_cast<uint64_t>(timestamps[i - 1]);
    if (i == 1) {
      PutVarint(next, &number);
      out.WriteBytes(number);
    } else {
      WriteDeltaOfDelta(static_cast<int64_t>(next - delta), &out);
    }
    delta = next;
    column.Write(values[i], &out);
  }
  return chunk;
}

}  // namespace millstream::wire

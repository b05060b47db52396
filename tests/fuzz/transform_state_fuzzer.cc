// What metric rules have counted: what decodes is encoded to the same again. The checksum is put right first, so that
// bytes get past it.
#include <cstddef>
#include <cstdint>
#include <string>

#include "millstream/base/check.h"
#include "millstream/codec/byte_io.h"
#include "millstream/codec/crc32c.h"
#include "transform_state.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  millstream::codec::ByteWriter(&bytes).U32(millstream::codec::Crc32c(bytes));
  const auto state = millstream::engine::DecodeTransformState(bytes);
  if (!state.ok()) return 0;
  const auto twice = millstream::engine::DecodeTransformState(millstream::engine::EncodeTransformState(*state));
  MS_CHECK(twice.ok() && *twice == *state);
  return 0;
}

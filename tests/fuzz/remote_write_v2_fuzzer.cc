#include <cstddef>
#include <cstdint>
#include <string>

#include "millstream/wire/remote_write.h"
#include "wire_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto decoded = millstream::wire::DecodeRemoteWriteV2(bytes); decoded.ok()) {
    millstream::wire::CheckDecoded(*decoded);
  }
  if (const auto decoded = millstream::wire::DecodeRemoteWriteV2Message(std::string(bytes)); decoded.ok()) {
    millstream::wire::CheckDecoded(*decoded);
  }
  return 0;
}

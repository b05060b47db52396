#include <cstddef>
#include <cstdint>
#include <string_view>

#include "millstream/wire/line_protocol.h"
#include "wire_fuzz.h"

// The first byte chooses the precision, the rest is the body.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  const auto precision = static_cast<millstream::wire::LinePrecision>(data[0] % 6);
  const auto decoded = millstream::wire::DecodeLineProtocol(text, precision, 0);
  if (decoded.ok()) millstream::wire::CheckDecoded(*decoded);
  return 0;
}

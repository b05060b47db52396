#include <cstddef>
#include <cstdint>
#include <string_view>

#include "millstream/wire/json_metrics.h"
#include "wire_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto decoded = millstream::wire::DecodeJsonMetrics(text, 0); decoded.ok()) {
    millstream::wire::CheckDecoded(*decoded);
  }
  return 0;
}

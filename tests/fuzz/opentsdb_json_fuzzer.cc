#include <cstddef>
#include <cstdint>
#include <string_view>

#include "millstream/wire/opentsdb_json.h"
#include "wire_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto decoded = millstream::wire::DecodeOpenTsdbJson({reinterpret_cast<const char*>(data), size});
  if (decoded.ok()) millstream::wire::CheckDecoded(*decoded);
  return 0;
}

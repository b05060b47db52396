#include <cstddef>
#include <cstdint>
#include <string>

#include "millstream/wire/column_batch.h"
#include "wire_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millstream::wire;  // NOLINT(google-build-using-namespace)
  const auto decoded = DecodeColumnBatch(std::string(reinterpret_cast<const char*>(data), size));
  if (!decoded.ok()) return 0;
  CheckDecoded(*decoded);
  MS_CHECK(DecodeColumnBatch(EncodeColumnBatch(*decoded)).ok());
  return 0;
}

#include <cstddef>
#include <cstdint>
#include <string>

#include "millstream/wire/text_exposition.h"
#include "wire_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using millstream::wire::TextFormat;
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const TextFormat format : {TextFormat::kPrometheus, TextFormat::kOpenMetrics}) {
    millstream::wire::CheckDecoded(millstream::wire::DecodeTextExposition(text, format, 0));
  }
  return 0;
}

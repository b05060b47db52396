#include <cstddef>
#include <cstdint>
#include <string_view>

#include "millstream/wire/otlp.h"
#include "wire_fuzz.h"

// The first byte chooses the encoding and the options.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millstream::wire;
  if (size == 0) return 0;
  const auto has = [&](int bit) { return (data[0] >> bit & 1) != 0; };
  OtlpOptions options;
  options.escape_names = !has(1);
  options.add_suffixes = !has(2);
  options.promote_all_resource_attributes = has(3);
  options.promote_scope_metadata = has(4);
  options.convert_histograms_to_nhcb = has(5);
  options.keep_identifying_resource_attributes = has(6);
  options.label_name_preserve_multiple_underscores = !has(7);
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto decoded = DecodeOtlp(body, has(0) ? OtlpEncoding::kJson : OtlpEncoding::kProtobuf, options);
  if (decoded.ok()) CheckDecoded(*decoded);
  return 0;
}

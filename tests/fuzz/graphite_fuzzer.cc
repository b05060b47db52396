#include <cstddef>
#include <cstdint>
#include <string_view>

#include "millstream/wire/column_batch.h"
#include "millstream/wire/graphite.h"
#include "wire_fuzz.h"

// The text up to the first zero byte is a rule's pattern and its name; what follows is lines.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millstream::wire;  // NOLINT(google-build-using-namespace)
  std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t zero = text.find('\0');
  const std::string pattern(text.substr(0, zero));
  auto mapping = GraphiteMapping::Make({{.match = pattern, .name = pattern, .labels = {{"a", pattern}}}}, false);
  if (!mapping.ok())
    mapping = GraphiteMapping::Make({{.match = "a.*.c*", .name = "$1", .labels = {{"a", "$2"}}}}, false);
  if (zero != std::string_view::npos) text.remove_prefix(zero + 1);
  GraphiteDecoder decoder(std::move(mapping).value(), 4);
  const DecodedWrite decoded = decoder.Decode(text, 0);
  CheckDecoded(decoded);
  const auto again = DecodeColumnBatch(EncodeColumnBatch(decoded));
  MS_CHECK(again.ok() && again->values.size() == decoded.values.size());
  return 0;
}

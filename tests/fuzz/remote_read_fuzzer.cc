#include <cstddef>
#include <cstdint>
#include <string_view>

#include "millstream/base/check.h"
#include "millstream/wire/remote_read.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace wire = millstream::wire;
  const auto request = wire::DecodeReadRequest(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!request.ok()) return 0;
  MS_CHECK(request->queries.size() <= wire::kReadQueriesMax);
  MS_CHECK(request->takes_samples || request->takes_chunks);
  for (const wire::ReadQuery& query : request->queries) MS_CHECK(query.matchers.size() <= wire::kReadMatchersMax);
  return 0;
}

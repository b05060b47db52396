// PromQL: any text parses or is refused; what parses prints to text that parses to the same tree, on one line and on
// several.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "millstream/base/check.h"
#include "millstream/promql/parser.h"

namespace {

constexpr millstream::promql::ParserOptions kEverything = {true, true, true};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view query(reinterpret_cast<const char*>(data), size);
  millstream::promql::ParseError error;
  const auto expr = millstream::promql::ParseExpr(query, kEverything, &error);
  if (!expr.ok()) {
    MS_CHECK(!expr.status().message().empty());
    MS_CHECK(error.position.start >= 0 && error.position.start <= static_cast<int64_t>(size) + 1);
    return 0;
  }
  const std::string printed = millstream::promql::Print(**expr);
  const auto again = millstream::promql::ParseExpr(printed, kEverything);
  // Printing may lengthen the text or deepen nothing; only the limit on length may refuse it.
  if (!again.ok() && printed.size() > millstream::promql::kQueryBytesMax) return 0;
  MS_CHECK(again.ok());
  MS_CHECK(millstream::promql::Print(**again) == printed);
  const auto pretty = millstream::promql::ParseExpr(millstream::promql::PrettyPrint(**expr), kEverything);
  if (!pretty.ok() && pretty.status().code() == millstream::StatusCode::kResourceExhausted) return 0;
  MS_CHECK(pretty.ok());
  MS_CHECK(millstream::promql::Print(**pretty) == printed);
  return 0;
}

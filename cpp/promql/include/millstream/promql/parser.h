// Parser: from a PromQL query's text to a type-checked tree.
//
// Errors      kInvalidArgument with Prometheus's wording and position: `1:5: parse error: unexpected …`. ParseError
//             tells the bytes.
// Cost        One pass over the text; memory proportional to it. Text longer than kQueryBytesMax is kResourceExhausted.
// Threads     Stateless.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/promql/ast.h"
#include "millstream/promql/literals.h"

namespace millstream::promql {

inline constexpr size_t kQueryBytesMax = 1 << 20;

struct ParserOptions {
  bool experimental_functions = false;    // promql-experimental-functions
  bool extended_range_selectors = false;  // promql-extended-range-selectors: anchored, smoothed
  bool binop_fill_modifiers = false;      // promql-binop-fill-modifiers
};

// What is wrong and where; `position` is in bytes of the query.
struct ParseError {
  PositionRange position;
  std::string message;  // without the position
};

// On failure *error, unless null, receives the position for the editor.
Result<ExprPtr> ParseExpr(std::string_view query, const ParserOptions& options = {}, ParseError* error = nullptr);

// A lone selector such as up{job="a"}, as in match[]. At least one matcher must not match the empty string.
Result<std::vector<model::Matcher>> ParseMetricSelector(std::string_view text);

// The expression as text that parses to the same tree, in Prometheus's canonical spelling.
std::string Print(const Expr& expr);
// The same over several indented lines where it is long: /api/v1/format_query.
std::string PrettyPrint(const Expr& expr);

// Line and column (both from 1, columns in bytes as Prometheus counts them) of a byte of the query: "1:5".
std::string LineColumn(std::string_view query, int32_t byte);

}  // namespace millstream::promql

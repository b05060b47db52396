// Literals: how PromQL writes numbers, strings and durations, for the parser, the printer and test scripts.
//
// Source      Go's strconv, whose syntax PromQL inherits.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "millstream/base/result.h"
#include "millstream/promql/ast.h"

namespace millstream::promql {

// A number as PromQL writes it, with an optional sign: decimal, hexadecimal, octal (0755), 1e3, Inf, NaN, single
// underscores between digits. Nothing when `text` is none.
std::optional<double> ParseNumber(std::string_view text);

// The value of a string literal, quotes included: "…" and '…' with escapes, `…` raw. Nothing when it is malformed.
std::optional<std::string> Unquote(std::string_view literal);

// The shortest decimal that reads back as `value`: strconv's 'f' format with precision -1. +Inf, -Inf, NaN.
std::string FormatNumber(double value);

// A duration as Prometheus writes it (1h30m, 5m, 100ms), in ms. Negative durations and fractions do not exist here.
Result<int64_t> ParseDuration(std::string_view text);
// The same text again; negative durations get a minus.
std::string FormatDuration(int64_t ms);

// The value of `duration` for a query of the given step and range (end minus start), in ms.
//
// Errors      kInvalidArgument: division by zero, a result that is not finite or, unless `may_be_negative`, not
//             positive.
Result<int64_t> ResolveDuration(const Duration& duration, int64_t step_ms, int64_t range_ms, bool may_be_negative);

}  // namespace millstream::promql

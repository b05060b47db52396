// Rewrite: an expression with every selector pinned to a time by `@`.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "millstream/promql/parser.h"

namespace millstream::promqltest {

// The rewritten text; nothing when the expression calls a function whose result depends on the evaluation time. What
// stands inside a subquery is left alone: the outermost subquery is pinned.
std::optional<std::string> PinSelectors(std::string_view expression, const promql::ParserOptions& options,
                                        TimestampMs time);

// Calls `visit` for every selector of `expr`.
void VisitSelectors(const promql::Expr& expr, const std::function<void(const promql::VectorSelector&)>& visit);

}  // namespace millstream::promqltest

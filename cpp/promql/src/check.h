// Check: the types of a syntax tree, bottom up.
#pragma once

#include <optional>
#include <string_view>

#include "millstream/promql/ast.h"
#include "millstream/promql/parser.h"

namespace millstream::promql {

// Sets the type of every node of `expr` and drops vector matching between operands that are not both vectors. Returns
// the first thing that is wrong.
std::optional<ParseError> CheckTypes(Expr* expr, std::string_view query);

}  // namespace millstream::promql

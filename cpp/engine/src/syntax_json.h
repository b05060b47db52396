// The syntax tree of a PromQL expression in the JSON of Prometheus's /api/v1/parse_query.
//
// Threads     Stateless.
// Cost        One pass over the tree; memory proportional to it.
// Source      The answers of Prometheus 3.15, with which a test compares.
#pragma once

#include <string>

#include "millstream/promql/ast.h"

namespace millstream::engine {

std::string SyntaxJson(const promql::Expr& expr);

}  // namespace millstream::engine

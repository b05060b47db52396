// Compare: a query's result against what a script expects.
#pragma once

#include <optional>
#include <string>

#include "millstream/promql/value.h"
#include "script.h"

namespace millstream::promqltest {

// Each returns what is wrong, or nothing.

// `in_order`: the elements' order counts, too.
std::optional<std::string> CompareVector(const EvalCommand& eval, const promql::Vector& got, bool in_order);
std::optional<std::string> CompareMatrix(const EvalCommand& eval, const promql::Matrix& got);
std::optional<std::string> CompareScalar(double expected, double got);

// The relative error is below 1e-6; all NaNs but the stale marker are equal; zero equals only zero.
bool AlmostEqual(double a, double b);

}  // namespace millstream::promqltest

// Exact: numbers as JSON has them, compared without rounding whole ones.
#pragma once

#include <limits>

namespace millstream::events {

// Holds every int64, uint64 and double exactly.
using Exact = long double;
static_assert(std::numeric_limits<Exact>::digits >= 64);

}  // namespace millstream::events

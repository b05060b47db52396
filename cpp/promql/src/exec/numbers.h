// Names for the floats that are no finite numbers.
#pragma once

#include <limits>

namespace millstream::promql::exec {

inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
inline constexpr double kInf = std::numeric_limits<double>::infinity();

}  // namespace millstream::promql::exec

// Numbers and times as Prometheus prints them in messages and labels.
//
// Source      The rules of Go's strconv: the shortest digits that read back as the same number.
#pragma once

#include <string>

#include "millstream/base/strong_int.h"

namespace millstream::promql::exec {

// Go's %g: with an exponent below 1e-4 and from 10^exponent_from on, which is 6 for %g and kGoDefaultVerb for %v.
inline constexpr int kGoDefaultVerb = 21;
std::string FormatGo(double value, int exponent_from = 6);
// As OpenMetrics writes a number in a label: always with a point or an exponent.
std::string FormatOpenMetrics(double value);
// 2006-01-02T15:04:05Z.
std::string FormatRfc3339(TimestampMs time);

}  // namespace millstream::promql::exec

// The trim operators `</` and `>/`: a native histogram without its observations above or below a value.
#pragma once

#include "millstream/model/histogram.h"

namespace millstream::promql::exec {

// `keep_below`: `histogram </ bound`, else `histogram >/ bound`. What a bucket that the bound cuts keeps is
// interpolated, exponentially in exponential buckets. When anything was cut, the count is that of the buckets and the
// sum is estimated from their middles.
void TrimHistogram(model::Histogram* histogram, double bound, bool keep_below);

}  // namespace millstream::promql::exec

// Native histograms from OTLP's points.
#pragma once

#include "millstream/base/result.h"
#include "millstream/model/histogram.h"
#include "otlp_model.h"

namespace millstream::wire::otlp {

// kInvalidArgument unless the explicit bounds are finite and ascend, and there is one bucket more than bounds, or
// neither.
Status CheckBounds(const Point& point);

// With custom buckets. kInvalidArgument also when the buckets do not hold what the count says.
Result<model::Histogram> CustomBucketsHistogram(const Point& point);

// With exponential buckets, of half, a quarter, … the resolution where the scale is above what native histograms have.
// kInvalidArgument: the scale is below, or the buckets do not hold what the count says, or are out of range.
Result<model::Histogram> ExponentialHistogram(const Point& point);

}  // namespace millstream::wire::otlp

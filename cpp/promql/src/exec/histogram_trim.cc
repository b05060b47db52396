#include "exec/histogram_trim.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "exec/numbers.h"
#include "millstream/model/histogram_math.h"

namespace millstream::promql::exec {
namespace {

struct Extent {
  double lower = 0;
  double upper = 0;
};

// What is left of a bucket, and the value that stands for its observations.
struct Rest {
  double count = 0;
  double middle = 0;
};

double ZeroIfInfinite(double value) {
  return std::isinf(value) ? 0 : value;
}

// How many of `count` observations lie at or below the bound.
double CountBelow(Extent extent, double count, double bound, bool positive, bool linear) {
  if (bound <= extent.lower) return 0;
  if (bound >= extent.upper) return count;
  double fraction = 0;
  if (linear) {
    fraction = (bound - extent.lower) / (extent.upper - extent.lower);
  } else {
    const double lower = std::log2(std::fabs(extent.lower));
    const double upper = std::log2(std::fabs(extent.upper));
    const double at = std::log2(std::fabs(bound));
    fraction = positive ? (at - lower) / (upper - lower) : 1 - (at - upper) / (lower - upper);
  }
  return count * fraction;
}

// The arithmetic mean, or the geometric one where buckets grow exponentially. An end at infinity gives no middle: then
// it is the other end, or half of it where the extent can be taken to begin at zero.
double Middle(Extent extent, bool positive, bool linear) {
  if (std::isinf(extent.lower)) {
    if (std::isinf(extent.upper)) return 0;
    return extent.upper > 0 ? extent.upper / 2 : extent.upper;
  }
  if (std::isinf(extent.upper)) return extent.lower;
  if (linear) return (extent.lower + extent.upper) / 2;
  const double mean = std::sqrt(std::fabs(extent.lower * extent.upper));
  return positive ? mean : -mean;
}

class Trimmer {
 public:
  Trimmer(model::Histogram* histogram, double bound, bool keep_below)
      : histogram_(histogram), bound_(bound), keep_below_(keep_below), custom_(histogram->uses_custom_buckets()) {}

  void Run() {
    TrimSide(histogram_->positive_spans, &histogram_->positive_buckets, true);
    TrimSide(histogram_->negative_spans, &histogram_->negative_buckets, false);
    if (histogram_->zero_count > 0) Keep(TrimZero(), &histogram_->zero_count);
    if (!cut_) return;
    histogram_->count = count_;
    histogram_->sum = sum_;
    model::Compact(histogram_);
  }

 private:
  void Keep(Rest rest, double* count) {
    count_ += rest.count;
    sum_ += rest.middle * rest.count;
    if (*count == rest.count) return;
    *count = rest.count;
    cut_ = true;
  }

  Extent ExtentOf(int32_t index, bool positive) const {
    const double upper = model::BucketUpperBound(*histogram_, index);
    const double lower = model::BucketUpperBound(*histogram_, index - 1);
    return positive ? Extent{lower, upper} : Extent{-upper, -lower};
  }

  void TrimSide(const std::vector<model::Span>& spans, std::vector<double>* counts, bool positive) {
    int32_t index = 0;
    size_t at = 0;
    for (const model::Span& span : spans) {
      index += span.offset;
      for (uint32_t i = 0; i < span.length; ++i, ++index, ++at) {
        double* count = &(*counts)[at];
        if (*count == 0) continue;
        (positive ? has_positive_ : has_negative_) = true;
        Keep(TrimBucket(ExtentOf(index, positive), *count, positive), count);
      }
    }
  }

  Rest TrimBucket(Extent extent, double count, bool positive) const {
    const bool inside = keep_below_ ? extent.upper <= bound_ : extent.lower >= bound_;
    if (inside) return {count, Middle(extent, positive, custom_)};
    const bool outside = keep_below_ ? extent.lower >= bound_ : extent.upper <= bound_;
    if (outside) return {};
    if (extent.lower == -kInf) return TrimFromMinusInfinity(extent, count);
    if (extent.upper == kInf) return keep_below_ ? Rest{0, ZeroIfInfinite(extent.lower)} : Rest{count, bound_};
    const double below = CountBelow(extent, count, bound_, positive, custom_);
    if (keep_below_) return {below, Middle({extent.lower, bound_}, positive, custom_)};
    return {count - below, Middle({bound_, extent.upper}, positive, custom_)};
  }

  // Where the upper end is positive the bucket is taken to begin at zero. Otherwise nothing is known of it.
  Rest TrimFromMinusInfinity(Extent extent, double count) const {
    const bool finite = extent.upper != kInf;
    if (keep_below_) {
      if (bound_ > 0 && extent.upper > 0 && finite) return {count * bound_ / extent.upper, bound_ / 2};
      if (extent.upper <= 0) return {count, bound_};
    } else if (bound_ >= 0 && finite) {
      return {count * (1 - bound_ / extent.upper), (bound_ + extent.upper) / 2};
    }
    return {0, ZeroIfInfinite(extent.upper)};
  }

  // The zero bucket reaches to the side only where there are observations on that side, or on neither.
  Rest TrimZero() const {
    Extent extent{-histogram_->zero_threshold, histogram_->zero_threshold};
    if (has_negative_ && !has_positive_) extent.upper = 0;
    if (has_positive_ && !has_negative_) extent.lower = 0;
    const double count = histogram_->zero_count;
    const bool all = keep_below_ ? bound_ >= extent.upper : bound_ <= extent.lower;
    if (all) return {count, (extent.lower + extent.upper) / 2};
    const bool none = keep_below_ ? bound_ <= extent.lower : bound_ >= extent.upper;
    if (none) return {};
    const double width = extent.upper - extent.lower;
    if (keep_below_) return {count * ((bound_ - extent.lower) / width), (extent.lower + bound_) / 2};
    return {count * ((extent.upper - bound_) / width), (bound_ + extent.upper) / 2};
  }

  model::Histogram* histogram_;
  const double bound_;
  const bool keep_below_;
  const bool custom_;
  double count_ = 0;
  double sum_ = 0;
  bool cut_ = false;
  bool has_positive_ = false;
  bool has_negative_ = false;
};

}  // namespace

void TrimHistogram(model::Histogram* histogram, double bound, bool keep_below) {
  if (std::isnan(bound)) {
    // Nothing compares with NaN, so no bucket is kept; the zero bucket, which is always cut in proportion, becomes NaN.
    const double rest = histogram->zero_count > 0 ? bound : 0;
    histogram->zero_count = rest;
    histogram->count = rest;
    histogram->sum = rest;
    for (auto* counts : {&histogram->positive_buckets, &histogram->negative_buckets}) {
      std::fill(counts->begin(), counts->end(), 0.0);
    }
    model::Compact(histogram);
    return;
  }
  Trimmer(histogram, bound, keep_below).Run();
}

}  // namespace millstream::promql::exec

// Histogram arithmetic: what PromQL does with native histograms.
//
// Buckets of histograms of different resolution are brought to the coarser one, zero buckets of different width to the
// wider one, and custom buckets of different bounds to the bounds that both have.
// Threads     Stateless.
// Source      Prometheus's native-histogram specification.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/model/histogram.h"

namespace millstream::model {

struct Bucket {
  double lower = 0;
  double upper = 0;
  bool lower_inclusive = false;
  bool upper_inclusive = false;
  double count = 0;

  // The code of the HTTP API's JSON: 0 open left, 1 open right, 2 open both, 3 closed both.
  int boundary_rule() const { return lower_inclusive ? (upper_inclusive ? 3 : 1) : (upper_inclusive ? 0 : 2); }
};

// The upper bound of bucket `index` on the positive side.
double BucketUpperBound(const Histogram& histogram, int32_t index);

// All buckets by ascending bounds, the zero bucket among them when it has observations (not when it counts less than
// none, as a difference may). Empty buckets that the spans
// cover are included.
std::vector<Bucket> AllBuckets(const Histogram& histogram);

// What a caller has to warn of.
struct CombineOutcome {
  bool counter_reset_collision = false;  // one says reset, the other not_reset
  bool bounds_reconciled = false;        // custom bounds differed
};

// *histogram += or -= other. kInvalidArgument when one has custom buckets and the other has not.
Result<CombineOutcome> Add(Histogram* histogram, const Histogram& other);
Result<CombineOutcome> Subtract(Histogram* histogram, const Histogram& other);

// A sum of histograms with Kahan's compensation, as the aggregations sum and avg need it.
class HistogramSum {
 public:
  explicit HistogramSum(const Histogram& first);

  Result<CombineOutcome> Add(const Histogram& other);
  // Scales what was summed so far, its compensation included.
  void Multiply(double factor);
  void Divide(double divisor);
  // The sum of everything, divided by `divisor`.
  Histogram Total(double divisor = 1) const;
  // Whether a count or the sum has left the range of doubles.
  bool HasOverflow() const;

 private:
  Histogram value_;
  Histogram compensation_;  // of the same layout as value_
};

// A negative factor or divisor makes a gauge.
void Multiply(Histogram* histogram, double factor);
void Divide(Histogram* histogram, double divisor);

// Brings exponential buckets to the coarser `schema`; no effect when it is not coarser.
void ReduceResolution(Histogram* histogram, int32_t schema);
// Drops empty buckets and joins spans.
void Compact(Histogram* histogram);

// Whether the buckets of one are those of the other, place by place.
bool HaveOneLayout(const Histogram& a, const Histogram& b);

// Whether a counter was reset between the two samples of one series.
bool DetectReset(const Histogram& current, const Histogram& previous);

// Whether PromQL calls the two equal: the same figures in the same buckets; layouts of empty buckets and hints do not
// count, a NaN sum equals itself.
bool SameDistribution(const Histogram& a, const Histogram& b);

// What NaN observations did to a result. They are in the count but in no bucket; a NaN sum tells of them.
enum class NanEffect : uint8_t {
  kNone,
  kSkewed,       // a quantile is too high; a fraction leaves them out
  kResultIsNan,  // the rank is among them
};

struct QuantileOutcome {
  double value = 0;
  NanEffect nan_effect = NanEffect::kNone;
};
// Exponential interpolation in exponential buckets, linear in custom ones and in the zero bucket.
QuantileOutcome Quantile(double q, const Histogram& histogram);
// The share of observations between the bounds; NaN observations are in no fraction.
QuantileOutcome Fraction(double lower, double upper, const Histogram& histogram);
// The estimated variance of the observations.
double Variance(const Histogram& histogram);

// `{count:3, sum:5, (1,2]:3}` as Prometheus prints it.
std::string ToString(const Histogram& histogram);
// `value` as Go's %g prints it.
std::string FormatG(double value);

}  // namespace millstream::model

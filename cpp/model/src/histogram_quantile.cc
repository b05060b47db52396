#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <string_view>

#include "histogram_cells.h"
#include "millstream/model/histogram_math.h"

namespace millstream::model {
namespace {

// With observations on one side of zero only, the zero bucket is taken to reach from zero to that side.
void NarrowAroundZero(const Histogram& histogram, Bucket* bucket) {
  if (histogram.negative_buckets.empty() && !histogram.positive_buckets.empty()) {
    bucket->lower = 0;
  } else if (histogram.positive_buckets.empty() && !histogram.negative_buckets.empty()) {
    bucket->upper = 0;
  }
}

// How many observations lie below `value`, which is within `bucket`; `rank` lie below the bucket.
double RankWithin(const Bucket& bucket, double value, double rank, bool linear) {
  if (linear) {
    // Nothing can be said within a bucket that has no lower end.
    if (bucket.lower == -kInfinity) return bucket.count;
    return rank + bucket.count * (value - bucket.lower) / (bucket.upper - bucket.lower);
  }
  const double log_lower = std::log2(std::abs(bucket.lower));
  const double log_upper = std::log2(std::abs(bucket.upper));
  const double log_value = std::log2(std::abs(value));
  const double fraction = value > 0 ? (log_value - log_lower) / (log_upper - log_lower)
                                    : 1 - (log_value - log_upper) / (log_lower - log_upper);
  return rank + bucket.count * fraction;
}

}  // namespace

QuantileOutcome Quantile(double q, const Histogram& histogram) {
  if (q < 0) return {-kInfinity};
  if (q > 1) return {kInfinity};
  if (histogram.count == 0 || std::isnan(q)) return {std::numeric_limits<double>::quiet_NaN()};
  // NaN observations are counted but in no bucket, so only ranks from the low end mean something then.
  const bool has_nan = std::isnan(histogram.sum);
  const bool forward = has_nan || q < 0.5;
  const double rank = (forward ? q : 1 - q) * histogram.count;
  const std::vector<Bucket> buckets = AllBuckets(histogram);
  Bucket bucket;
  double count = 0;
  for (size_t i = 0; i < buckets.size(); ++i) {
    bucket = buckets[forward ? i : buckets.size() - 1 - i];
    if (bucket.count == 0) continue;
    count += bucket.count;
    if (count >= rank) break;
  }
  const bool custom = histogram.uses_custom_buckets();
  if (!custom && bucket.lower < 0 && bucket.upper > 0) {
    NarrowAroundZero(histogram, &bucket);
  } else if (custom && bucket.lower == -kInfinity) {
    if (bucket.upper <= 0) return {bucket.upper};
    bucket.lower = 0;
  } else if (custom && bucket.upper == kInfinity) {
    return {bucket.lower};
  }
  // Rounding may carry the buckets' total above the count.
  count = std::min(count, histogram.count);
  if (count < rank) return {std::numeric_limits<double>::quiet_NaN(), NanEffect::kResultIsNan};
  const NanEffect effect = has_nan ? NanEffect::kSkewed : NanEffect::kNone;
  const double rank_in_bucket = forward ? rank - (count - bucket.count) : count - rank;
  const double fraction = rank_in_bucket / bucket.count;
  if (custom || (bucket.lower <= 0 && bucket.upper >= 0)) {
    return {bucket.lower + (bucket.upper - bucket.lower) * fraction, effect};
  }
  const double log_lower = std::log2(std::abs(bucket.lower));
  const double log_upper = std::log2(std::abs(bucket.upper));
  if (bucket.lower > 0) return {std::exp2(log_lower + (log_upper - log_lower) * fraction), effect};
  return {-std::exp2(log_upper + (log_lower - log_upper) * (1 - fraction)), effect};
}

QuantileOutcome Fraction(double lower, double upper, const Histogram& histogram) {
  if (histogram.count == 0 || std::isnan(lower) || std::isnan(upper)) {
    return {std::numeric_limits<double>::quiet_NaN()};
  }
  if (lower >= upper) return {0};
  const bool has_nan = std::isnan(histogram.sum);
  const std::vector<Bucket> buckets = AllBuckets(histogram);
  double count = histogram.count;
  if (has_nan) {
    count = 0;
    for (const Bucket& bucket : buckets) count += bucket.count;
  }
  double rank = 0;
  std::optional<double> lower_rank;
  std::optional<double> upper_rank;
  for (Bucket bucket : buckets) {
    const bool around_zero = bucket.lower <= 0 && bucket.upper >= 0;
    if (around_zero) NarrowAroundZero(histogram, &bucket);
    const bool linear = histogram.uses_custom_buckets() || around_zero;
    const auto place = [&](double bound, std::optional<double>* bound_rank) {
      if (bound_rank->has_value()) return;
      if (bucket.lower >= bound) {
        *bound_rank = rank;
      } else if (bucket.upper > bound) {
        *bound_rank = RankWithin(bucket, bound, rank, linear);
      }
    };
    place(lower, &lower_rank);
    place(upper, &upper_rank);
    if (lower_rank && upper_rank) break;
    rank += bucket.count;
  }
  const double low = std::min(lower_rank.value_or(count), count);
  const double high = std::min(upper_rank.value_or(count), count);
  return {(high - low) / histogram.count, has_nan ? NanEffect::kSkewed : NanEffect::kNone};
}

double Variance(const Histogram& histogram) {
  const double mean = histogram.sum / histogram.count;
  Compensated total;
  for (const Bucket& bucket : AllBuckets(histogram)) {
    if (bucket.count == 0) continue;
    // Where the bucket's observations are taken to be: the arithmetic mean of custom bounds, the geometric mean of
    // exponential ones.
    double at = 0;
    if (histogram.uses_custom_buckets()) {
      at = (bucket.upper + bucket.lower) / 2;
    } else if (bucket.lower > 0 || bucket.upper < 0) {
      at = std::copysign(std::sqrt(bucket.upper * bucket.lower), bucket.upper);
    }
    const double delta = at - mean;
    total.Add(bucket.count * delta * delta);
  }
  return (total.value + total.compensation) / histogram.count;
}

std::string FormatG(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  std::array<char, 64> buffer;
  const auto [end, error] =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific);
  const std::string_view scientific(buffer.data(), static_cast<size_t>(end - buffer.data()));
  const size_t e = scientific.find('e');
  int exponent = 0;
  const std::string_view digits = scientific.substr(e + (scientific[e + 1] == '+' ? 2 : 1));
  std::from_chars(digits.data(), digits.data() + digits.size(), exponent);
  // Go switches to exponents below 1e-4 and from 1e6 on.
  if (value != 0 && (exponent < -4 || exponent >= 6)) return std::string(scientific);
  std::array<char, 64> fixed;
  const auto [fixed_end, fixed_error] =
      std::to_chars(fixed.data(), fixed.data() + fixed.size(), value, std::chars_format::fixed);
  return std::string(fixed.data(), fixed_end);
}

std::string ToString(const Histogram& histogram) {
  std::string out = fmt::format("{{count:{}, sum:{}", FormatG(histogram.count), FormatG(histogram.sum));
  for (const Bucket& bucket : AllBuckets(histogram)) {
    if (bucket.count == 0) continue;
    out += fmt::format(", {}{},{}{}:{}", bucket.lower_inclusive ? '[' : '(', FormatG(bucket.lower),
                       FormatG(bucket.upper), bucket.upper_inclusive ? ']' : ')', FormatG(bucket.count));
  }
  return out + "}";
}

}  // namespace millstream::model

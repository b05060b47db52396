#include "exec/quantile.h"
#include "exec/numbers.h"
#include "exec/stable_sort.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace millstream::promql::exec {
namespace {

// Counts that differ by less, relatively, differ by rounding only.
constexpr double kSmallDelta = 1e-12;
constexpr double kSmallestNormal = 2.2250738585072014e-308;

// Relative equality as Prometheus tests it: by the sum of magnitudes, and absolutely next to zero.
bool AlmostEqual(double a, double b, double epsilon) {
  if (a == b) return true;
  const double magnitude = std::fabs(a) + std::fabs(b);
  const double difference = std::fabs(a - b);
  if (a == 0 || b == 0 || magnitude < kSmallestNormal) return difference < epsilon * kSmallestNormal;
  return difference / std::min(magnitude, std::numeric_limits<double>::max()) < epsilon;
}

// Sorts by bound and adds up buckets of one bound. False unless the last bound is +Inf.
bool SortAndCoalesce(std::vector<Bucket>* buckets) {
  StableSort(buckets, [](const Bucket& a, const Bucket& b) { return a.upper_bound < b.upper_bound; });
  if (buckets->back().upper_bound != kInf) return false;
  size_t last = 0;
  for (size_t i = 1; i < buckets->size(); ++i) {
    if ((*buckets)[i].upper_bound == (*buckets)[last].upper_bound) {
      (*buckets)[last].count += (*buckets)[i].count;
    } else {
      (*buckets)[++last] = (*buckets)[i];
    }
  }
  buckets->resize(last + 1);
  return true;
}

void EnsureMonotonic(std::vector<Bucket>* buckets, BucketQuantileResult* result) {
  double previous = (*buckets)[0].count;
  for (size_t i = 1; i < buckets->size(); ++i) {
    const double current = (*buckets)[i].count;
    if (current == previous) continue;
    if (AlmostEqual(previous, current, kSmallDelta)) {
      (*buckets)[i].count = previous;
    } else if (current < previous) {
      const double bound = (*buckets)[i].upper_bound;
      const double difference = previous - current;
      if (!result->forced_monotonic) {
        result->bucket_min = bound;
        result->bucket_max = bound;
      }
      result->forced_monotonic = true;
      result->bucket_min = std::min(result->bucket_min, bound);
      result->bucket_max = std::max(result->bucket_max, bound);
      result->difference_max = std::max(result->difference_max, difference);
      (*buckets)[i].count = previous;
    } else {
      previous = current;
    }
  }
}

}  // namespace

double Quantile(double q, std::vector<double>* values) {
  if (values->empty() || std::isnan(q)) return kNan;
  if (q < 0) return -kInf;
  if (q > 1) return kInf;
  std::sort(values->begin(), values->end(), [](double a, double b) {
    if (std::isnan(a)) return !std::isnan(b);
    return a < b;
  });
  const double n = static_cast<double>(values->size());
  const double rank = q * (n - 1);
  const double lower = std::max(0.0, std::floor(rank));
  const double upper = std::min(n - 1, lower + 1);
  const double weight = rank - std::floor(rank);
  return (*values)[static_cast<size_t>(lower)] * (1 - weight) + (*values)[static_cast<size_t>(upper)] * weight;
}

BucketQuantileResult BucketQuantile(double q, std::vector<Bucket>* buckets) {
  BucketQuantileResult result;
  result.quantile = kNan;
  if (std::isnan(q)) return result;
  if (q < 0 || q > 1) {
    result.quantile = q < 0 ? -kInf : kInf;
    return result;
  }
  if (!SortAndCoalesce(buckets)) return result;
  EnsureMonotonic(buckets, &result);
  const std::vector<Bucket>& sorted = *buckets;
  if (sorted.size() < 2 || sorted.back().count == 0) {
    result = BucketQuantileResult{};
    result.quantile = kNan;
    return result;
  }
  double rank = q * sorted.back().count;
  const auto reaches = [&](const Bucket& bucket) { return !(bucket.count >= rank); };
  const size_t index =
      static_cast<size_t>(std::partition_point(sorted.begin(), sorted.end() - 1, reaches) - sorted.begin());
  if (index == sorted.size() - 1) {
    result.quantile = sorted[sorted.size() - 2].upper_bound;
    return result;
  }
  if (index == 0 && sorted[0].upper_bound <= 0) {
    result.quantile = sorted[0].upper_bound;
    return result;
  }
  double begin = 0;
  const double end = sorted[index].upper_bound;
  double count = sorted[index].count;
  if (index > 0) {
    begin = sorted[index - 1].upper_bound;
    count -= sorted[index - 1].count;
    rank -= sorted[index - 1].count;
  }
  result.quantile = begin + (end - begin) * (rank / count);
  return result;
}

double BucketFraction(double lower, double upper, std::vector<Bucket>* buckets) {
  if (!SortAndCoalesce(buckets)) return kNan;
  const double count = buckets->back().count;
  if (count == 0 || std::isnan(lower) || std::isnan(upper)) return kNan;
  if (lower >= upper) return 0;

  // The rank of a value: how many observations lie below it.
  const auto rank_of = [&](double value) {
    double below = 0;
    for (size_t i = 0; i < buckets->size(); ++i) {
      const double bucket_upper = (*buckets)[i].upper_bound;
      const double bucket_lower = i > 0 ? (*buckets)[i - 1].upper_bound : -kInf;
      if (bucket_lower >= value) return below;
      if (bucket_upper > value) {
        // The first bucket begins at zero unless it lies below.
        const double from = i == 0 && bucket_upper > 0 ? 0 : bucket_lower;
        if (from >= value) return below;
        // Nothing can be said within a bucket that has no lower end.
        if (from == -kInf) return (*buckets)[i].count;
        return below + ((*buckets)[i].count - below) * (value - from) / (bucket_upper - from);
      }
      below = (*buckets)[i].count;
    }
    return count;
  };
  const double lower_rank = std::min(rank_of(lower), count);
  const double upper_rank = std::min(rank_of(upper), count);
  return (upper_rank - lower_rank) / count;
}

}  // namespace millstream::promql::exec

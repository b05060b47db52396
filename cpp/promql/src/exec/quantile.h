// Quantiles: of samples, and of classic histograms with their buckets of cumulative counts.
#pragma once

#include <vector>

namespace millstream::promql::exec {

// The q-quantile of the values with a line between neighbours; NaN without values or for q NaN, -Inf below 0, +Inf
// above 1. NaN values sort first. Sorts *values.
double Quantile(double q, std::vector<double>* values);

struct Bucket {
  double upper_bound = 0;
  double count = 0;  // of all observations at or below the bound
};

struct BucketQuantileResult {
  double quantile = 0;
  bool forced_monotonic = false;
  // Where counts had to be raised because they fell, and by how much at most.
  double bucket_min = 0;
  double bucket_max = 0;
  double difference_max = 0;
};

// The q-quantile of a classic histogram; sorts and mends *buckets, which must not be empty. NaN without a +Inf bucket,
// with fewer than two buckets or without observations.
BucketQuantileResult BucketQuantile(double q, std::vector<Bucket>* buckets);
// The fraction of observations between the bounds.
double BucketFraction(double lower, double upper, std::vector<Bucket>* buckets);

}  // namespace millstream::promql::exec

#include <algorithm>
#include <cmath>

#include "millstream/wire/statsd.h"

namespace millstream::wire {
namespace {

// 2^-128, what Prometheus's clients count as zero.
constexpr double kZeroThreshold = 2.938735877055719e-39;

double UpperBound(int32_t index, int32_t schema) {
  return std::exp2(std::ldexp(static_cast<double>(index), -schema));
}

// The bucket (lower, upper] that holds `magnitude`, which is finite and above kZeroThreshold.
int32_t IndexOf(double magnitude, int32_t schema) {
  auto index = static_cast<int32_t>(std::ceil(std::ldexp(std::log2(magnitude), schema)));
  // A logarithm that was rounded across a bound.
  while (UpperBound(index - 1, schema) >= magnitude) --index;
  while (UpperBound(index, schema) < magnitude) ++index;
  return index;
}

}  // namespace

void StatsdBuckets::Observe(double value, double weight) {
  count_ += weight;
  sum_ += value * weight;
  if (std::abs(value) <= kZeroThreshold) {
    zero_count_ += weight;
  } else {
    Add(value > 0 ? &positive_ : &negative_, std::abs(value), weight);
  }
}

void StatsdBuckets::Add(Side* side, double magnitude, double weight) {
  const int32_t index = IndexOf(magnitude, schema_);
  const auto at = std::lower_bound(side->begin(), side->end(), index,
                                   [](const Bucket& bucket, int32_t wanted) { return bucket.index < wanted; });
  if (at != side->end() && at->index == index) {
    at->count += weight;
    return;
  }
  side->insert(at, {index, weight});
  while (side->size() > kStatsdBucketsMax && schema_ > model::kExponentialSchemaMin) Coarsen();
}

void StatsdBuckets::Coarsen() {
  --schema_;
  Halve(&positive_);
  Halve(&negative_);
}

void StatsdBuckets::Halve(Side* side) {
  size_t kept = 0;
  for (const Bucket& bucket : *side) {
    // Two buckets become the one whose upper bound the higher of them has: ceil(index / 2).
    const int32_t index = (bucket.index >> 1) + (bucket.index & 1);
    if (kept > 0 && (*side)[kept - 1].index == index) {
      (*side)[kept - 1].count += bucket.count;
    } else {
      (*side)[kept++] = {index, bucket.count};
    }
  }
  side->resize(kept);
}

model::Histogram StatsdBuckets::ToHistogram() const {
  model::Histogram out;
  out.schema = schema_;
  out.zero_threshold = kZeroThreshold;
  out.zero_count = zero_count_;
  out.count = count_;
  out.sum = sum_;
  const auto write = [](const Side& side, std::vector<model::Span>* spans, std::vector<double>* counts) {
    int32_t next = 0;
    for (const Bucket& bucket : side) {
      if (spans->empty() || bucket.index != next) spans->push_back({.offset = bucket.index - next, .length = 0});
      ++spans->back().length;
      next = bucket.index + 1;
      counts->push_back(bucket.count);
    }
  };
  write(positive_, &out.positive_spans, &out.positive_buckets);
  write(negative_, &out.negative_spans, &out.negative_buckets);
  return out;
}

}  // namespace millstream::wire

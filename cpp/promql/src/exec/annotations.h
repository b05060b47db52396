// Annotations: the warnings and infos that an evaluation gathers, each once, with the place in the query.
//
// Source      Prometheus's annotations: the texts are part of its visible behaviour.
// Threads     One thread at a time.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/strong_int.h"
#include "millstream/promql/ast.h"

namespace millstream::promql::exec {

// What an operation on histograms is called in a message.
enum class HistogramOperation : uint8_t { kAddition, kSubtraction, kAggregation };

class Annotations {
 public:
  void InvalidQuantile(double quantile, PositionRange position);
  void InvalidRatio(double ratio, double capped, PositionRange position);
  void BadBucketLabel(std::string_view metric, std::string_view value, PositionRange position);
  void MixedFloatsHistograms(std::string_view metric, PositionRange position);
  void MixedFloatsHistogramsAggregation(PositionRange position);
  void MixedClassicNative(std::string_view metric, PositionRange position);
  void NotCounter(std::string_view metric, PositionRange position);
  void NotGauge(std::string_view metric, PositionRange position);
  void MixedExponentialCustom(std::string_view metric, PositionRange position);
  void IncompatibleBucketLayout(std::string_view op, PositionRange position);
  void CounterResetCollision(HistogramOperation operation, PositionRange position);
  void SortInRangeQuery(PositionRange position);
  void StartTimeOverlap(std::string_view metric, PositionRange position);

  void PossibleNonCounter(std::string_view metric, PositionRange position);
  void IncompatibleTypes(std::string_view left, std::string_view op, std::string_view right, PositionRange position);
  void HistogramIgnoredInAggregation(std::string_view aggregation, PositionRange position);
  void HistogramIgnoredInMixedRange(std::string_view metric, PositionRange position);
  void QuantileNanResult(std::string_view metric, PositionRange position);
  void QuantileNanSkew(std::string_view metric, PositionRange position);
  void FractionNans(std::string_view metric, PositionRange position);
  void MismatchedCustomBuckets(HistogramOperation operation, PositionRange position);
  // Reports of one metric are merged: the widest span of buckets and times, the greatest difference.
  void ForcedMonotonicity(std::string_view metric, TimestampMs time, double bucket_min, double bucket_max,
                          double difference_max, PositionRange position);

  // As Prometheus prints them for `query`, sorted.
  void Export(std::string_view query, std::vector<std::string>* warnings, std::vector<std::string>* infos) const;

 private:
  struct Monotonicity {
    PositionRange position;
    TimestampMs time_min = 0;
    TimestampMs time_max = 0;
    double bucket_min = 0;
    double bucket_max = 0;
    double difference_max = 0;
    int64_t count = 0;
  };

  void Warn(std::string text, PositionRange position) { warnings_[std::move(text)] = position; }
  void Info(std::string text, PositionRange position) { infos_[std::move(text)] = position; }

  std::map<std::string, PositionRange> warnings_;
  std::map<std::string, PositionRange> infos_;
  std::map<std::string, Monotonicity> monotonicity_;
};

}  // namespace millstream::promql::exec

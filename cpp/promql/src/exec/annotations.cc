#include "exec/annotations.h"

#include <fmt/format.h>

#include <algorithm>

#include "exec/format.h"
#include "millstream/model/labels.h"
#include "millstream/promql/parser.h"

namespace millstream::promql::exec {
namespace {

using model::Quote;

std::string ForMetric(std::string_view text, std::string_view metric) {
  if (metric.empty()) return std::string(text);
  return fmt::format("{} for metric name {}", text, Quote(metric));
}

std::string_view Name(HistogramOperation operation) {
  switch (operation) {
    case HistogramOperation::kAddition:
      return "addition";
    case HistogramOperation::kSubtraction:
      return "subtraction";
    case HistogramOperation::kAggregation:
      return "aggregation";
  }
  return {};
}

}  // namespace

void Annotations::InvalidQuantile(double quantile, PositionRange position) {
  Warn(fmt::format("quantile value should be between 0 and 1, got {}", FormatGo(quantile)), position);
}

void Annotations::InvalidRatio(double ratio, double capped, PositionRange position) {
  Warn(fmt::format("ratio value should be between -1 and 1, got {}, capping to {}", FormatGo(ratio), FormatGo(capped)),
       position);
}

void Annotations::BadBucketLabel(std::string_view metric, std::string_view value, PositionRange position) {
  Warn(ForMetric(fmt::format("bucket label \"le\" is missing or has a malformed value of {}", Quote(value)), metric),
       position);
}

void Annotations::MixedFloatsHistograms(std::string_view metric, PositionRange position) {
  Warn(fmt::format("encountered a mix of histograms and floats for metric name {}", Quote(metric)), position);
}

void Annotations::MixedFloatsHistogramsAggregation(PositionRange position) {
  Warn("encountered a mix of histograms and floats for aggregation", position);
}

void Annotations::MixedClassicNative(std::string_view metric, PositionRange position) {
  Warn(ForMetric("vector contains a mix of classic and native histograms", metric), position);
}

void Annotations::NotCounter(std::string_view metric, PositionRange position) {
  Warn(fmt::format("this native histogram metric is not a counter: {}", Quote(metric)), position);
}

void Annotations::NotGauge(std::string_view metric, PositionRange position) {
  Warn(fmt::format("this native histogram metric is not a gauge: {}", Quote(metric)), position);
}

void Annotations::MixedExponentialCustom(std::string_view metric, PositionRange position) {
  Warn(fmt::format("vector contains a mix of histograms with exponential and custom buckets schemas for metric name {}",
                   Quote(metric)),
       position);
}

void Annotations::IncompatibleBucketLayout(std::string_view op, PositionRange position) {
  Warn(fmt::format("incompatible bucket layout encountered for binary operator {}", op), position);
}

void Annotations::CounterResetCollision(HistogramOperation operation, PositionRange position) {
  Warn(fmt::format("conflicting counter resets during histogram {}", Name(operation)), position);
}

void Annotations::SortInRangeQuery(PositionRange position) {
  Warn("sort is ineffective for range queries since results are always ordered by labels", position);
}

void Annotations::StartTimeOverlap(std::string_view metric, PositionRange position) {
  Warn(fmt::format("sample has start time that overlaps with previous sample timestamp for metric {}", Quote(metric)),
       position);
}

void Annotations::PossibleNonCounter(std::string_view metric, PositionRange position) {
  Info(fmt::format("metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}", Quote(metric)),
       position);
}

void Annotations::IncompatibleTypes(std::string_view left, std::string_view op, std::string_view right,
                                    PositionRange position) {
  Info(
      fmt::format("incompatible sample types encountered for binary operator {}: {} {} {}", Quote(op), left, op, right),
      position);
}

void Annotations::HistogramIgnoredInAggregation(std::string_view aggregation, PositionRange position) {
  Info(fmt::format("ignored histogram in {} aggregation", aggregation), position);
}

void Annotations::HistogramIgnoredInMixedRange(std::string_view metric, PositionRange position) {
  Info(fmt::format("ignored histograms in a range containing both floats and histograms for metric name {}",
                   Quote(metric)),
       position);
}

void Annotations::QuantileNanResult(std::string_view metric, PositionRange position) {
  Info(ForMetric("input to histogram_quantile has NaN observations, result is NaN", metric), position);
}

void Annotations::QuantileNanSkew(std::string_view metric, PositionRange position) {
  Info(ForMetric("input to histogram_quantile has NaN observations, result is skewed higher", metric), position);
}

void Annotations::FractionNans(std::string_view metric, PositionRange position) {
  Info(ForMetric("input to histogram_fraction has NaN observations, which are excluded from all fractions", metric),
       position);
}

void Annotations::MismatchedCustomBuckets(HistogramOperation operation, PositionRange position) {
  Info(fmt::format("mismatched custom buckets were reconciled during {}", Name(operation)), position);
}

void Annotations::ForcedMonotonicity(std::string_view metric, TimestampMs time, double bucket_min, double bucket_max,
                                     double difference_max, PositionRange position) {
  Monotonicity& entry = monotonicity_[std::string(metric)];
  if (entry.count == 0) {
    entry = {position, time, time, bucket_min, bucket_max, difference_max, 0};
  }
  entry.position = position;
  entry.time_min = std::min(entry.time_min, time);
  entry.time_max = std::max(entry.time_max, time);
  entry.bucket_min = std::min(entry.bucket_min, bucket_min);
  entry.bucket_max = std::max(entry.bucket_max, bucket_max);
  entry.difference_max = std::max(entry.difference_max, difference_max);
  ++entry.count;
}

void Annotations::Export(std::string_view query, std::vector<std::string>* warnings,
                         std::vector<std::string>* infos) const {
  for (const auto& [text, position] : warnings_) {
    warnings->push_back(fmt::format("PromQL warning: {} ({})", text, LineColumn(query, position.start)));
  }
  for (const auto& [text, position] : infos_) {
    infos->push_back(fmt::format("PromQL info: {} ({})", text, LineColumn(query, position.start)));
  }
  for (const auto& [metric, entry] : monotonicity_) {
    infos->push_back(
        fmt::format("PromQL info: {}, from buckets {} to {}, with a max diff of {}, over {} samples from {} to {} ({})",
                    ForMetric("input to histogram_quantile needed to be fixed for monotonicity (see "
                              "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)",
                              metric),
                    FormatGo(entry.bucket_min), FormatGo(entry.bucket_max), fmt::format("{:.2g}", entry.difference_max),
                    entry.count, FormatRfc3339(entry.time_min), FormatRfc3339(entry.time_max),
                    LineColumn(query, entry.position.start)));
  }
  std::sort(infos->begin(), infos->end());
}

}  // namespace millstream::promql::exec

// Histogram: one native-histogram sample, with exponential or custom buckets.
//
// Counts are doubles: they hold every integer count below 2^53 exactly, and rates of histograms are not whole numbers.
// Layout      Buckets are listed densely; spans say which bucket indices they have. The first span's offset is the
//             index of its first bucket, a later one's offset is the gap to the span before. Counts are absolute, not
//             deltas. Bucket i of schema s covers (2^((i-1)·2^-s), 2^(i·2^-s)]; with custom buckets (schema -53) bucket
//             i covers (custom_values[i-1], custom_values[i]], the first from -Inf and the last to +Inf.
// Source      Prometheus's native-histogram specification.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "millstream/base/status.h"

namespace millstream::model {

inline constexpr int32_t kCustomBucketsSchema = -53;
inline constexpr int32_t kExponentialSchemaMin = -4;
inline constexpr int32_t kExponentialSchemaMax = 8;
inline constexpr size_t kHistogramBucketsMax = 65'536;

enum class CounterResetHint : uint8_t { kUnknown = 0, kReset = 1, kNotReset = 2, kGauge = 3 };

struct Span {
  int32_t offset = 0;
  uint32_t length = 0;

  friend bool operator==(const Span&, const Span&) = default;
};

struct Histogram {
  CounterResetHint counter_reset_hint = CounterResetHint::kUnknown;
  int32_t schema = 0;
  double zero_threshold = 0;
  double zero_count = 0;
  double count = 0;
  double sum = 0;
  std::vector<Span> positive_spans;
  std::vector<Span> negative_spans;
  std::vector<double> positive_buckets;
  std::vector<double> negative_buckets;
  std::vector<double> custom_values;  // upper bounds, ascending, finite; only with kCustomBucketsSchema

  bool uses_custom_buckets() const { return schema == kCustomBucketsSchema; }

  // Structure only: schema in range, spans cover the buckets, bounds ascend, no negative counts, at most
  // kHistogramBucketsMax buckets. kInvalidArgument names the part that is wrong.
  Status Validate() const;

  // All fields, doubles compared bit by bit (so a NaN sum equals itself). For tests and duplicate detection.
  bool IdenticalTo(const Histogram& other) const;
};

}  // namespace millstream::model

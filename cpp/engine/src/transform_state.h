// TransformState: how far the metric rules of a topic are, and what their counters have come to: one record, so that
// both are of the same events.
//
// docs/formats/events.md draws it. Decoding checks every length before it allocates.
//
// Threads     Values.
// Errors      kDataLoss for bytes that are not encoded so.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/base/strong_int.h"

namespace millstream::engine {

inline constexpr size_t kRuleSeriesMax = 5000;  // of one rule
inline constexpr uint64_t kTransformStateBytesMax = 256 << 20;

// A series of a rule. Of a gauge only that it is there counts.
struct RuleSeries {
  double total = 0;
  TimestampMs stamp = 0;  // of the sample with this total
  TimestampMs zero = 0;   // of a sample before the first, with the value 0; 0: there is none
  friend bool operator==(const RuleSeries&, const RuleSeries&) = default;
};

struct RuleState {
  std::string rule;                                         // as events::EncodeMetricRule
  std::map<std::string, RuleSeries, std::less<>> series{};  // by labels, as wire::LabelEncoding::kPairs
  friend bool operator==(const RuleState&, const RuleState&) = default;
};

struct TransformState {
  std::vector<uint64_t> offsets;  // of each partition the next event
  TimestampMs stamp = 0;          // of the newest samples; grows
  uint64_t series_max = 0;        // of the tenant, as it was known last
  std::vector<RuleState> rules;
  friend bool operator==(const TransformState&, const TransformState&) = default;
};

std::string EncodeTransformState(const TransformState& state);
Result<TransformState> DecodeTransformState(std::string_view bytes);

}  // namespace millstream::engine

#include "transform_state.h"

#include <algorithm>
#include <cmath>

#include "millstream/codec/byte_io.h"
#include "millstream/codec/sealed.h"
#include "millstream/events/limits.h"
#include "millstream/events/metric_rule.h"

namespace millstream::engine {
namespace {

constexpr codec::SealKind kSeal{.magic = "MSTRANSF", .version = 1, .name = "the state of a topic's metric rules"};

Status Malformed(const char* what) {
  return DataLoss("the state of a topic's metric rules is malformed: {}", what);
}

bool GetSeries(codec::ByteReader* reader, RuleState* rule) {
  std::string_view labels;
  RuleSeries series;
  if (!reader->Bytes(&labels) || !reader->Double(&series.total) || !reader->SignedVarint(&series.stamp) ||
      !reader->SignedVarint(&series.zero) || !std::isfinite(series.total)) {
    return false;
  }
  // Ascending, as they are written: so none is there twice.
  if (!rule->series.empty() && labels <= rule->series.rbegin()->first) return false;
  rule->series.emplace_hint(rule->series.end(), labels, series);
  return true;
}

}  // namespace

std::string EncodeTransformState(const TransformState& state) {
  std::string out;
  codec::ByteWriter writer(&out);
  writer.SignedVarint(state.stamp);
  writer.Varint(state.series_max);
  writer.Varint(state.offsets.size());
  for (const uint64_t offset : state.offsets) writer.Varint(offset);
  writer.Varint(state.rules.size());
  for (const RuleState& rule : state.rules) {
    writer.Bytes(rule.rule);
    writer.Varint(rule.series.size());
    for (const auto& [labels, series] : rule.series) {
      writer.Bytes(labels);
      writer.Double(series.total);
      writer.SignedVarint(series.stamp);
      writer.SignedVarint(series.zero);
    }
  }
  return codec::Seal(kSeal, out);
}

Result<TransformState> DecodeTransformState(std::string_view bytes) {
  MS_ASSIGN_OR_RETURN(const std::string_view content, codec::Unseal(kSeal, bytes));
  codec::ByteReader reader(content);
  TransformState state;
  uint64_t count = 0;
  if (!reader.SignedVarint(&state.stamp) || !reader.Varint(&state.series_max) ||
      !reader.Count(&count, std::min<uint64_t>(reader.remaining(), events::kTopicPartitionsMax))) {
    return Malformed("its header");
  }
  state.offsets.resize(count);
  for (uint64_t& offset : state.offsets) {
    if (!reader.Varint(&offset)) return Malformed("an offset");
  }
  if (!reader.Count(&count, events::kMetricRulesMax)) return Malformed("its rules");
  state.rules.resize(count);
  for (RuleState& rule : state.rules) {
    std::string_view identity;
    uint64_t series = 0;
    if (!reader.Bytes(&identity) || !reader.Count(&series, kRuleSeriesMax)) return Malformed("a rule");
    rule.rule = identity;
    for (uint64_t i = 0; i < series; ++i) {
      if (!GetSeries(&reader, &rule)) return Malformed("a series");
    }
  }
  if (!reader.empty()) return Malformed("bytes behind its end");
  return state;
}

}  // namespace millstream::engine

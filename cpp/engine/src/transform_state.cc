#include "transform_state.h"

#include <algorithm>
#include <cmath>

#include "millstream/codec/byte_io.h"
#include "millstream/codec/crc32c.h"
#include "millstream/events/limits.h"

namespace millstream::engine {
namespace {

constexpr std::string_view kMagic = "MSTRANSF";
constexpr uint32_t kVersion = 1;
constexpr size_t kCrcBytes = 4;

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

std::string RuleIdentity(const events::MetricRule& rule) {
  std::string out;
  codec::ByteWriter writer(&out);
  writer.Bytes(rule.metric);
  writer.U8(static_cast<uint8_t>(rule.type));
  writer.Bytes(rule.value);
  writer.Bytes(rule.filter);
  writer.Varint(rule.labels.size());
  for (const auto& [name, field] : rule.labels) {
    writer.Bytes(name);
    writer.Bytes(field);
  }
  for (const uint64_t offset : rule.since) writer.Varint(offset);
  return out;
}

std::string EncodeTransformState(const TransformState& state) {
  std::string out;
  codec::ByteWriter writer(&out);
  writer.Raw(kMagic);
  writer.U32(kVersion);
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
  writer.U32(codec::Crc32c(out));
  return out;
}

Result<TransformState> DecodeTransformState(std::string_view bytes) {
  if (bytes.size() < kCrcBytes) return Malformed("it is too short");
  codec::ByteReader crc_reader(bytes.substr(bytes.size() - kCrcBytes));
  uint32_t crc = 0;
  bytes.remove_suffix(kCrcBytes);
  if (!crc_reader.U32(&crc) || crc != codec::Crc32c(bytes)) return Malformed("the checksum is wrong");
  codec::ByteReader reader(bytes);
  std::string_view magic;
  uint32_t version = 0;
  if (!reader.Raw(kMagic.size(), &magic) || magic != kMagic || !reader.U32(&version)) {
    return Malformed("this is something else");
  }
  if (version != kVersion) {
    return DataLoss("the state of a topic's metric rules is of version {}; this is version {}", version, kVersion);
  }
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

#include "meta_record.h"

#include <algorithm>
#include <utility>

#include "millstream/codec/byte_io.h"
#include "millstream/codec/sealed.h"

namespace millstream::events {
namespace {

enum class Kind : uint8_t {
  kPutTopic = 1,
  kDeleteTopic = 2,
  kPutOffsets = 3,
  kDeleteGroup = 4,
  kPutGeneration = 5,
  kPutTopicMore = 16,  // kPutTopic with further options behind it
};

// Options that a topic need not have, each as its number and its bytes.
enum class Option : uint8_t {
  kMetrics = 1,
  kDeleteRetentionMs = 2,
  kMinCompactionLagMs = 3,
  kMinDirtyRatio = 4,
  kSchema = 5,
  kFromMetrics = 6,
};

constexpr codec::SealKind kSnapshotSeal{.magic = "MSEVMETA", .version = 1, .name = "the snapshot of topics and groups"};

Status MalformedMeta(const char* what) {
  return DataLoss("a record of topics and groups is malformed: {}", what);
}

std::string EncodeRules(const MetricRules& rules) {
  std::string out;
  codec::ByteWriter writer(&out);
  writer.Varint(rules.list().size());
  for (const MetricRule& rule : rules.list()) writer.Raw(EncodeMetricRule(rule));
  return out;
}

// Those that are not what they are without it.
std::vector<std::pair<Option, std::string>> MoreOptions(const TopicOptions& options) {
  const TopicOptions usual;
  std::vector<std::pair<Option, std::string>> more;
  const auto add = [&more](Option option, auto write) {
    std::string value;
    codec::ByteWriter writer(&value);
    write(&writer);
    more.emplace_back(option, std::move(value));
  };
  if (!options.metrics.empty()) more.emplace_back(Option::kMetrics, EncodeRules(options.metrics));
  if (options.delete_retention_ms != usual.delete_retention_ms) {
    add(Option::kDeleteRetentionMs, [&](auto* writer) { writer->SignedVarint(options.delete_retention_ms); });
  }
  if (options.min_compaction_lag_ms != usual.min_compaction_lag_ms) {
    add(Option::kMinCompactionLagMs, [&](auto* writer) { writer->SignedVarint(options.min_compaction_lag_ms); });
  }
  if (options.min_dirty_ratio != usual.min_dirty_ratio) {
    add(Option::kMinDirtyRatio, [&](auto* writer) { writer->Double(options.min_dirty_ratio); });
  }
  if (!options.schema.empty()) more.emplace_back(Option::kSchema, options.schema.text());
  if (!options.from_metrics.empty()) {
    add(Option::kFromMetrics, [&](auto* writer) {
      writer->Varint(options.from_metrics.size());
      for (const std::string& selector : options.from_metrics) writer->Bytes(selector);
    });
  }
  return more;
}

struct Encoder {
  codec::ByteWriter& writer;

  void operator()(const PutTopic& put) {
    const TopicInfo& topic = put.topic;
    const auto more = MoreOptions(topic.options);
    writer.U8(static_cast<uint8_t>(more.empty() ? Kind::kPutTopic : Kind::kPutTopicMore));
    writer.Varint(topic.number);
    writer.Varint(topic.tenant.value());
    writer.Bytes(topic.name);
    writer.SignedVarint(topic.created_ms);
    writer.Varint(topic.options.partitions);
    writer.U8(static_cast<uint8_t>(topic.options.durability));
    writer.U8(static_cast<uint8_t>(topic.options.cleanup));
    writer.Varint(static_cast<uint64_t>(topic.options.retention_ms));
    writer.Varint(static_cast<uint64_t>(topic.options.retention_bytes));
    writer.Varint(topic.options.event_bytes_max);
    if (more.empty()) return;
    writer.Varint(more.size());
    for (const auto& [option, value] : more) {
      writer.U8(static_cast<uint8_t>(option));
      writer.Bytes(value);
    }
  }
  void operator()(const DeleteTopic& change) {
    writer.U8(static_cast<uint8_t>(Kind::kDeleteTopic));
    writer.Varint(change.number);
  }
  void operator()(const PutOffsets& put) {
    writer.U8(static_cast<uint8_t>(Kind::kPutOffsets));
    writer.Varint(put.tenant.value());
    writer.Bytes(put.group);
    writer.Varint(put.offsets.size());
    for (const CommittedOffset& offset : put.offsets) {
      writer.Varint(offset.topic);
      writer.Varint(offset.partition);
      writer.Varint(offset.offset);
    }
  }
  void operator()(const DeleteGroup& change) {
    writer.U8(static_cast<uint8_t>(Kind::kDeleteGroup));
    writer.Varint(change.tenant.value());
    writer.Bytes(change.group);
  }
  void operator()(const PutGeneration& put) {
    writer.U8(static_cast<uint8_t>(Kind::kPutGeneration));
    writer.Varint(put.tenant.value());
    writer.Bytes(put.group);
    writer.Varint(put.reserved);
  }
};

bool GetU32(codec::ByteReader* reader, uint32_t* value) {
  uint64_t wide = 0;
  if (!reader->Count(&wide, UINT32_MAX)) return false;
  *value = static_cast<uint32_t>(wide);
  return true;
}

bool GetTenant(codec::ByteReader* reader, TenantId* tenant) {
  uint32_t number = 0;
  if (!GetU32(reader, &number)) return false;
  *tenant = TenantId(number);
  return true;
}

Result<MetricRules> GetRules(std::string_view bytes) {
  codec::ByteReader reader(bytes);
  uint64_t count = 0;
  if (!reader.Count(&count, kMetricRulesMax)) return MalformedMeta("a topic's rules");
  std::vector<MetricRule> rules(count);
  for (MetricRule& rule : rules) {
    if (!DecodeMetricRule(&reader, &rule)) return MalformedMeta("a rule of a topic is cut off");
  }
  if (!reader.empty()) return MalformedMeta("bytes behind a topic's rules");
  return MetricRules(std::move(rules));
}

bool GetSigned(std::string_view bytes, int64_t* value) {
  codec::ByteReader reader(bytes);
  return reader.SignedVarint(value) && reader.empty();
}

Result<std::vector<std::string>> GetSelectors(std::string_view bytes) {
  codec::ByteReader reader(bytes);
  uint64_t count = 0;
  if (!reader.Count(&count, kFromMetricsMax)) return MalformedMeta("a topic's selectors");
  std::vector<std::string> selectors(count);
  for (std::string& selector : selectors) {
    std::string_view text;
    if (!reader.Bytes(&text)) return MalformedMeta("a selector of a topic is cut off");
    selector = text;
  }
  if (!reader.empty()) return MalformedMeta("bytes behind a topic's selectors");
  return selectors;
}

Status GetMore(codec::ByteReader* reader, TopicOptions* options) {
  uint64_t count = 0;
  if (!reader->Count(&count, reader->remaining())) return MalformedMeta("a topic's further options");
  for (uint64_t i = 0; i < count; ++i) {
    uint8_t option = 0;
    std::string_view bytes;
    if (!reader->U8(&option) || !reader->Bytes(&bytes)) return MalformedMeta("a topic's option is cut off");
    switch (static_cast<Option>(option)) {
      case Option::kMetrics: {
        MS_ASSIGN_OR_RETURN(options->metrics, GetRules(bytes));
        continue;
      }
      case Option::kDeleteRetentionMs:
        if (!GetSigned(bytes, &options->delete_retention_ms)) return MalformedMeta("a topic's delete_retention_ms");
        continue;
      case Option::kMinCompactionLagMs:
        if (!GetSigned(bytes, &options->min_compaction_lag_ms)) return MalformedMeta("a topic's min_compaction_lag_ms");
        continue;
      case Option::kMinDirtyRatio: {
        codec::ByteReader value(bytes);
        if (!value.Double(&options->min_dirty_ratio) || !value.empty())
          return MalformedMeta("a topic's min_dirty_ratio");
        continue;
      }
      case Option::kSchema: {
        auto schema = TopicSchema::Compile(bytes);
        if (!schema.ok()) return DataLoss("the schema of a topic: {}", schema.status().message());
        options->schema = std::move(*schema);
        continue;
      }
      case Option::kFromMetrics: {
        MS_ASSIGN_OR_RETURN(options->from_metrics, GetSelectors(bytes));
        continue;
      }
    }
    return DataLoss("a topic has an option of number {}, which this version does not know", option);
  }
  return Status::Ok();
}

Result<MetaChange> GetTopic(codec::ByteReader* reader, bool more) {
  PutTopic put;
  TopicInfo& topic = put.topic;
  std::string_view name;
  uint8_t durability = 0;
  uint8_t cleanup = 0;
  uint64_t retention_ms = 0;
  uint64_t retention_bytes = 0;
  if (!GetU32(reader, &topic.number) || !GetTenant(reader, &topic.tenant) || !reader->Bytes(&name) ||
      !reader->SignedVarint(&topic.created_ms) || !GetU32(reader, &topic.options.partitions) ||
      !reader->U8(&durability) || !reader->U8(&cleanup) || !reader->Count(&retention_ms, INT64_MAX) ||
      !reader->Count(&retention_bytes, INT64_MAX) || !reader->Varint(&topic.options.event_bytes_max)) {
    return MalformedMeta("a topic is cut off");
  }
  if (durability > static_cast<uint8_t>(TopicDurability::kReplicated) ||
      cleanup > static_cast<uint8_t>(TopicCleanup::kCompactDelete)) {
    return MalformedMeta("a topic's options");
  }
  topic.name = name;
  topic.options.durability = static_cast<TopicDurability>(durability);
  topic.options.cleanup = static_cast<TopicCleanup>(cleanup);
  topic.options.retention_ms = static_cast<int64_t>(retention_ms);
  topic.options.retention_bytes = static_cast<int64_t>(retention_bytes);
  if (more) MS_RETURN_IF_ERROR(GetMore(reader, &topic.options));
  if (!CheckTopicName(topic.name).ok() || !CheckTopicOptions(topic.options).ok()) return MalformedMeta("a topic");
  return put;
}

Result<MetaChange> GetOffsets(codec::ByteReader* reader) {
  PutOffsets put;
  std::string_view group;
  uint64_t count = 0;
  // Each offset has at least three bytes.
  if (!GetTenant(reader, &put.tenant) || !reader->Bytes(&group) || !reader->Count(&count, reader->remaining() / 3)) {
    return MalformedMeta("a group is cut off");
  }
  put.group = group;
  put.offsets.resize(count);
  for (CommittedOffset& offset : put.offsets) {
    if (!GetU32(reader, &offset.topic) || !GetU32(reader, &offset.partition) || !reader->Varint(&offset.offset)) {
      return MalformedMeta("an offset is cut off");
    }
  }
  return put;
}

Result<MetaChange> GetChange(codec::ByteReader* reader) {
  uint8_t kind = 0;
  if (!reader->U8(&kind)) return MalformedMeta("it is empty");
  switch (static_cast<Kind>(kind)) {
    case Kind::kPutTopic:
      return GetTopic(reader, false);
    case Kind::kPutTopicMore:
      return GetTopic(reader, true);
    case Kind::kDeleteTopic: {
      DeleteTopic change;
      if (!GetU32(reader, &change.number)) return MalformedMeta("a topic's number");
      return MetaChange(change);
    }
    case Kind::kPutOffsets:
      return GetOffsets(reader);
    case Kind::kDeleteGroup: {
      DeleteGroup change;
      std::string_view group;
      if (!GetTenant(reader, &change.tenant) || !reader->Bytes(&group)) return MalformedMeta("a group");
      change.group = group;
      return MetaChange(std::move(change));
    }
    case Kind::kPutGeneration: {
      PutGeneration put;
      std::string_view group;
      if (!GetTenant(reader, &put.tenant) || !reader->Bytes(&group) || !reader->Varint(&put.reserved)) {
        return MalformedMeta("a generation");
      }
      put.group = group;
      return MetaChange(std::move(put));
    }
  }
  return MalformedMeta("an unknown kind");
}

}  // namespace

std::string EncodeChange(const MetaChange& change) {
  std::string out;
  codec::ByteWriter writer(&out);
  std::visit(Encoder{writer}, change);
  return out;
}

Result<MetaChange> DecodeChange(std::string_view bytes) {
  codec::ByteReader reader(bytes);
  MS_ASSIGN_OR_RETURN(MetaChange change, GetChange(&reader));
  if (!reader.empty()) return MalformedMeta("bytes behind its end");
  return change;
}

std::string EncodeSnapshot(const MetaSnapshot& snapshot) {
  std::string out;
  codec::ByteWriter writer(&out);
  writer.U32(snapshot.next_number);
  writer.U64(snapshot.covers);
  writer.Varint(snapshot.changes.size());
  for (const MetaChange& change : snapshot.changes) std::visit(Encoder{writer}, change);
  return codec::Seal(kSnapshotSeal, out);
}

Result<MetaSnapshot> DecodeSnapshot(std::string_view bytes) {
  MS_ASSIGN_OR_RETURN(const std::string_view content, codec::Unseal(kSnapshotSeal, bytes));
  codec::ByteReader reader(content);
  MetaSnapshot snapshot;
  uint64_t count = 0;
  if (!reader.U32(&snapshot.next_number) || !reader.U64(&snapshot.covers) ||
      !reader.Count(&count, reader.remaining())) {
    return MalformedMeta("the snapshot's header");
  }
  for (uint64_t i = 0; i < count; ++i) {
    MS_ASSIGN_OR_RETURN(MetaChange change, GetChange(&reader));
    snapshot.changes.push_back(std::move(change));
  }
  if (!reader.empty()) return MalformedMeta("bytes behind the snapshot's end");
  return snapshot;
}

}  // namespace millstream::events

#include <bit>

#include "millstream/model/histogram.h"
#include "otlp_model.h"
#include "otlp_values.h"
#include "protobuf_fields.h"

// Field numbers are those of opentelemetry-proto's metrics.proto, common.proto and resource.proto.
namespace millstream::wire::otlp {
namespace {

Status ReadFixed64(ProtobufReader& reader, uint64_t* out) {
  double bits = 0;
  MS_RETURN_IF_ERROR(ReadDouble(reader, &bits));
  *out = std::bit_cast<uint64_t>(bits);
  return Status::Ok();
}

// An sfixed64 where a double may stand, too.
Status ReadWholeNumber(ProtobufReader& reader, double* out) {
  uint64_t bits = 0;
  MS_RETURN_IF_ERROR(ReadFixed64(reader, &bits));
  *out = static_cast<double>(static_cast<int64_t>(bits));
  return Status::Ok();
}

Status ReadDoubles(ProtobufReader& reader, std::vector<double>* out) {
  return ReadRepeated(reader, WireType::kFixed64, [out](ProtobufReader& element) -> Status {
    MS_ASSIGN_OR_RETURN(const double value, element.Double());
    out->push_back(value);
    return Status::Ok();
  });
}

Status ReadFixed64s(ProtobufReader& reader, std::vector<uint64_t>* out) {
  return ReadRepeated(reader, WireType::kFixed64, [out](ProtobufReader& element) -> Status {
    MS_ASSIGN_OR_RETURN(const double bits, element.Double());
    out->push_back(std::bit_cast<uint64_t>(bits));
    return Status::Ok();
  });
}

// A byte of the body can be a bucket: past the limit one too many is kept, for the point to be refused.
Status ReadBucketCounts(ProtobufReader& reader, std::vector<uint64_t>* out) {
  return ReadRepeated(reader, WireType::kVarint, [out](ProtobufReader& element) -> Status {
    MS_ASSIGN_OR_RETURN(const uint64_t value, element.Varint());
    if (out->size() <= model::kHistogramBucketsMax) out->push_back(value);
    return Status::Ok();
  });
}

Status ReadKeyValue(const Child& message, std::string_view* key, Child* value) {
  return ForEachField(message, [&](ProtobufReader& reader) -> Status {
    if (reader.field() == 1) return ReadBytes(reader, key);
    if (reader.field() == 2) return ReadChild(reader, value);
    return reader.Skip();
  });
}

// Here and below an error is of bytes that are no message, and ends the request. `fault` is told why a message that is
// one cannot be taken: its owner is refused by itself.
Status ReadValue(const Child& message, ValueRoom room, Value* out, Status* fault);

// ArrayValue and KeyValueList both have their elements in field 1.
Status ReadElements(const Child& message, bool keyed, ValueRoom room, Value* out, Status* fault) {
  if (room.depth == 0) {
    if (fault->ok()) {
      *fault = InvalidArgument("an attribute's value at byte {} is nested deeper than {}", message.origin,
                               kOtlpValueDepthMax);
    }
    return Status::Ok();
  }
  out->kind = keyed ? Value::Kind::kMap : Value::Kind::kArray;
  return ForEachField(message, [&](ProtobufReader& reader) -> Status {
    if (reader.field() != 1) return reader.Skip();
    if (*room.elements == 0) {
      if (fault->ok()) {
        *fault = InvalidArgument("an attribute's value at byte {} has more than {} elements", message.origin,
                                 kValueElementsMax);
      }
      return reader.Skip();
    }
    --*room.elements;
    Child element;
    MS_RETURN_IF_ERROR(ReadChild(reader, &element));
    std::string_view key;
    if (keyed) {
      const Child pair = element;
      element = {};
      MS_RETURN_IF_ERROR(ReadKeyValue(pair, &key, &element));
    }
    Value& added = out->elements.emplace_back();
    added.key = key;
    return ReadValue(element, {.depth = room.depth - 1, .elements = room.elements}, &added, fault);
  });
}

Status ReadValue(const Child& message, ValueRoom room, Value* out, Status* fault) {
  return ForEachField(message, [&](ProtobufReader& reader) -> Status {
    uint64_t raw = 0;
    switch (reader.field()) {
      case 1:
        out->kind = Value::Kind::kText;
        return ReadBytes(reader, &out->text);
      case 2:
        MS_RETURN_IF_ERROR(ReadVarint(reader, &raw));
        out->kind = Value::Kind::kBool;
        out->integer = raw != 0 ? 1 : 0;
        return Status::Ok();
      case 3:
        MS_RETURN_IF_ERROR(ReadVarint(reader, &raw));
        out->kind = Value::Kind::kInteger;
        out->integer = static_cast<int64_t>(raw);
        return Status::Ok();
      case 4:
        out->kind = Value::Kind::kDouble;
        return ReadDouble(reader, &out->number);
      case 5:
      case 6: {
        Child list;
        const bool keyed = reader.field() == 6;
        MS_RETURN_IF_ERROR(ReadChild(reader, &list));
        return ReadElements(list, keyed, room, out, fault);
      }
      case 7:
        out->kind = Value::Kind::kBytes;
        return ReadBytes(reader, &out->text);
      default:
        return reader.Skip();
    }
  });
}

Status ReadAttribute(ProtobufReader& reader, Attributes* out, Status* fault) {
  Child pair;
  Child message;
  std::string_view key;
  MS_RETURN_IF_ERROR(ReadChild(reader, &pair));
  MS_RETURN_IF_ERROR(ReadKeyValue(pair, &key, &message));
  Value value;
  size_t elements = kValueElementsMax;
  MS_RETURN_IF_ERROR(ReadValue(message, {.elements = &elements}, &value, fault));
  out->Add(key, value.kind == Value::Kind::kText ? value.text : out->Keep(TextOf(value)));
  return Status::Ok();
}

Status ReadFlags(ProtobufReader& reader, Point* out) {
  uint64_t flags = 0;
  MS_RETURN_IF_ERROR(ReadVarint(reader, &flags));
  out->no_recorded_value = (flags & kNoRecordedValueFlag) != 0;
  return Status::Ok();
}

Status ReadId(ProtobufReader& reader, std::string* out) {
  std::string_view bytes;
  MS_RETURN_IF_ERROR(ReadBytes(reader, &bytes));
  *out = HexText(bytes);
  return Status::Ok();
}

Status ReadExemplar(ProtobufReader& reader, Point* point) {
  Child message;
  MS_RETURN_IF_ERROR(ReadChild(reader, &message));
  PointExemplar* out = point->AddExemplar();
  if (out == nullptr) return Status::Ok();
  Status fault;
  MS_RETURN_IF_ERROR(ForEachField(message, [&](ProtobufReader& fields) -> Status {
    switch (fields.field()) {
      case 2:
        return ReadFixed64(fields, &out->time_ns);
      case 3:
        out->has_value = true;
        return ReadDouble(fields, &out->value);
      case 4:
        return ReadId(fields, &out->span_id);
      case 5:
        return ReadId(fields, &out->trace_id);
      case 6:
        out->has_value = true;
        return ReadWholeNumber(fields, &out->value);
      case 7:
        return ReadAttribute(fields, &out->attributes, &fault);
      default:
        return fields.Skip();
    }
  }));
  // The point is good without it.
  if (!fault.ok()) point->DropExemplar();
  return Status::Ok();
}

Status ReadNumberPoint(const Child& message, Point* out) {
  return ForEachField(message, [out](ProtobufReader& reader) -> Status {
    switch (reader.field()) {
      case 2:
        return ReadFixed64(reader, &out->start_ns);
      case 3:
        return ReadFixed64(reader, &out->time_ns);
      case 4:
        out->has_value = true;
        return ReadDouble(reader, &out->value);
      case 5:
        return ReadExemplar(reader, out);
      case 6:
        out->has_value = true;
        return ReadWholeNumber(reader, &out->value);
      case 7:
        return ReadAttribute(reader, &out->attributes, &out->fault);
      case 8:
        return ReadFlags(reader, out);
      default:
        return reader.Skip();
    }
  });
}

Status ReadHistogramPoint(const Child& message, Point* out) {
  return ForEachField(message, [out](ProtobufReader& reader) -> Status {
    switch (reader.field()) {
      case 2:
        return ReadFixed64(reader, &out->start_ns);
      case 3:
        return ReadFixed64(reader, &out->time_ns);
      case 4:
        return ReadFixed64(reader, &out->count);
      case 5:
        out->has_sum = true;
        return ReadDouble(reader, &out->sum);
      case 6:
        return ReadFixed64s(reader, &out->bucket_counts);
      case 7:
        return ReadDoubles(reader, &out->bounds);
      case 8:
        return ReadExemplar(reader, out);
      case 9:
        return ReadAttribute(reader, &out->attributes, &out->fault);
      case 10:
        return ReadFlags(reader, out);
      default:
        return reader.Skip();
    }
  });
}

Status ReadBuckets(ProtobufReader& reader, Buckets* out) {
  Child message;
  MS_RETURN_IF_ERROR(ReadChild(reader, &message));
  return ForEachField(message, [out](ProtobufReader& fields) -> Status {
    if (fields.field() == 1) return ReadZigZag32(fields, &out->offset);
    if (fields.field() == 2) return ReadBucketCounts(fields, &out->counts);
    return fields.Skip();
  });
}

Status ReadExponentialPoint(const Child& message, Point* out) {
  return ForEachField(message, [out](ProtobufReader& reader) -> Status {
    switch (reader.field()) {
      case 1:
        return ReadAttribute(reader, &out->attributes, &out->fault);
      case 2:
        return ReadFixed64(reader, &out->start_ns);
      case 3:
        return ReadFixed64(reader, &out->time_ns);
      case 4:
        return ReadFixed64(reader, &out->count);
      case 5:
        out->has_sum = true;
        return ReadDouble(reader, &out->sum);
      case 6:
        return ReadZigZag32(reader, &out->scale);
      case 7:
        return ReadFixed64(reader, &out->zero_count);
      case 8:
        return ReadBuckets(reader, &out->positive);
      case 9:
        return ReadBuckets(reader, &out->negative);
      case 10:
        return ReadFlags(reader, out);
      case 11:
        return ReadExemplar(reader, out);
      case 14:
        return ReadDouble(reader, &out->zero_threshold);
      default:
        return reader.Skip();
    }
  });
}

Status ReadSummaryPoint(const Child& message, Point* out) {
  return ForEachField(message, [out](ProtobufReader& reader) -> Status {
    switch (reader.field()) {
      case 2:
        return ReadFixed64(reader, &out->start_ns);
      case 3:
        return ReadFixed64(reader, &out->time_ns);
      case 4:
        return ReadFixed64(reader, &out->count);
      case 5:
        return ReadDouble(reader, &out->sum);
      case 6: {
        Child quantile;
        MS_RETURN_IF_ERROR(ReadChild(reader, &quantile));
        QuantileValue ignored;
        QuantileValue& added = out->quantiles.size() <= kQuantilesMax ? out->quantiles.emplace_back() : ignored;
        return ForEachField(quantile, [&added](ProtobufReader& fields) -> Status {
          if (fields.field() == 1) return ReadDouble(fields, &added.quantile);
          if (fields.field() == 2) return ReadDouble(fields, &added.value);
          return fields.Skip();
        });
      }
      case 7:
        return ReadAttribute(reader, &out->attributes, &out->fault);
      case 8:
        return ReadFlags(reader, out);
      default:
        return reader.Skip();
    }
  });
}

Status ReadPoint(MetricKind kind, const Child& message, Point* out) {
  switch (kind) {
    case MetricKind::kGauge:
    case MetricKind::kSum:
      return ReadNumberPoint(message, out);
    case MetricKind::kHistogram:
      return ReadHistogramPoint(message, out);
    case MetricKind::kExponentialHistogram:
      return ReadExponentialPoint(message, out);
    case MetricKind::kSummary:
      return ReadSummaryPoint(message, out);
    case MetricKind::kNone:
      break;
  }
  return Status::Ok();
}

MetricKind KindOfField(uint32_t field) {
  switch (field) {
    case 5:
      return MetricKind::kGauge;
    case 7:
      return MetricKind::kSum;
    case 9:
      return MetricKind::kHistogram;
    case 10:
      return MetricKind::kExponentialHistogram;
    case 11:
      return MetricKind::kSummary;
    default:
      return MetricKind::kNone;
  }
}

class ProtobufRequestReader {
 public:
  explicit ProtobufRequestReader(Visitor& visitor) : visitor_(visitor) {}

  Status ReadResource(const Child& message) {
    resource_.Clear();
    // What is said once for all comes first, wherever the sender put it.
    MS_RETURN_IF_ERROR(ForEachField(message, [&](ProtobufReader& reader) -> Status {
      if (reader.field() != 1) return reader.Skip();
      Child resource;
      MS_RETURN_IF_ERROR(ReadChild(reader, &resource));
      return ForEachField(resource, [&](ProtobufReader& fields) -> Status {
        return fields.field() == 1 ? ReadAttribute(fields, &resource_.attributes, &resource_.fault) : fields.Skip();
      });
    }));
    MS_RETURN_IF_ERROR(visitor_.BeginResource(resource_));
    MS_RETURN_IF_ERROR(ForEachField(message, [&](ProtobufReader& reader) -> Status {
      if (reader.field() != 2) return reader.Skip();
      Child scope;
      MS_RETURN_IF_ERROR(ReadChild(reader, &scope));
      return ReadScope(scope);
    }));
    return visitor_.EndResource();
  }

 private:
  Status ReadScope(const Child& message) {
    scope_.name = scope_.version = scope_.schema_url = {};
    scope_.attributes.Clear();
    scope_.fault = Status::Ok();
    MS_RETURN_IF_ERROR(ForEachField(message, [&](ProtobufReader& reader) -> Status {
      if (reader.field() == 3) return ReadBytes(reader, &scope_.schema_url);
      if (reader.field() != 1) return reader.Skip();
      Child scope;
      MS_RETURN_IF_ERROR(ReadChild(reader, &scope));
      return ForEachField(scope, [&](ProtobufReader& fields) -> Status {
        if (fields.field() == 1) return ReadBytes(fields, &scope_.name);
        if (fields.field() == 2) return ReadBytes(fields, &scope_.version);
        return fields.field() == 3 ? ReadAttribute(fields, &scope_.attributes, &scope_.fault) : fields.Skip();
      });
    }));
    MS_RETURN_IF_ERROR(visitor_.BeginScope(scope_));
    return ForEachField(message, [&](ProtobufReader& reader) -> Status {
      if (reader.field() != 2) return reader.Skip();
      Child metric;
      MS_RETURN_IF_ERROR(ReadChild(reader, &metric));
      return ReadMetric(metric);
    });
  }

  Status ReadMetric(const Child& message) {
    Metric metric;
    Child data;
    MS_RETURN_IF_ERROR(ForEachField(message, [&](ProtobufReader& reader) -> Status {
      if (const MetricKind kind = KindOfField(reader.field()); kind != MetricKind::kNone) {
        metric.kind = kind;
        return ReadChild(reader, &data);
      }
      if (reader.field() == 1) return ReadBytes(reader, &metric.name);
      if (reader.field() == 2) return ReadBytes(reader, &metric.description);
      return reader.field() == 3 ? ReadBytes(reader, &metric.unit) : reader.Skip();
    }));
    MS_RETURN_IF_ERROR(ForEachField(data, [&](ProtobufReader& reader) -> Status {
      if (reader.field() != 2 && reader.field() != 3) return reader.Skip();
      uint64_t raw = 0;
      MS_RETURN_IF_ERROR(ReadVarint(reader, &raw));
      if (reader.field() == 3) {
        metric.monotonic = raw != 0;
      } else {
        metric.temporality = TemporalityOf(raw);
      }
      return Status::Ok();
    }));
    MS_RETURN_IF_ERROR(visitor_.BeginMetric(metric));
    return ForEachField(data, [&](ProtobufReader& reader) -> Status {
      if (reader.field() != 1) return reader.Skip();
      Child point;
      MS_RETURN_IF_ERROR(ReadChild(reader, &point));
      point_.Clear();
      MS_RETURN_IF_ERROR(ReadPoint(metric.kind, point, &point_));
      return visitor_.OnPoint(point_);
    });
  }

  Visitor& visitor_;
  Resource resource_;
  Scope scope_;
  Point point_;
};

}  // namespace

Status ReadProtobuf(std::string_view body, Visitor& visitor) {
  ProtobufRequestReader reader(visitor);
  return ForEachField({.bytes = body}, [&](ProtobufReader& fields) -> Status {
    if (fields.field() != 1) return fields.Skip();
    Child resource;
    MS_RETURN_IF_ERROR(ReadChild(fields, &resource));
    return reader.ReadResource(resource);
  });
}

}  // namespace millstream::wire::otlp

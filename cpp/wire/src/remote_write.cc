#include "millstream/wire/remote_write.h"

#include <snappy.h>

#include <bit>
#include <cmath>
#include <utility>

#include "protobuf_reader.h"

namespace millstream::wire {
namespace {

// The densest snappy element is a 3-byte copy of 64 bytes.
constexpr size_t kSnappyRatioMax = 22;
constexpr size_t kSeriesMax = 1'000'000;
constexpr size_t kSamplesMax = 10'000'000;

template <typename Visit>
Status ForEachField(std::string_view message, size_t origin, Visit visit) {
  ProtobufReader reader(message, origin);
  while (!reader.done()) {
    MS_RETURN_IF_ERROR(reader.Next());
    MS_RETURN_IF_ERROR(visit(reader));
  }
  return Status::Ok();
}

// A repeated scalar, packed or not.
template <typename Read>
Status ReadRepeated(ProtobufReader& reader, WireType element, Read read) {
  if (reader.wire_type() != WireType::kBytes) {
    MS_RETURN_IF_ERROR(reader.Expect(element));
    return read(reader);
  }
  MS_ASSIGN_OR_RETURN(const std::string_view packed, reader.Bytes());
  ProtobufReader elements(packed, reader.offset() - packed.size());
  while (!elements.done()) MS_RETURN_IF_ERROR(read(elements));
  return Status::Ok();
}

Status ReadSample(std::string_view message, size_t origin, DecodedWrite* out) {
  double value = 0;
  TimestampMs timestamp = 0;
  MS_RETURN_IF_ERROR(ForEachField(message, origin, [&](ProtobufReader& reader) -> Status {
    switch (reader.field()) {
      case 1: {
        MS_RETURN_IF_ERROR(reader.Expect(WireType::kFixed64));
        MS_ASSIGN_OR_RETURN(value, reader.Double());
        return Status::Ok();
      }
      case 2: {
        MS_RETURN_IF_ERROR(reader.Expect(WireType::kVarint));
        MS_ASSIGN_OR_RETURN(const uint64_t raw, reader.Varint());
        timestamp = static_cast<TimestampMs>(raw);
        return Status::Ok();
      }
      default:
        return reader.Skip();
    }
  }));
  out->timestamps.push_back(timestamp);
  out->values.push_back(value);
  return Status::Ok();
}

Status ReadSpan(ProtobufReader& reader, std::vector<model::Span>* spans) {
  MS_RETURN_IF_ERROR(reader.Expect(WireType::kBytes));
  MS_ASSIGN_OR_RETURN(const std::string_view message, reader.Bytes());
  model::Span span;
  MS_RETURN_IF_ERROR(ForEachField(message, reader.offset() - message.size(), [&](ProtobufReader& fields) -> Status {
    if (fields.field() > 2) return fields.Skip();
    MS_RETURN_IF_ERROR(fields.Expect(WireType::kVarint));
    MS_ASSIGN_OR_RETURN(const uint64_t raw, fields.Varint());
    if (fields.field() == 1) {
      span.offset = static_cast<int32_t>(ZigZag(raw));
    } else {
      span.length = static_cast<uint32_t>(raw);
    }
    return Status::Ok();
  }));
  spans->push_back(span);
  return Status::Ok();
}

Status ReadDouble(ProtobufReader& reader, double* out) {
  MS_RETURN_IF_ERROR(reader.Expect(WireType::kFixed64));
  MS_ASSIGN_OR_RETURN(*out, reader.Double());
  return Status::Ok();
}

Status ReadCount(ProtobufReader& reader, double* out) {
  MS_RETURN_IF_ERROR(reader.Expect(WireType::kVarint));
  MS_ASSIGN_OR_RETURN(const uint64_t raw, reader.Varint());
  *out = static_cast<double>(raw);
  return Status::Ok();
}

Status ReadDoubles(ProtobufReader& reader, std::vector<double>* out) {
  return ReadRepeated(reader, WireType::kFixed64, [&](ProtobufReader& element) -> Status {
    MS_ASSIGN_OR_RETURN(const double value, element.Double());
    out->push_back(value);
    return Status::Ok();
  });
}

// Bucket counts as integer differences, each from the bucket before.
Status ReadDeltas(ProtobufReader& reader, int64_t* previous, std::vector<double>* out) {
  return ReadRepeated(reader, WireType::kVarint, [&](ProtobufReader& element) -> Status {
    MS_ASSIGN_OR_RETURN(const uint64_t raw, element.Varint());
    *previous = static_cast<int64_t>(static_cast<uint64_t>(*previous) + static_cast<uint64_t>(ZigZag(raw)));
    out->push_back(static_cast<double>(*previous));
    return Status::Ok();
  });
}

// Whole counts must add up; a sum that is NaN may come from observations that no bucket takes.
Status CheckCounts(const model::Histogram& histogram) {
  double found = histogram.zero_count;
  for (const double count : histogram.negative_buckets) found += count;
  for (const double count : histogram.positive_buckets) found += count;
  if (found == histogram.count || (std::isnan(histogram.sum) && found < histogram.count)) return Status::Ok();
  return InvalidArgument("the buckets of a histogram hold {} observations, but its count is {}", found,
                         histogram.count);
}

Status ReadHistogram(std::string_view message, size_t origin, uint32_t item, DecodedWrite* out) {
  model::Histogram histogram;
  bool has_whole_counts = false;
  TimestampMs timestamp = 0;
  int64_t negative = 0;
  int64_t positive = 0;
  MS_RETURN_IF_ERROR(ForEachField(message, origin, [&](ProtobufReader& reader) -> Status {
    switch (reader.field()) {
      case 1:
        has_whole_counts = true;
        return ReadCount(reader, &histogram.count);
      case 2:
        return ReadDouble(reader, &histogram.count);
      case 3:
        return ReadDouble(reader, &histogram.sum);
      case 4: {
        MS_RETURN_IF_ERROR(reader.Expect(WireType::kVarint));
        MS_ASSIGN_OR_RETURN(const uint64_t raw, reader.Varint());
        histogram.schema = static_cast<int32_t>(ZigZag(raw));
        return Status::Ok();
      }
      case 5:
        return ReadDouble(reader, &histogram.zero_threshold);
      case 6:
        return ReadCount(reader, &histogram.zero_count);
      case 7:
        return ReadDouble(reader, &histogram.zero_count);
      case 8:
        return ReadSpan(reader, &histogram.negative_spans);
      case 9:
        return ReadDeltas(reader, &negative, &histogram.negative_buckets);
      case 10:
        return ReadDoubles(reader, &histogram.negative_buckets);
      case 11:
        return ReadSpan(reader, &histogram.positive_spans);
      case 12:
        return ReadDeltas(reader, &positive, &histogram.positive_buckets);
      case 13:
        return ReadDoubles(reader, &histogram.positive_buckets);
      case 14: {
        MS_RETURN_IF_ERROR(reader.Expect(WireType::kVarint));
        MS_ASSIGN_OR_RETURN(const uint64_t raw, reader.Varint());
        if (raw > 3) return InvalidArgument("histogram reset hint {} is not 0 to 3", raw);
        histogram.counter_reset_hint = static_cast<model::CounterResetHint>(raw);
        return Status::Ok();
      }
      case 15: {
        MS_RETURN_IF_ERROR(reader.Expect(WireType::kVarint));
        MS_ASSIGN_OR_RETURN(const uint64_t raw, reader.Varint());
        timestamp = static_cast<TimestampMs>(raw);
        return Status::Ok();
      }
      case 16:
        return ReadDoubles(reader, &histogram.custom_values);
      default:
        return reader.Skip();
    }
  }));
  if (has_whole_counts) {
    if (Status status = CheckCounts(histogram); !status.ok()) {
      out->Reject(item, std::move(status));
      return Status::Ok();
    }
  }
  out->histogram_timestamps.push_back(timestamp);
  out->histograms.push_back(std::move(histogram));
  return Status::Ok();
}

Status ReadMetadata(std::string_view message, size_t origin, DecodedWrite* out) {
  static constexpr std::string_view kTypes[] = {"unknown",        "counter", "gauge", "histogram",
                                                "gaugehistogram", "summary", "info",  "stateset"};
  model::MetricMetadata metadata;
  metadata.type = "unknown";
  MS_RETURN_IF_ERROR(ForEachField(message, origin, [&](ProtobufReader& reader) -> Status {
    std::string* target = nullptr;
    switch (reader.field()) {
      case 1: {
        MS_RETURN_IF_ERROR(reader.Expect(WireType::kVarint));
        MS_ASSIGN_OR_RETURN(const uint64_t type, reader.Varint());
        if (type < std::size(kTypes)) metadata.type = kTypes[type];
        return Status::Ok();
      }
      case 2:
        target = &metadata.metric;
        break;
      case 4:
        target = &metadata.help;
        break;
      case 5:
        target = &metadata.unit;
        break;
      default:
        return reader.Skip();
    }
    MS_RETURN_IF_ERROR(reader.Expect(WireType::kBytes));
    MS_ASSIGN_OR_RETURN(const std::string_view text, reader.Bytes());
    *target = text;
    return Status::Ok();
  }));
  out->metadata.push_back(std::move(metadata));
  return Status::Ok();
}

// Where a series' labels stand. Senders write them one after another, and then the run of bytes is the key; when other
// fields come between, the pieces are joined.
class LabelRun {
 public:
  void Add(const char* begin, const char* end) {
    if (end_ == nullptr) {
      begin_ = begin;
    } else if (begin != end_ || !joined_.empty()) {
      if (joined_.empty()) joined_.assign(begin_, end_);
      joined_.append(begin, end);
    }
    end_ = end;
  }
  bool joined() const { return !joined_.empty(); }
  std::string_view bytes() const {
    if (joined()) return joined_;
    return end_ == nullptr ? std::string_view() : std::string_view(begin_, static_cast<size_t>(end_ - begin_));
  }

 private:
  const char* begin_ = nullptr;
  const char* end_ = nullptr;
  std::string joined_;
};

// Keeps joined label runs alive: DecodedWrite's one string can only grow where it was reserved for.
class Decoder {
 public:
  explicit Decoder(std::string message) : message_(std::move(message)) {}

  Result<DecodedWrite> Decode() {
    out_.encoding = LabelEncoding::kProtobuf;
    MS_RETURN_IF_ERROR(ForEachField(message_, 0, [&](ProtobufReader& reader) -> Status {
      if (reader.field() != 1 && reader.field() != 3) return reader.Skip();
      MS_RETURN_IF_ERROR(reader.Expect(WireType::kBytes));
      MS_ASSIGN_OR_RETURN(const std::string_view child, reader.Bytes());
      const size_t origin = reader.offset() - child.size();
      return reader.field() == 1 ? ReadSeries(child, origin) : ReadMetadata(child, origin, &out_);
    }));
    // Joined runs are appended to the message, so that one buffer owns every view.
    const char* old_data = message_.data();
    const size_t old_size = message_.size();
    auto bytes = std::make_unique<std::string>(std::move(message_));
    bytes->append(joined_labels_);
    for (size_t i = 0; i < out_.series.size(); ++i) {
      std::string_view& raw = out_.series[i].raw_labels;
      const size_t at = joined_at_[i] != kNotJoined ? old_size + joined_at_[i]
                        : raw.empty()               ? 0
                                                    : static_cast<size_t>(raw.data() - old_data);
      raw = std::string_view(*bytes).substr(at, joined_at_[i] != kNotJoined ? joined_length_[i] : raw.size());
    }
    out_.bytes = std::move(bytes);
    return std::move(out_);
  }

 private:
  static constexpr size_t kNotJoined = SIZE_MAX;

  Status ReadSeries(std::string_view message, size_t origin) {
    if (out_.series.size() == kSeriesMax) return ResourceExhausted("more than {} series in one request", kSeriesMax);
    DecodedSeries series;
    series.item = static_cast<uint32_t>(out_.series.size());
    series.floats_begin = static_cast<uint32_t>(out_.timestamps.size());
    series.histograms_begin = static_cast<uint32_t>(out_.histograms.size());
    LabelRun labels;
    ProtobufReader reader(message, origin);
    while (!reader.done()) {
      const char* field_begin = reader.position();
      MS_RETURN_IF_ERROR(reader.Next());
      if (reader.field() < 1 || reader.field() > 4) {
        MS_RETURN_IF_ERROR(reader.Skip());
        continue;
      }
      MS_RETURN_IF_ERROR(reader.Expect(WireType::kBytes));
      MS_ASSIGN_OR_RETURN(const std::string_view child, reader.Bytes());
      const size_t child_origin = reader.offset() - child.size();
      if (out_.timestamps.size() + out_.histograms.size() >= kSamplesMax) {
        return ResourceExhausted("more than {} samples in one request", kSamplesMax);
      }
      switch (reader.field()) {
        case 1:
          labels.Add(field_begin, reader.position());
          break;
        case 2:
          MS_RETURN_IF_ERROR(ReadSample(child, child_origin, &out_));
          break;
        case 3:
          MS_RETURN_IF_ERROR(
              ForEachField(child, child_origin, [](ProtobufReader& exemplar) { return exemplar.Skip(); }));
          break;
        default:
          MS_RETURN_IF_ERROR(ReadHistogram(child, child_origin, series.item, &out_));
      }
    }
    series.floats_end = static_cast<uint32_t>(out_.timestamps.size());
    series.histograms_end = static_cast<uint32_t>(out_.histograms.size());
    if (labels.joined()) {
      joined_at_.push_back(joined_labels_.size());
      joined_length_.push_back(labels.bytes().size());
      joined_labels_.append(labels.bytes());
    } else {
      joined_at_.push_back(kNotJoined);
      joined_length_.push_back(0);
      series.raw_labels = labels.bytes();
    }
    out_.series.push_back(series);
    return Status::Ok();
  }

  std::string message_;
  DecodedWrite out_;
  std::string joined_labels_;
  std::vector<size_t> joined_at_;
  std::vector<size_t> joined_length_;
};

}  // namespace

Result<DecodedWrite> DecodeRemoteWrite(std::string_view compressed) {
  size_t length = 0;
  if (!snappy::GetUncompressedLength(compressed.data(), compressed.size(), &length)) {
    return InvalidArgument("the body is not a snappy block: its length cannot be read");
  }
  if (length > kRemoteWriteBytesMax) {
    return ResourceExhausted("the body declares {} bytes uncompressed; the limit is {}", length, kRemoteWriteBytesMax);
  }
  if (length > (compressed.size() + 1) * kSnappyRatioMax) {
    return InvalidArgument("the body declares {} bytes, more than {} bytes of snappy can hold", length,
                           compressed.size());
  }
  std::string message(length, '\0');
  if (!snappy::RawUncompress(compressed.data(), compressed.size(), message.data())) {
    return InvalidArgument("the body is not a valid snappy block: it is truncated or corrupt");
  }
  return DecodeRemoteWriteMessage(std::move(message));
}

Result<DecodedWrite> DecodeRemoteWriteMessage(std::string message) {
  return Decoder(std::move(message)).Decode();
}

}  // namespace millstream::wire

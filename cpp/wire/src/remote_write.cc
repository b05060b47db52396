#include "millstream/wire/remote_write.h"

#include <utility>

#include "millstream/wire/labels_decoder.h"
#include "protobuf_fields.h"
#include "remote_write_histogram.h"
#include "remote_write_types.h"
#include "snappy_block.h"

namespace millstream::wire {
namespace {

Status ReadSample(const Child& message, DecodedWrite* out) {
  double value = 0;
  TimestampMs timestamp = 0;
  MS_RETURN_IF_ERROR(ForEachField(message, [&](ProtobufReader& reader) -> Status {
    switch (reader.field()) {
      case 1:
        return ReadDouble(reader, &value);
      case 2:
        return ReadInt64(reader, &timestamp);
      default:
        return reader.Skip();
    }
  }));
  out->timestamps.push_back(timestamp);
  out->values.push_back(value);
  return Status::Ok();
}

Status ReadLabel(const Child& message, model::Label* out) {
  return ForEachField(message, [&](ProtobufReader& reader) -> Status {
    if (reader.field() > 2) return reader.Skip();
    return ReadBytes(reader, reader.field() == 1 ? &out->name : &out->value);
  });
}

Status ReadExemplar(const Child& message, uint32_t item, DecodedWrite* out) {
  model::Exemplar exemplar;
  std::vector<model::Label> labels;
  MS_RETURN_IF_ERROR(ForEachField(message, [&](ProtobufReader& reader) -> Status {
    switch (reader.field()) {
      case 1: {
        Child child;
        MS_RETURN_IF_ERROR(ReadChild(reader, &child));
        model::Label label;
        MS_RETURN_IF_ERROR(ReadLabel(child, &label));
        // One more than may be is enough to be refused.
        if (labels.size() <= model::kExemplarLabelRunesMax) labels.push_back(label);
        return Status::Ok();
      }
      case 2:
        return ReadDouble(reader, &exemplar.value);
      case 3:
        return ReadInt64(reader, &exemplar.timestamp);
      default:
        return reader.Skip();
    }
  }));
  Result<model::Labels> decoded = DecodeExemplarLabels(labels);
  if (!decoded.ok()) {
    out->Reject(item, std::move(decoded).status());
    return Status::Ok();
  }
  exemplar.labels = std::move(decoded).value();
  out->exemplars.push_back(std::move(exemplar));
  return Status::Ok();
}

Status ReadMetadata(const Child& message, DecodedWrite* out) {
  if (out->metadata.size() == kRemoteWriteMetadataMax) {
    return OutOfRange("metadata of more than {} metrics in one request", kRemoteWriteMetadataMax);
  }
  model::MetricMetadata metadata;
  metadata.type = RemoteWriteMetricType(0);
  MS_RETURN_IF_ERROR(ForEachField(message, [&](ProtobufReader& reader) -> Status {
    std::string* target = nullptr;
    switch (reader.field()) {
      case 1: {
        uint64_t type = 0;
        MS_RETURN_IF_ERROR(ReadVarint(reader, &type));
        metadata.type = RemoteWriteMetricType(type);
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
    std::string_view text;
    MS_RETURN_IF_ERROR(ReadBytes(reader, &text));
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
class RemoteWriteDecoder {
 public:
  explicit RemoteWriteDecoder(std::string message) : message_(std::move(message)) {}

  Result<DecodedWrite> Decode() {
    out_.encoding = LabelEncoding::kProtobuf;
    MS_RETURN_IF_ERROR(ForEachField({.bytes = message_}, [&](ProtobufReader& reader) -> Status {
      if (reader.field() != 1 && reader.field() != 3) return reader.Skip();
      Child child;
      MS_RETURN_IF_ERROR(ReadChild(reader, &child));
      return reader.field() == 1 ? ReadSeries(child) : ReadMetadata(child, &out_);
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

  Status ReadSeries(const Child& message) {
    if (out_.series.size() == kRemoteWriteSeriesMax)
      return OutOfRange("more than {} series in one request", kRemoteWriteSeriesMax);
    DecodedSeries series;
    series.item = static_cast<uint32_t>(out_.series.size());
    series.floats_begin = static_cast<uint32_t>(out_.timestamps.size());
    series.histograms_begin = static_cast<uint32_t>(out_.histograms.size());
    series.exemplars_begin = static_cast<uint32_t>(out_.exemplars.size());
    LabelRun labels;
    ProtobufReader reader(message.bytes, message.origin);
    while (!reader.done()) {
      const char* field_begin = reader.position();
      MS_RETURN_IF_ERROR(reader.Next());
      if (reader.field() < 1 || reader.field() > 4) {
        MS_RETURN_IF_ERROR(reader.Skip());
        continue;
      }
      Child child;
      MS_RETURN_IF_ERROR(ReadChild(reader, &child));
      if (out_.timestamps.size() + out_.histograms.size() >= kRemoteWriteSamplesMax) {
        return OutOfRange("more than {} samples in one request", kRemoteWriteSamplesMax);
      }
      switch (reader.field()) {
        case 1:
          labels.Add(field_begin, reader.position());
          break;
        case 2:
          MS_RETURN_IF_ERROR(ReadSample(child, &out_));
          break;
        case 3:
          if (out_.exemplars.size() >= kRemoteWriteExemplarsMax) {
            return OutOfRange("more than {} exemplars in one request", kRemoteWriteExemplarsMax);
          }
          MS_RETURN_IF_ERROR(ReadExemplar(child, series.item, &out_));
          break;
        default:
          MS_RETURN_IF_ERROR(histograms_.Read(child, series.item, &out_));
      }
    }
    series.floats_end = static_cast<uint32_t>(out_.timestamps.size());
    series.histograms_end = static_cast<uint32_t>(out_.histograms.size());
    series.exemplars_end = static_cast<uint32_t>(out_.exemplars.size());
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
  HistogramReader histograms_;
  std::string joined_labels_;
  std::vector<size_t> joined_at_;
  std::vector<size_t> joined_length_;
};

}  // namespace

Result<DecodedWrite> DecodeRemoteWrite(std::string_view compressed) {
  MS_ASSIGN_OR_RETURN(std::string message, UncompressSnappy(compressed, kRemoteWriteBytesMax));
  return DecodeRemoteWriteMessage(std::move(message));
}

Result<DecodedWrite> DecodeRemoteWriteMessage(std::string message) {
  return RemoteWriteDecoder(std::move(message)).Decode();
}

}  // namespace millstream::wire

#include <map>
#include <utility>
#include <vector>

#include "millstream/wire/labels_decoder.h"
#include "millstream/wire/remote_write.h"
#include "protobuf_fields.h"
#include "remote_write_histogram.h"
#include "remote_write_types.h"
#include "snappy_block.h"

namespace millstream::wire {
namespace {

// More references than these are refused by the rules for labels in any case.
constexpr size_t kLabelRefsMax = 1024;

Status ReadRefs(ProtobufReader& reader, std::vector<uint32_t>* refs) {
  return ReadRepeated(reader, WireType::kVarint, [&](ProtobufReader& element) -> Status {
    MS_ASSIGN_OR_RETURN(const uint64_t ref, element.Varint());
    // A symbol that far is not in any table.
    const auto bounded = static_cast<uint32_t>(std::min<uint64_t>(ref, UINT32_MAX));
    if (refs->size() <= kLabelRefsMax) refs->push_back(bounded);
    return Status::Ok();
  });
}

Status ReadSampleWithStart(const Child& message, DecodedWrite* out) {
  double value = 0;
  TimestampMs timestamp = 0;
  TimestampMs start = 0;
  MS_RETURN_IF_ERROR(ForEachField(message, [&](ProtobufReader& reader) -> Status {
    switch (reader.field()) {
      case 1:
        return ReadDouble(reader, &value);
      case 2:
        return ReadInt64(reader, &timestamp);
      case 3:
        return ReadInt64(reader, &start);
      default:
        return reader.Skip();
    }
  }));
  out->timestamps.push_back(timestamp);
  out->values.push_back(value);
  out->SetStart(start);
  return Status::Ok();
}

// The metric that a series belongs to. Native histograms are series of their metric's own name.
std::string_view MetricOf(std::string_view series_name, std::string_view type, bool is_native) {
  if (is_native) return series_name;
  const bool is_histogram = type == "histogram" || type == "gaugehistogram";
  if (!is_histogram && type != "summary") return series_name;
  for (const std::string_view suffix : {"_bucket", "_sum", "_count", "_gsum", "_gcount"}) {
    if (!is_histogram && suffix == "_bucket") continue;
    if (series_name.size() > suffix.size() && series_name.ends_with(suffix)) {
      return series_name.substr(0, series_name.size() - suffix.size());
    }
  }
  return series_name;
}

class DecoderV2 {
 public:
  explicit DecoderV2(std::string message) : message_(std::move(message)) {}

  Result<DecodedWrite> Decode() {
    out_.encoding = LabelEncoding::kPairs;
    // Symbols first: fields may come in any order.
    MS_RETURN_IF_ERROR(ForEachChild(4, [&](const Child& symbol) -> Status {
      if (symbols_.size() == kRemoteWriteSymbolsMax) {
        return OutOfRange("more than {} symbols in one request", kRemoteWriteSymbolsMax);
      }
      symbols_.push_back(symbol.bytes);
      return Status::Ok();
    }));
    if (!symbols_.empty() && !symbols_.front().empty()) {
      return InvalidArgument("the first symbol must be the empty string");
    }
    uint32_t item = 0;
    MS_RETURN_IF_ERROR(ForEachChild(5, [&](const Child& series) -> Status {
      if (item == kRemoteWriteSeriesMax) {
        return OutOfRange("more than {} series in one request", kRemoteWriteSeriesMax);
      }
      return ReadSeries(series, item++);
    }));
    for (size_t i = 0; i < out_.series.size(); ++i) {
      out_.series[i].raw_labels = std::string_view(*labels_).substr(places_[i].begin, places_[i].size);
    }
    for (auto& [metric, metadata] : metadata_) out_.metadata.push_back(std::move(metadata));
    out_.bytes = std::move(labels_);
    return std::move(out_);
  }

 private:
  struct Place {
    size_t begin;
    size_t size;
  };
  struct SeriesMetadata {
    uint64_t type = 0;
    uint64_t help_ref = 0;
    uint64_t unit_ref = 0;
  };

  template <typename Visit>
  Status ForEachChild(uint32_t field, Visit visit) {
    return ForEachField({.bytes = message_}, [&](ProtobufReader& reader) -> Status {
      if (reader.field() != field) return reader.Skip();
      Child child;
      MS_RETURN_IF_ERROR(ReadChild(reader, &child));
      return visit(child);
    });
  }

  Status ReadSeries(const Child& message, uint32_t item) {
    DecodedSeries series;
    series.item = item;
    series.floats_begin = static_cast<uint32_t>(out_.timestamps.size());
    series.histograms_begin = static_cast<uint32_t>(out_.histograms.size());
    series.exemplars_begin = static_cast<uint32_t>(out_.exemplars.size());
    refs_.clear();
    SeriesMetadata metadata;
    bool is_empty = true;
    bool is_native = false;
    MS_RETURN_IF_ERROR(ForEachField(message, [&](ProtobufReader& reader) -> Status {
      if (reader.field() == 1) return ReadRefs(reader, &refs_);
      if (reader.field() < 2 || reader.field() > 5) return reader.Skip();
      Child child;
      MS_RETURN_IF_ERROR(ReadChild(reader, &child));
      if (reader.field() == 5) return ReadMetadata(child, &metadata);
      is_empty = false;
      if (reader.field() == 4) return ReadExemplar(child, item);
      if (out_.timestamps.size() + out_.histograms.size() >= kRemoteWriteSamplesMax) {
        return OutOfRange("more than {} samples in one request", kRemoteWriteSamplesMax);
      }
      if (reader.field() == 2) return ReadSampleWithStart(child, &out_);
      is_native = true;
      return histograms_.Read(child, item, &out_);
    }));
    series.floats_end = static_cast<uint32_t>(out_.timestamps.size());
    series.histograms_end = static_cast<uint32_t>(out_.histograms.size());
    series.exemplars_end = static_cast<uint32_t>(out_.exemplars.size());

    Status bad = is_empty ? InvalidArgument("the series has neither samples nor histograms nor exemplars")
                          : CheckRefs(refs_, "label");
    if (bad.ok()) bad = CheckMetadata(metadata);
    if (!bad.ok()) {
      Refuse(series, std::move(bad));
      return Status::Ok();
    }
    const size_t begin = labels_->size();
    std::string_view name;
    for (size_t i = 0; i < refs_.size(); i += 2) {
      const std::string_view label = symbols_[refs_[i]];
      const std::string_view value = symbols_[refs_[i + 1]];
      MS_RETURN_IF_ERROR(Charge(label.size() + value.size() + 8));
      AppendPairString(label, labels_.get());
      AppendPairString(value, labels_.get());
      if (label == model::kMetricName) name = value;
    }
    places_.push_back({begin, labels_->size() - begin});
    out_.series.push_back(series);
    return KeepMetadata(name, is_native, metadata);
  }

  // kInvalidArgument unless the references are pairs of symbols of the table.
  Status CheckRefs(const std::vector<uint32_t>& refs, std::string_view what) const {
    if (refs.size() > kLabelRefsMax) return InvalidArgument("more than {} {} references", kLabelRefsMax, what);
    if (refs.size() % 2 != 0) return InvalidArgument("{} {} references are no pairs", refs.size(), what);
    for (const uint32_t ref : refs) {
      if (ref >= symbols_.size()) {
        return InvalidArgument("{} reference {} is beyond the table of {} symbols", what, ref, symbols_.size());
      }
    }
    return Status::Ok();
  }

  Status CheckMetadata(const SeriesMetadata& metadata) const {
    for (const uint64_t ref : {metadata.help_ref, metadata.unit_ref}) {
      if (ref != 0 && ref >= symbols_.size()) {
        return InvalidArgument("metadata reference {} is beyond the table of {} symbols", ref, symbols_.size());
      }
    }
    return Status::Ok();
  }

  Status ReadMetadata(const Child& message, SeriesMetadata* metadata) {
    return ForEachField(message, [&](ProtobufReader& reader) -> Status {
      if (reader.field() != 1 && reader.field() != 3 && reader.field() != 4) return reader.Skip();
      return ReadVarint(reader, reader.field() == 1   ? &metadata->type
                                : reader.field() == 3 ? &metadata->help_ref
                                                      : &metadata->unit_ref);
    });
  }

  Status ReadExemplar(const Child& message, uint32_t item) {
    if (out_.exemplars.size() >= kRemoteWriteExemplarsMax) {
      return OutOfRange("more than {} exemplars in one request", kRemoteWriteExemplarsMax);
    }
    model::Exemplar exemplar;
    std::vector<uint32_t> refs;
    MS_RETURN_IF_ERROR(ForEachField(message, [&](ProtobufReader& reader) -> Status {
      switch (reader.field()) {
        case 1:
          return ReadRefs(reader, &refs);
        case 2:
          return ReadDouble(reader, &exemplar.value);
        case 3:
          return ReadInt64(reader, &exemplar.timestamp);
        default:
          return reader.Skip();
      }
    }));
    if (Status bad = CheckRefs(refs, "exemplar label"); !bad.ok()) {
      out_.Reject(item, std::move(bad));
      return Status::Ok();
    }
    std::vector<model::Label> pairs;
    for (size_t i = 0; i < refs.size(); i += 2) pairs.push_back({symbols_[refs[i]], symbols_[refs[i + 1]]});
    Result<model::Labels> labels = DecodeExemplarLabels(pairs);
    if (!labels.ok()) {
      out_.Reject(item, std::move(labels).status());
      return Status::Ok();
    }
    exemplar.labels = std::move(labels).value();
    out_.exemplars.push_back(std::move(exemplar));
    return Status::Ok();
  }

  // Takes the series' samples out again.
  void Refuse(const DecodedSeries& series, Status reason) {
    const uint32_t samples = (series.floats_end - series.floats_begin) +
                             (series.histograms_end - series.histograms_begin) +
                             (series.exemplars_end - series.exemplars_begin);
    out_.timestamps.resize(series.floats_begin);
    out_.values.resize(series.floats_begin);
    out_.start_timestamps.resize(std::min<size_t>(out_.start_timestamps.size(), series.floats_begin));
    out_.histogram_timestamps.resize(series.histograms_begin);
    out_.histograms.resize(series.histograms_begin);
    out_.histogram_start_timestamps.resize(
        std::min<size_t>(out_.histogram_start_timestamps.size(), series.histograms_begin));
    out_.exemplars.resize(series.exemplars_begin);
    out_.Reject(series.item, std::move(reason), std::max<uint32_t>(samples, 1));
  }

  Status KeepMetadata(std::string_view series_name, bool is_native, const SeriesMetadata& found) {
    if (series_name.empty() || (found.type == 0 && found.help_ref == 0 && found.unit_ref == 0)) return Status::Ok();
    const std::string_view type = RemoteWriteMetricType(found.type);
    const std::string_view metric = MetricOf(series_name, type, is_native);
    if (metadata_.contains(metric)) return Status::Ok();
    const std::string_view help = found.help_ref == 0 ? "" : symbols_[found.help_ref];
    const std::string_view unit = found.unit_ref == 0 ? "" : symbols_[found.unit_ref];
    MS_RETURN_IF_ERROR(Charge(metric.size() + help.size() + unit.size() + sizeof(model::MetricMetadata)));
    metadata_.emplace(
        metric, model::MetricMetadata{std::string(metric), std::string(type), std::string(help), std::string(unit)});
    return Status::Ok();
  }

  Status Charge(size_t bytes) {
    expanded_bytes_ += bytes;
    if (expanded_bytes_ <= kRemoteWriteExpandedBytesMax) return Status::Ok();
    return OutOfRange("the labels and metadata of one request take more than {} bytes", kRemoteWriteExpandedBytesMax);
  }

  const std::string message_;
  std::vector<std::string_view> symbols_;  // in message_
  DecodedWrite out_;
  HistogramReader histograms_;
  std::unique_ptr<std::string> labels_ = std::make_unique<std::string>();
  std::vector<Place> places_;  // of the labels of out_.series, in *labels_
  std::vector<uint32_t> refs_;
  std::map<std::string_view, model::MetricMetadata> metadata_;  // by metric; keys in message_
  size_t expanded_bytes_ = 0;
};

}  // namespace

Result<DecodedWrite> DecodeRemoteWriteV2(std::string_view compressed) {
  MS_ASSIGN_OR_RETURN(std::string message, UncompressSnappy(compressed, kRemoteWriteBytesMax));
  return DecodeRemoteWriteV2Message(std::move(message));
}

Result<DecodedWrite> DecodeRemoteWriteV2Message(std::string message) {
  return DecoderV2(std::move(message)).Decode();
}

}  // namespace millstream::wire

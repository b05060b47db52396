#include "remote_write_histogram.h"

#include <cmath>
#include <utility>
#include <vector>

#include "millstream/wire/remote_write.h"
#include "protobuf_fields.h"

namespace millstream::wire {
namespace {

// One more than a histogram may have is enough for it to be refused.
template <typename T>
void Add(T value, std::vector<T>* out) {
  if (out->size() <= model::kHistogramBucketsMax) out->push_back(value);
}

Status ReadSpan(ProtobufReader& reader, std::vector<model::Span>* spans) {
  Child message;
  MS_RETURN_IF_ERROR(ReadChild(reader, &message));
  model::Span span;
  MS_RETURN_IF_ERROR(ForEachField(message, [&](ProtobufReader& fields) -> Status {
    if (fields.field() > 2) return fields.Skip();
    if (fields.field() == 1) return ReadZigZag32(fields, &span.offset);
    uint64_t length = 0;
    MS_RETURN_IF_ERROR(ReadVarint(fields, &length));
    span.length = static_cast<uint32_t>(length);
    return Status::Ok();
  }));
  Add(span, spans);
  return Status::Ok();
}

Status ReadCount(ProtobufReader& reader, double* out) {
  uint64_t raw = 0;
  MS_RETURN_IF_ERROR(ReadVarint(reader, &raw));
  *out = static_cast<double>(raw);
  return Status::Ok();
}

Status ReadDoubles(ProtobufReader& reader, std::vector<double>* out) {
  return ReadRepeated(reader, WireType::kFixed64, [&](ProtobufReader& element) -> Status {
    MS_ASSIGN_OR_RETURN(const double value, element.Double());
    Add(value, out);
    return Status::Ok();
  });
}

// Bucket counts as integer differences, each from the bucket before.
Status ReadDeltas(ProtobufReader& reader, int64_t* previous, std::vector<double>* out) {
  return ReadRepeated(reader, WireType::kVarint, [&](ProtobufReader& element) -> Status {
    MS_ASSIGN_OR_RETURN(const uint64_t raw, element.Varint());
    *previous = static_cast<int64_t>(static_cast<uint64_t>(*previous) + static_cast<uint64_t>(ZigZag(raw)));
    Add(static_cast<double>(*previous), out);
    return Status::Ok();
  });
}

size_t BytesOf(const model::Histogram& histogram) {
  const size_t numbers = histogram.negative_spans.size() + histogram.positive_spans.size() +
                         histogram.negative_buckets.size() + histogram.positive_buckets.size() +
                         histogram.custom_values.size();
  return sizeof(histogram) + numbers * sizeof(double);
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

}  // namespace

Status HistogramReader::Read(const Child& message, uint32_t item, DecodedWrite* out) {
  model::Histogram histogram;
  bool has_whole_counts = false;
  uint64_t reset_hint = 0;
  TimestampMs timestamp = 0;
  TimestampMs start = 0;
  int64_t negative = 0;
  int64_t positive = 0;
  MS_RETURN_IF_ERROR(ForEachField(message, [&](ProtobufReader& reader) -> Status {
    switch (reader.field()) {
      case 1:
        has_whole_counts = true;
        return ReadCount(reader, &histogram.count);
      case 2:
        return ReadDouble(reader, &histogram.count);
      case 3:
        return ReadDouble(reader, &histogram.sum);
      case 4:
        return ReadZigZag32(reader, &histogram.schema);
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
      case 14:
        return ReadVarint(reader, &reset_hint);
      case 15:
        return ReadInt64(reader, &timestamp);
      case 16:
        return ReadDoubles(reader, &histogram.custom_values);
      case 17:
        return ReadInt64(reader, &start);
      default:
        return reader.Skip();
    }
  }));
  bytes_ += BytesOf(histogram);
  if (bytes_ > kRemoteWriteHistogramBytesMax) {
    return OutOfRange("the histograms of one request take more than {} bytes", kRemoteWriteHistogramBytesMax);
  }
  if (reset_hint > 3) {
    out->Reject(item, InvalidArgument("histogram reset hint {} is not 0 to 3", reset_hint));
    return Status::Ok();
  }
  histogram.counter_reset_hint = static_cast<model::CounterResetHint>(reset_hint);
  if (has_whole_counts) {
    if (Status status = CheckCounts(histogram); !status.ok()) {
      out->Reject(item, std::move(status));
      return Status::Ok();
    }
  }
  out->histogram_timestamps.push_back(timestamp);
  out->histograms.push_back(std::move(histogram));
  out->SetHistogramStart(start);
  return Status::Ok();
}

}  // namespace millstream::wire

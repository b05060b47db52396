#include "millstream/wire/remote_read.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "histogram_chunk.h"
#include "millstream/base/utf8.h"
#include "millstream/codec/byte_io.h"
#include "millstream/codec/crc32c.h"
#include "protobuf_append.h"
#include "protobuf_fields.h"
#include "snappy_block.h"
#include "xor_chunk.h"

namespace millstream::wire {
namespace {

constexpr uint64_t kXorEncoding = 1;
constexpr model::MatchType kMatchTypes[] = {model::MatchType::kEqual, model::MatchType::kNotEqual,
                                            model::MatchType::kRegex, model::MatchType::kNotRegex};

Status ReadMatcher(const Child& message, std::vector<model::Matcher>* out) {
  if (out->size() == kReadMatchersMax) return OutOfRange("more than {} matchers in one query", kReadMatchersMax);
  uint64_t type = 0;
  std::string name;
  std::string value;
  MS_RETURN_IF_ERROR(ForEachField(message, [&](ProtobufReader& reader) -> Status {
    if (reader.field() == 1) return ReadVarint(reader, &type);
    if (reader.field() > 3) return reader.Skip();
    std::string_view text;
    MS_RETURN_IF_ERROR(ReadBytes(reader, &text));
    if (FirstInvalidUtf8(text) != std::string_view::npos) return InvalidArgument("a matcher is not UTF-8");
    (reader.field() == 2 ? name : value) = text;
    return Status::Ok();
  }));
  if (type >= std::size(kMatchTypes)) return InvalidArgument("the type {} of a matcher is unknown", type);
  Result<model::Matcher> matcher = model::Matcher::Make(kMatchTypes[type], std::move(name), std::move(value));
  if (!matcher.ok()) return InvalidArgument("{}", matcher.status().message());
  out->push_back(std::move(matcher).value());
  return Status::Ok();
}

Status ReadQueryMessage(const Child& message, std::vector<ReadQuery>* out) {
  if (out->size() == kReadQueriesMax) return OutOfRange("more than {} queries in one request", kReadQueriesMax);
  ReadQuery query;
  MS_RETURN_IF_ERROR(ForEachField(message, [&](ProtobufReader& reader) -> Status {
    switch (reader.field()) {
      case 1:
        return ReadInt64(reader, &query.range.min);
      case 2:
        return ReadInt64(reader, &query.range.max);
      case 3: {
        Child child;
        MS_RETURN_IF_ERROR(ReadChild(reader, &child));
        return ReadMatcher(child, &query.matchers);
      }
      default:
        return reader.Skip();
    }
  }));
  out->push_back(std::move(query));
  return Status::Ok();
}

void AppendLabels(const model::Labels& labels, std::string* part, std::string* out) {
  for (const model::Label label : labels) {
    part->clear();
    PutBytesField(1, label.name, part);
    PutBytesField(2, label.value, part);
    PutBytesField(1, *part, out);
  }
}

void AppendSpans(uint32_t field, const std::vector<model::Span>& spans, std::string* out) {
  for (const model::Span& span : spans) {
    std::string part;
    PutVarintField(1, codec::ZigZag(span.offset), &part);
    PutVarintField(2, span.length, &part);
    PutBytesField(field, part, out);
  }
}

void AppendDoubles(uint32_t field, const std::vector<double>& values, std::string* out) {
  if (values.empty()) return;
  std::string packed;
  for (const double value : values) PutDouble(value, &packed);
  PutBytesField(field, packed, out);
}

void AppendHistogram(TimestampMs timestamp, const model::Histogram& histogram, std::string* out) {
  PutDoubleField(2, histogram.count, out);
  PutDoubleField(3, histogram.sum, out);
  PutVarintField(4, codec::ZigZag(histogram.schema), out);
  PutDoubleField(5, histogram.zero_threshold, out);
  PutDoubleField(7, histogram.zero_count, out);
  AppendSpans(8, histogram.negative_spans, out);
  AppendDoubles(10, histogram.negative_buckets, out);
  AppendSpans(11, histogram.positive_spans, out);
  AppendDoubles(13, histogram.positive_buckets, out);
  PutVarintField(14, static_cast<uint64_t>(histogram.counter_reset_hint), out);
  PutVarintField(15, static_cast<uint64_t>(timestamp), out);
  AppendDoubles(16, histogram.custom_values, out);
}

// The first place after `begin` whose time is not before `until`.
size_t EndOfRun(const std::vector<TimestampMs>& timestamps, size_t begin, TimestampMs until) {
  const auto end = std::lower_bound(timestamps.begin() + static_cast<ptrdiff_t>(begin) + 1, timestamps.end(), until);
  return static_cast<size_t>(end - timestamps.begin());
}

}  // namespace

Result<ReadRequest> DecodeReadRequest(std::string_view compressed) {
  MS_ASSIGN_OR_RETURN(const std::string message, UncompressSnappy(compressed, kReadRequestBytesMax));
  ReadRequest request;
  bool says_types = false;
  MS_RETURN_IF_ERROR(ForEachField({.bytes = message}, [&](ProtobufReader& reader) -> Status {
    if (reader.field() == 1) {
      Child child;
      MS_RETURN_IF_ERROR(ReadChild(reader, &child));
      return ReadQueryMessage(child, &request.queries);
    }
    if (reader.field() != 2) return reader.Skip();
    return ReadRepeated(reader, WireType::kVarint, [&](ProtobufReader& element) -> Status {
      MS_ASSIGN_OR_RETURN(const uint64_t type, element.Varint());
      says_types = true;
      request.takes_samples = request.takes_samples || type == 0;
      request.takes_chunks = request.takes_chunks || type == 1;
      return Status::Ok();
    });
  }));
  if (!says_types) request.takes_samples = true;
  if (!request.takes_samples && !request.takes_chunks) {
    return InvalidArgument("none of the accepted response types is offered: SAMPLES and STREAMED_XOR_CHUNKS are");
  }
  return request;
}

void SamplesAnswer::BeginQuery() {
  EndQuery();
  in_query_ = true;
}

void SamplesAnswer::EndQuery() {
  if (!in_query_) return;
  PutBytesField(1, result_, &message_);
  result_.clear();
  in_query_ = false;
}

void SamplesAnswer::AddSeries(const model::Labels& labels, const storage::SampleColumns& samples) {
  series_.clear();
  AppendLabels(labels, &part_, &series_);
  for (size_t i = 0; i < samples.timestamps.size(); ++i) {
    part_.clear();
    PutDoubleField(1, samples.values[i], &part_);
    PutVarintField(2, static_cast<uint64_t>(samples.timestamps[i]), &part_);
    PutBytesField(2, part_, &series_);
  }
  for (size_t i = 0; i < samples.histogram_timestamps.size(); ++i) {
    part_.clear();
    AppendHistogram(samples.histogram_timestamps[i], *samples.histograms[i], &part_);
    PutBytesField(4, part_, &series_);
  }
  PutBytesField(1, series_, &result_);
}

std::string SamplesAnswer::Finish() {
  EndQuery();
  return CompressSnappy(message_);
}

void ChunksAnswer::BeginQuery() {
  ++query_;
}

void ChunksAnswer::AddSeries(const model::Labels& labels, const storage::SampleColumns& samples) {
  const size_t floats = samples.timestamps.size();
  const size_t histograms = samples.histogram_timestamps.size();
  size_t next_float = 0;
  size_t next_histogram = 0;
  // Chunks follow each other in time, so those of floats end where a histogram is next, and the other way round.
  while (next_float < floats || next_histogram < histograms) {
    if (next_histogram == histograms ||
        (next_float < floats && samples.timestamps[next_float] <= samples.histogram_timestamps[next_histogram])) {
      const size_t end = next_histogram == histograms
                             ? floats
                             : EndOfRun(samples.timestamps, next_float, samples.histogram_timestamps[next_histogram]);
      AddFloats(labels, std::span(samples.timestamps).subspan(next_float, end - next_float),
                std::span(samples.values).subspan(next_float, end - next_float));
      next_float = end;
    } else {
      const size_t end = next_float == floats
                             ? histograms
                             : EndOfRun(samples.histogram_timestamps, next_histogram, samples.timestamps[next_float]);
      AddHistograms(labels, std::span(samples.histogram_timestamps).subspan(next_histogram, end - next_histogram),
                    std::span(samples.histograms).subspan(next_histogram, end - next_histogram));
      next_histogram = end;
    }
  }
  if (!chunks_.empty()) EndFrame(labels);
}

void ChunksAnswer::AddFloats(const model::Labels& labels, std::span<const TimestampMs> timestamps,
                             std::span<const double> values) {
  for (size_t begin = 0; begin < timestamps.size(); begin += kXorChunkSamplesMax) {
    const size_t count = std::min(kXorChunkSamplesMax, timestamps.size() - begin);
    const std::span<const TimestampMs> times = timestamps.subspan(begin, count);
    AddChunk(labels, times, kXorEncoding, EncodeXorChunk(times, values.subspan(begin, count)));
  }
}

void ChunksAnswer::AddHistograms(const model::Labels& labels, std::span<const TimestampMs> timestamps,
                                 std::span<const std::shared_ptr<const model::Histogram>> histograms) {
  const model::Histogram* before = nullptr;
  while (!timestamps.empty()) {
    const HistogramChunk chunk = EncodeHistogramChunk(timestamps, histograms, before);
    AddChunk(labels, timestamps.first(chunk.samples), static_cast<uint64_t>(chunk.encoding), chunk.bytes);
    before = histograms[chunk.samples - 1].get();
    timestamps = timestamps.subspan(chunk.samples);
    histograms = histograms.subspan(chunk.samples);
  }
}

void ChunksAnswer::AddChunk(const model::Labels& labels, std::span<const TimestampMs> timestamps, uint64_t encoding,
                            std::string_view bytes) {
  std::string chunk;
  PutVarintField(1, static_cast<uint64_t>(timestamps.front()), &chunk);
  PutVarintField(2, static_cast<uint64_t>(timestamps.back()), &chunk);
  PutVarintField(3, encoding, &chunk);
  PutBytesField(4, bytes, &chunk);
  PutBytesField(2, chunk, &chunks_);
  if (chunks_.size() >= kReadFrameBytesTarget) EndFrame(labels);
}

void ChunksAnswer::EndFrame(const model::Labels& labels) {
  std::string series;
  std::string part;
  AppendLabels(labels, &part, &series);
  series += chunks_;
  chunks_.clear();
  std::string message;
  PutBytesField(1, series, &message);
  PutVarintField(2, static_cast<uint64_t>(query_), &message);
  PutVarint(message.size(), &frames_);
  const uint32_t checksum = codec::Crc32c(message);
  for (int shift = 24; shift >= 0; shift -= 8) frames_.push_back(static_cast<char>(checksum >> shift));
  frames_ += message;
}

}  // namespace millstream::wire

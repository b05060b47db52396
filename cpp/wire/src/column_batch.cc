#include "millstream/wire/column_batch.h"

#include <utility>

#include "millstream/base/check.h"
#include "millstream/codec/byte_io.h"

namespace millstream::wire {
namespace {

using codec::ByteReader;
using codec::ByteWriter;
using model::Histogram;

constexpr uint8_t kColumnBatchVersion = 1;
constexpr size_t kColumnSampleBytes = 16;
// Version hint, schema, four doubles, five counts and a timestamp.
constexpr size_t kHistogramBytesMin = 40;
constexpr size_t kSeriesBytesMin = 3;
constexpr size_t kSpanBytesMin = 2;
constexpr size_t kSeriesMax = 1'000'000;

void WriteSpans(const std::vector<model::Span>& spans, ByteWriter& out) {
  out.Varint(spans.size());
  for (const model::Span& span : spans) {
    out.SignedVarint(span.offset);
    out.Varint(span.length);
  }
}

void WriteDoubles(const std::vector<double>& values, ByteWriter& out) {
  out.Varint(values.size());
  for (const double value : values) out.Double(value);
}

void WriteHistogram(const Histogram& histogram, ByteWriter& out) {
  out.U8(static_cast<uint8_t>(histogram.counter_reset_hint));
  out.SignedVarint(histogram.schema);
  out.Double(histogram.zero_threshold);
  out.Double(histogram.zero_count);
  out.Double(histogram.count);
  out.Double(histogram.sum);
  WriteSpans(histogram.positive_spans, out);
  WriteDoubles(histogram.positive_buckets, out);
  WriteSpans(histogram.negative_spans, out);
  WriteDoubles(histogram.negative_buckets, out);
  WriteDoubles(histogram.custom_values, out);
}

bool ReadSpans(ByteReader& in, std::vector<model::Span>* spans) {
  uint64_t count = 0;
  if (!in.Count(&count, in.remaining() / kSpanBytesMin)) return false;
  spans->resize(count);
  for (model::Span& span : *spans) {
    int64_t offset = 0;
    uint64_t length = 0;
    if (!in.SignedVarint(&offset) || offset < INT32_MIN || offset > INT32_MAX) return false;
    if (!in.Count(&length, UINT32_MAX)) return false;
    span = {.offset = static_cast<int32_t>(offset), .length = static_cast<uint32_t>(length)};
  }
  return true;
}

bool ReadDoubles(ByteReader& in, std::vector<double>* values) {
  uint64_t count = 0;
  if (!in.Count(&count, in.remaining() / sizeof(double))) return false;
  values->resize(count);
  for (double& value : *values) {
    if (!in.Double(&value)) return false;
  }
  return true;
}

bool ReadHistogram(ByteReader& in, Histogram* histogram) {
  uint8_t hint = 0;
  int64_t schema = 0;
  if (!in.U8(&hint) || hint > static_cast<uint8_t>(model::CounterResetHint::kGauge)) return false;
  if (!in.SignedVarint(&schema) || schema < INT32_MIN || schema > INT32_MAX) return false;
  histogram->counter_reset_hint = static_cast<model::CounterResetHint>(hint);
  histogram->schema = static_cast<int32_t>(schema);
  return in.Double(&histogram->zero_threshold) && in.Double(&histogram->zero_count) && in.Double(&histogram->count) &&
         in.Double(&histogram->sum) && ReadSpans(in, &histogram->positive_spans) &&
         ReadDoubles(in, &histogram->positive_buckets) && ReadSpans(in, &histogram->negative_spans) &&
         ReadDoubles(in, &histogram->negative_buckets) && ReadDoubles(in, &histogram->custom_values);
}

Status CutOff(std::string_view what) {
  return InvalidArgument("the column batch is cut off or malformed in its {}", what);
}

}  // namespace

std::string EncodeColumnBatch(const DecodedWrite& write) {
  MS_CHECK(write.encoding == LabelEncoding::kPairs);
  std::string body;
  ByteWriter out(&body);
  out.U8(kColumnBatchVersion);
  out.Varint(write.series.size());
  for (const DecodedSeries& series : write.series) {
    out.Bytes(series.raw_labels);
    out.Varint(series.floats_end - series.floats_begin);
    out.Varint(series.histograms_end - series.histograms_begin);
  }
  for (const TimestampMs timestamp : write.timestamps) out.U64(static_cast<uint64_t>(timestamp));
  for (const double value : write.values) out.Double(value);
  for (size_t i = 0; i < write.histograms.size(); ++i) {
    out.U64(static_cast<uint64_t>(write.histogram_timestamps[i]));
    WriteHistogram(write.histograms[i], out);
  }
  return body;
}

Result<DecodedWrite> DecodeColumnBatch(std::string body) {
  if (body.size() > kColumnBatchBytesMax) {
    return ResourceExhausted("the column batch has {} bytes; the limit is {}", body.size(), kColumnBatchBytesMax);
  }
  DecodedWrite out;
  out.encoding = LabelEncoding::kPairs;
  out.bytes = std::make_unique<std::string>(std::move(body));
  ByteReader in(*out.bytes);
  uint8_t version = 0;
  if (!in.U8(&version)) return CutOff("version");
  if (version != kColumnBatchVersion) return InvalidArgument("column batch version {} is unknown", version);
  uint64_t series_count = 0;
  if (!in.Count(&series_count, in.remaining() / kSeriesBytesMin)) return CutOff("number of series");
  if (series_count > kSeriesMax) {
    return ResourceExhausted("the column batch has {} series; the limit is {}", series_count, kSeriesMax);
  }
  out.series.resize(series_count);
  uint64_t floats = 0;
  uint64_t histograms = 0;
  for (uint32_t i = 0; i < series_count; ++i) {
    DecodedSeries& series = out.series[i];
    uint64_t float_count = 0;
    uint64_t histogram_count = 0;
    if (!in.Bytes(&series.raw_labels) || !in.Count(&float_count, in.remaining() / kColumnSampleBytes) ||
        !in.Count(&histogram_count, in.remaining() / kHistogramBytesMin)) {
      return CutOff("series");
    }
    series.item = i;
    series.floats_begin = static_cast<uint32_t>(floats);
    series.histograms_begin = static_cast<uint32_t>(histograms);
    floats += float_count;
    histograms += histogram_count;
    if (floats > in.remaining() / kColumnSampleBytes || histograms > in.remaining() / kHistogramBytesMin) {
      return CutOff("series");
    }
    series.floats_end = static_cast<uint32_t>(floats);
    series.histograms_end = static_cast<uint32_t>(histograms);
  }
  if (floats > in.remaining() / kColumnSampleBytes) return CutOff("samples");
  out.timestamps.resize(floats);
  out.values.resize(floats);
  for (TimestampMs& timestamp : out.timestamps) {
    uint64_t raw = 0;
    if (!in.U64(&raw)) return CutOff("timestamps");
    timestamp = static_cast<TimestampMs>(raw);
  }
  for (double& value : out.values) {
    if (!in.Double(&value)) return CutOff("values");
  }
  if (histograms > in.remaining() / kHistogramBytesMin) return CutOff("histograms");
  for (size_t i = 0; i < histograms; ++i) {
    uint64_t raw = 0;
    Histogram histogram;
    if (!in.U64(&raw) || !ReadHistogram(in, &histogram)) return CutOff("histograms");
    MS_RETURN_IF_ERROR(histogram.Validate().WithContext("column batch"));
    out.histogram_timestamps.push_back(static_cast<TimestampMs>(raw));
    out.histograms.push_back(std::move(histogram));
  }
  if (!in.empty()) return InvalidArgument("{} bytes follow the column batch", in.remaining());
  return out;
}

}  // namespace millstream::wire

#include "histogram_layout.h"

#include <algorithm>
#include <vector>

namespace millstream::tsdb {
namespace {

void PutSpans(const std::vector<model::Span>& spans, codec::ByteWriter* out) {
  out->Varint(spans.size());
  for (const model::Span& span : spans) {
    out->SignedVarint(span.offset);
    out->Varint(span.length);
  }
}

bool GetSpans(codec::ByteReader* in, size_t buckets_max, std::vector<model::Span>* spans, size_t* buckets) {
  uint64_t count = 0;
  // Each span takes two bytes at least.
  if (!in->Count(&count, std::min(in->remaining() / 2, model::kHistogramBucketsMax))) return false;
  spans->resize(count);
  *buckets = 0;
  for (model::Span& span : *spans) {
    int64_t offset = 0;
    uint64_t length = 0;
    if (!in->SignedVarint(&offset) || offset < INT32_MIN || offset > INT32_MAX) return false;
    if (!in->Count(&length, buckets_max - *buckets)) return false;
    span = {static_cast<int32_t>(offset), static_cast<uint32_t>(length)};
    *buckets += length;
  }
  return true;
}

}  // namespace

void PutHistogramLayout(const model::Histogram& histogram, codec::ByteWriter* out) {
  out->SignedVarint(histogram.schema);
  out->Double(histogram.zero_threshold);
  PutSpans(histogram.positive_spans, out);
  PutSpans(histogram.negative_spans, out);
  out->Varint(histogram.custom_values.size());
  for (const double value : histogram.custom_values) out->Double(value);
}

bool GetHistogramLayout(codec::ByteReader* in, size_t buckets_max, model::Histogram* histogram) {
  int64_t schema = 0;
  if (!in->SignedVarint(&schema) || schema < INT32_MIN || schema > INT32_MAX) return false;
  histogram->schema = static_cast<int32_t>(schema);
  if (!in->Double(&histogram->zero_threshold)) return false;
  size_t positive = 0;
  size_t negative = 0;
  if (!GetSpans(in, buckets_max, &histogram->positive_spans, &positive)) return false;
  if (!GetSpans(in, buckets_max - positive, &histogram->negative_spans, &negative)) return false;
  uint64_t custom = 0;
  if (!in->Count(&custom, std::min(in->remaining() / 8, model::kHistogramBucketsMax))) return false;
  histogram->custom_values.resize(custom);
  for (double& value : histogram->custom_values) {
    if (!in->Double(&value)) return false;
  }
  histogram->positive_buckets.assign(positive, 0);
  histogram->negative_buckets.assign(negative, 0);
  return true;
}

}  // namespace millstream::tsdb

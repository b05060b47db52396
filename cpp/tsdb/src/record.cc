#include "record.h"

#include <algorithm>

#include "histogram_layout.h"
#include "millstream/codec/byte_io.h"
#include "millstream/storage/write_batch.h"

namespace millstream::tsdb {
namespace {

constexpr uint8_t kRecordVersion = 1;
constexpr uint8_t kRecordVersionWithExemplars = 2;
constexpr uint8_t kRecordStartsFlag = 0x01;

void PutHistogram(const model::Histogram& histogram, const model::Histogram* previous, codec::ByteWriter* out) {
  const bool same = previous != nullptr && SameLayout(*previous, histogram);
  out->U8(same ? 1 : 0);
  if (!same) PutHistogramLayout(histogram, out);
  out->U8(static_cast<uint8_t>(histogram.counter_reset_hint));
  for (const double part : {histogram.count, histogram.sum, histogram.zero_count}) out->Double(part);
  for (const double bucket : histogram.positive_buckets) out->Double(bucket);
  for (const double bucket : histogram.negative_buckets) out->Double(bucket);
}

HistogramPtr GetHistogram(codec::ByteReader* in, const model::Histogram* previous) {
  uint8_t same = 0;
  uint8_t hint = 0;
  if (!in->U8(&same) || same > 1 || (same == 1 && previous == nullptr)) return nullptr;
  // The buckets follow, so the layout cannot have more than there are bytes for.
  const size_t buckets_max = in->remaining() / sizeof(double);
  if (same == 1 && BucketCount(*previous) > buckets_max) return nullptr;
  auto histogram = same == 1 ? std::make_shared<model::Histogram>(*previous) : std::make_shared<model::Histogram>();
  if (same == 0 && !GetHistogramLayout(in, buckets_max, histogram.get())) return nullptr;
  if (!in->U8(&hint) || hint > static_cast<uint8_t>(model::CounterResetHint::kGauge)) return nullptr;
  histogram->counter_reset_hint = static_cast<model::CounterResetHint>(hint);
  bool good = true;
  for (double* part : {&histogram->count, &histogram->sum, &histogram->zero_count}) good = good && in->Double(part);
  for (auto* buckets : {&histogram->positive_buckets, &histogram->negative_buckets}) {
    for (double& bucket : *buckets) good = good && in->Double(&bucket);
  }
  return good ? histogram : nullptr;
}

bool GetSeries(codec::ByteReader* in, Record* record) {
  uint64_t count = 0;
  if (!in->Count(&count, in->remaining() / 2)) return false;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t ref = 0;
    std::string_view encoded;
    if (!in->Varint(&ref) || ref == 0 || !in->Bytes(&encoded)) return false;
    auto labels = model::Labels::FromEncoded(std::string(encoded));
    if (!labels.ok()) return false;
    record->new_series.push_back({SeriesRef(ref), std::move(labels).value()});
  }
  if (!in->Count(&count, in->remaining())) return false;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t ref = 0;
    if (!in->Varint(&ref) || ref == 0) return false;
    record->refs.push_back(SeriesRef(ref));
  }
  return true;
}

bool GetFloats(codec::ByteReader* in, size_t series_count, std::vector<RecordSample>* out) {
  uint64_t count = 0;
  uint8_t flags = 0;
  // A float takes ten bytes at least.
  if (!in->Count(&count, std::min(in->remaining() / 10, storage::kBatchSamplesMax)) || !in->U8(&flags)) return false;
  if ((flags & ~kRecordStartsFlag) != 0) return false;
  out->resize(count);
  for (RecordSample& sample : *out) {
    uint64_t series = 0;
    if (series_count == 0 || !in->Count(&series, series_count - 1)) return false;
    sample.series = static_cast<uint32_t>(series);
  }
  uint64_t previous = 0;
  for (RecordSample& sample : *out) {
    int64_t delta = 0;
    if (!in->SignedVarint(&delta)) return false;
    previous += static_cast<uint64_t>(delta);
    sample.sample.timestamp = static_cast<int64_t>(previous);
  }
  for (RecordSample& sample : *out) {
    if ((flags & kRecordStartsFlag) != 0 && !in->SignedVarint(&sample.sample.start)) return false;
  }
  for (RecordSample& sample : *out) {
    if (!in->Double(&sample.sample.value.value)) return false;
  }
  return true;
}

// Puts the histograms between the floats, where they were written.
bool GetHistograms(codec::ByteReader* in, size_t series_count, std::vector<RecordSample> floats,
                   std::vector<RecordSample>* out) {
  uint64_t count = 0;
  if (!in->Count(&count, std::min(in->remaining() / 8, storage::kBatchSamplesMax))) return false;
  size_t next_float = 0;
  const model::Histogram* previous = nullptr;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t series = 0;
    uint64_t floats_between = 0;
    RecordSample sample;
    if (series_count == 0 || !in->Count(&series, series_count - 1)) return false;
    if (!in->Count(&floats_between, floats.size() - next_float)) return false;
    if (!in->SignedVarint(&sample.sample.timestamp) || !in->SignedVarint(&sample.sample.start)) return false;
    sample.series = static_cast<uint32_t>(series);
    sample.sample.value.histogram = GetHistogram(in, previous);
    if (sample.sample.value.histogram == nullptr) return false;
    previous = sample.sample.value.histogram.get();
    for (uint64_t k = 0; k < floats_between; ++k) out->push_back(std::move(floats[next_float++]));
    out->push_back(std::move(sample));
  }
  while (next_float < floats.size()) out->push_back(std::move(floats[next_float++]));
  return true;
}

bool GetMetadata(codec::ByteReader* in, std::vector<model::MetricMetadata>* out) {
  uint64_t count = 0;
  if (!in->Count(&count, in->remaining() / 4)) return false;
  for (uint64_t i = 0; i < count; ++i) {
    model::MetricMetadata metadata;
    for (std::string* part : {&metadata.metric, &metadata.type, &metadata.help, &metadata.unit}) {
      std::string_view bytes;
      if (!in->Bytes(&bytes)) return false;
      part->assign(bytes);
    }
    out->push_back(std::move(metadata));
  }
  return true;
}

bool GetExemplars(codec::ByteReader* in, std::vector<model::SeriesExemplars>* out) {
  uint64_t series_count = 0;
  if (!in->Count(&series_count, in->remaining() / 2)) return false;
  for (uint64_t s = 0; s < series_count; ++s) {
    std::string_view encoded;
    uint64_t count = 0;
    // An exemplar takes ten bytes at least.
    if (!in->Bytes(&encoded) || !in->Count(&count, in->remaining() / 10)) return false;
    auto series = model::Labels::FromEncoded(std::string(encoded));
    if (!series.ok() || series->empty()) return false;
    out->push_back({std::move(series).value(), {}});
    for (uint64_t i = 0; i < count; ++i) {
      model::Exemplar exemplar;
      if (!GetExemplar(in, &exemplar)) return false;
      out->back().exemplars.push_back(std::move(exemplar));
    }
  }
  return true;
}

}  // namespace

void PutExemplar(const model::Exemplar& exemplar, codec::ByteWriter* out) {
  out->Bytes(exemplar.labels.encoded());
  out->SignedVarint(exemplar.timestamp);
  out->Double(exemplar.value);
}

bool GetExemplar(codec::ByteReader* in, model::Exemplar* out) {
  std::string_view encoded;
  if (!in->Bytes(&encoded) || !in->SignedVarint(&out->timestamp) || !in->Double(&out->value)) return false;
  auto labels = model::Labels::FromEncoded(std::string(encoded));
  if (!labels.ok()) return false;
  out->labels = std::move(labels).value();
  return true;
}

std::string EncodeRecord(const Record& record) {
  std::string bytes;
  codec::ByteWriter out(&bytes);
  out.U8(record.exemplars.empty() ? kRecordVersion : kRecordVersionWithExemplars);
  out.Varint(record.tenant.value());
  out.Varint(record.new_series.size());
  for (const RecordSeries& series : record.new_series) {
    out.Varint(series.ref.value());
    out.Bytes(series.labels.encoded());
  }
  out.Varint(record.refs.size());
  for (const SeriesRef ref : record.refs) out.Varint(ref.value());

  std::vector<const RecordSample*> floats;
  bool starts = false;
  for (const RecordSample& sample : record.samples) {
    if (sample.sample.value.histogram != nullptr) continue;
    floats.push_back(&sample);
    starts = starts || sample.sample.start != 0;
  }
  out.Varint(floats.size());
  out.U8(starts ? kRecordStartsFlag : 0);
  for (const RecordSample* sample : floats) out.Varint(sample->series);
  uint64_t previous = 0;
  for (const RecordSample* sample : floats) {
    const auto timestamp = static_cast<uint64_t>(sample->sample.timestamp);
    out.SignedVarint(static_cast<int64_t>(timestamp - previous));
    previous = timestamp;
  }
  if (starts) {
    for (const RecordSample* sample : floats) out.SignedVarint(sample->sample.start);
  }
  for (const RecordSample* sample : floats) out.Double(sample->sample.value.value);

  out.Varint(record.samples.size() - floats.size());
  const model::Histogram* last = nullptr;
  uint64_t floats_between = 0;
  for (const RecordSample& sample : record.samples) {
    if (sample.sample.value.histogram == nullptr) {
      ++floats_between;
      continue;
    }
    out.Varint(sample.series);
    out.Varint(floats_between);
    floats_between = 0;
    out.SignedVarint(sample.sample.timestamp);
    out.SignedVarint(sample.sample.start);
    PutHistogram(*sample.sample.value.histogram, last, &out);
    last = sample.sample.value.histogram.get();
  }
  out.Varint(record.metadata.size());
  for (const model::MetricMetadata& metadata : record.metadata) {
    for (const std::string* part : {&metadata.metric, &metadata.type, &metadata.help, &metadata.unit}) {
      out.Bytes(*part);
    }
  }
  if (record.exemplars.empty()) return bytes;
  out.Varint(record.exemplars.size());
  for (const model::SeriesExemplars& of_series : record.exemplars) {
    out.Bytes(of_series.series.encoded());
    out.Varint(of_series.exemplars.size());
    for (const model::Exemplar& exemplar : of_series.exemplars) PutExemplar(exemplar, &out);
  }
  return bytes;
}

Result<Record> DecodeRecord(std::string_view bytes) {
  codec::ByteReader in(bytes);
  Record record;
  uint8_t version = 0;
  uint64_t tenant = 0;
  if (!in.U8(&version)) return DataLoss("a record of samples is empty");
  if (version != kRecordVersion && version != kRecordVersionWithExemplars)
    return DataLoss("a record of samples has the version {}", version);
  if (!in.Count(&tenant, UINT32_MAX)) return DataLoss("a record of samples names no tenant");
  record.tenant = TenantId(static_cast<uint32_t>(tenant));
  if (!GetSeries(&in, &record)) return DataLoss("a record of samples has malformed series");
  std::vector<RecordSample> floats;
  if (!GetFloats(&in, record.refs.size(), &floats)) return DataLoss("a record of samples has malformed floats");
  if (!GetHistograms(&in, record.refs.size(), std::move(floats), &record.samples)) {
    return DataLoss("a record of samples has malformed histograms");
  }
  if (!GetMetadata(&in, &record.metadata)) return DataLoss("a record of samples has malformed metadata");
  if (version == kRecordVersionWithExemplars && !GetExemplars(&in, &record.exemplars)) {
    return DataLoss("a record of samples has malformed exemplars");
  }
  if (!in.empty()) return DataLoss("a record of samples has {} bytes too many", in.remaining());
  return record;
}

}  // namespace millstream::tsdb

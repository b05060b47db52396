#include "chunk.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "histogram_layout.h"
#include "millstream/base/check.h"
#include "millstream/codec/byte_io.h"
#include "millstream/codec/column.h"

namespace millstream::tsdb {
namespace {

constexpr uint8_t kChunkVersion = 1;
constexpr uint8_t kHintsMask = 0x03;
constexpr uint8_t kHistogramFlag = 0x04;
constexpr uint8_t kChunkStartsFlag = 0x08;

FloatSummary Summarize(std::span<const double> values) {
  FloatSummary summary;
  summary.first = values.front();
  summary.last = values.back();
  bool any = false;
  double previous = std::nan("");
  for (const double value : values) {
    if (std::isnan(value)) continue;
    summary.min = any ? std::min(summary.min, value) : value;
    summary.max = any ? std::max(summary.max, value) : value;
    summary.sum += value;
    if (value < previous) ++summary.resets;
    previous = value;
    any = true;
  }
  return summary;
}

bool SameBits(double a, double b) {
  return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b);
}

// Runs of neighbours with one layout.
std::vector<size_t> LayoutRuns(std::span<const HistogramPtr> histograms) {
  std::vector<size_t> runs;
  for (size_t i = 0; i < histograms.size(); ++i) {
    if (i > 0 && SameLayout(*histograms[i], *histograms[i - 1])) {
      ++runs.back();
    } else {
      runs.push_back(1);
    }
  }
  return runs;
}

}  // namespace

void AppendFloat(TimestampMs timestamp, double value, TimestampMs start, storage::SampleColumns* out) {
  if (start != 0 && out->start_timestamps.empty()) out->start_timestamps.assign(out->timestamps.size(), 0);
  if (start != 0 || !out->start_timestamps.empty()) out->start_timestamps.push_back(start);
  out->timestamps.push_back(timestamp);
  out->values.push_back(value);
}

void AppendHistogram(TimestampMs timestamp, HistogramPtr histogram, TimestampMs start, storage::SampleColumns* out) {
  auto& starts = out->histogram_start_timestamps;
  if (start != 0 && starts.empty()) starts.assign(out->histogram_timestamps.size(), 0);
  if (start != 0 || !starts.empty()) starts.push_back(start);
  out->histogram_timestamps.push_back(timestamp);
  out->histograms.push_back(std::move(histogram));
}

size_t BucketCount(const model::Histogram& histogram) {
  return histogram.positive_buckets.size() + histogram.negative_buckets.size();
}

bool SameLayout(const model::Histogram& a, const model::Histogram& b) {
  return a.schema == b.schema && SameBits(a.zero_threshold, b.zero_threshold) && a.positive_spans == b.positive_spans &&
         a.negative_spans == b.negative_spans &&
         std::equal(a.custom_values.begin(), a.custom_values.end(), b.custom_values.begin(), b.custom_values.end(),
                    SameBits);
}

HistogramPtr WithHint(const HistogramPtr& histogram, model::CounterResetHint hint) {
  if (histogram->counter_reset_hint == hint) return histogram;
  auto copy = std::make_shared<model::Histogram>(*histogram);
  copy->counter_reset_hint = hint;
  return copy;
}

std::shared_ptr<const Chunk> Chunk::SealFloats(const ChunkColumns& columns) {
  const size_t count = columns.timestamps.size();
  MS_CHECK(count > 0 && count <= kChunkSamplesMax && columns.values.size() == count);
  std::shared_ptr<Chunk> chunk(new Chunk());
  codec::ByteWriter writer(&chunk->bytes_);
  writer.U8(kChunkVersion);
  writer.U8(columns.starts.empty() ? 0 : kChunkStartsFlag);
  writer.Varint(count);
  const FloatSummary summary = Summarize(columns.values);
  for (const double part : {summary.min, summary.max, summary.sum, summary.first, summary.last}) writer.Double(part);
  writer.Varint(summary.resets);
  writer.SignedVarint(columns.timestamps.front());
  writer.SignedVarint(columns.timestamps.back());
  codec::EncodeIntegers(columns.timestamps, &chunk->bytes_);
  if (!columns.starts.empty()) codec::EncodeIntegers(columns.starts, &chunk->bytes_);
  codec::EncodeDoubles(columns.values, &chunk->bytes_);
  chunk->bytes_.shrink_to_fit();
  MS_CHECK(chunk->ParseHeader().ok());
  return chunk;
}

std::shared_ptr<const Chunk> Chunk::SealHistograms(const ChunkColumns& columns, ChunkHints hints) {
  const size_t count = columns.timestamps.size();
  MS_CHECK(count > 0 && count <= kChunkSamplesMax && columns.histograms.size() == count);
  std::shared_ptr<Chunk> chunk(new Chunk());
  codec::ByteWriter writer(&chunk->bytes_);
  writer.U8(kChunkVersion);
  writer.U8(static_cast<uint8_t>(static_cast<unsigned>(hints) | kHistogramFlag |
                                 (columns.starts.empty() ? 0U : kChunkStartsFlag)));
  writer.Varint(count);
  writer.SignedVarint(columns.timestamps.front());
  writer.SignedVarint(columns.timestamps.back());
  codec::EncodeIntegers(columns.timestamps, &chunk->bytes_);
  if (!columns.starts.empty()) codec::EncodeIntegers(columns.starts, &chunk->bytes_);
  std::vector<double> column;
  const auto put = [&](std::span<const HistogramPtr> run, auto&& part) {
    column.clear();
    for (const HistogramPtr& histogram : run) column.push_back(part(*histogram));
    codec::EncodeDoubles(column, &chunk->bytes_);
  };
  put(columns.histograms, [](const model::Histogram& h) { return h.count; });
  put(columns.histograms, [](const model::Histogram& h) { return h.sum; });
  put(columns.histograms, [](const model::Histogram& h) { return h.zero_count; });
  size_t begin = 0;
  for (const size_t length : LayoutRuns(columns.histograms)) {
    const auto run = columns.histograms.subspan(begin, length);
    begin += length;
    writer.Varint(length);
    PutHistogramLayout(*run.front(), &writer);
    for (size_t i = 0; i < run.front()->positive_buckets.size(); ++i) {
      put(run, [i](const model::Histogram& h) { return h.positive_buckets[i]; });
    }
    for (size_t i = 0; i < run.front()->negative_buckets.size(); ++i) {
      put(run, [i](const model::Histogram& h) { return h.negative_buckets[i]; });
    }
  }
  chunk->bytes_.shrink_to_fit();
  MS_CHECK(chunk->ParseHeader().ok());
  return chunk;
}

Result<std::shared_ptr<const Chunk>> Chunk::Parse(std::string bytes) {
  std::shared_ptr<Chunk> chunk(new Chunk());
  chunk->bytes_ = std::move(bytes);
  MS_RETURN_IF_ERROR(chunk->ParseHeader());
  return std::shared_ptr<const Chunk>(std::move(chunk));
}

Status Chunk::ParseHeader() {
  codec::ByteReader reader(bytes_);
  uint8_t version = 0;
  uint8_t flags = 0;
  uint64_t count = 0;
  if (!reader.U8(&version) || !reader.U8(&flags)) return DataLoss("a chunk is cut off in its header");
  if (version != kChunkVersion) return DataLoss("a chunk has the version {}", version);
  const uint8_t hints = flags & kHintsMask;
  if ((flags & ~(kHintsMask | kHistogramFlag | kChunkStartsFlag)) != 0 || hints > 2) {
    return DataLoss("a chunk has the flags {:#x}", flags);
  }
  if (!reader.Count(&count, kChunkSamplesMax) || count == 0) return DataLoss("a chunk has an impossible count");
  kind_ = (flags & kHistogramFlag) != 0 ? SampleKind::kHistogram : SampleKind::kFloat;
  hints_ = static_cast<ChunkHints>(hints);
  has_starts_ = (flags & kChunkStartsFlag) != 0;
  count_ = static_cast<uint32_t>(count);
  bool good = true;
  if (kind_ == SampleKind::kFloat) {
    uint64_t resets = 0;
    for (double* part : {&summary_.min, &summary_.max, &summary_.sum, &summary_.first, &summary_.last}) {
      good = good && reader.Double(part);
    }
    good = good && reader.Count(&resets, kChunkSamplesMax);
    summary_.resets = static_cast<uint32_t>(resets);
  }
  good = good && reader.SignedVarint(&min_time_) && reader.SignedVarint(&max_time_);
  if (!good || min_time_ > max_time_) return DataLoss("a chunk is cut off or malformed in its header");
  body_ = bytes_.size() - reader.remaining();
  return Status::Ok();
}

Status Chunk::Decode(storage::TimeRange range, storage::SampleColumns* out) const {
  codec::ByteReader reader(std::string_view(bytes_).substr(body_));
  std::vector<TimestampMs> timestamps(count_);
  MS_RETURN_IF_ERROR(codec::DecodeIntegers(&reader, timestamps));
  for (size_t i = 1; i < timestamps.size(); ++i) {
    if (timestamps[i] <= timestamps[i - 1]) return DataLoss("a chunk's timestamps do not ascend");
  }
  if (timestamps.front() != min_time_ || timestamps.back() != max_time_) {
    return DataLoss("a chunk's timestamps disagree with its header");
  }
  std::vector<TimestampMs> starts(has_starts_ ? count_ : 0);
  if (has_starts_) MS_RETURN_IF_ERROR(codec::DecodeIntegers(&reader, starts));
  const auto first = std::lower_bound(timestamps.begin(), timestamps.end(), range.min);
  const auto last = std::upper_bound(first, timestamps.end(), range.max);
  const auto begin = static_cast<size_t>(first - timestamps.begin());
  const auto end = static_cast<size_t>(last - timestamps.begin());
  if (kind_ == SampleKind::kHistogram) return DecodeHistograms(reader.rest(), begin, end, timestamps, starts, out);

  if (has_starts_ && out->start_timestamps.empty()) out->start_timestamps.assign(out->timestamps.size(), 0);
  const size_t before = out->values.size();
  out->timestamps.insert(out->timestamps.end(), first, last);
  if (begin == 0) {
    out->values.resize(before + count_);
    MS_RETURN_IF_ERROR(codec::DecodeDoubles(&reader, std::span(out->values).subspan(before)));
    out->values.resize(before + end);
  } else {
    std::vector<double> values(count_);
    MS_RETURN_IF_ERROR(codec::DecodeDoubles(&reader, values));
    out->values.insert(out->values.end(), values.begin() + static_cast<ptrdiff_t>(begin),
                       values.begin() + static_cast<ptrdiff_t>(end));
  }
  if (!reader.empty()) return DataLoss("a chunk has {} bytes too many", reader.remaining());
  if (has_starts_) {
    out->start_timestamps.insert(out->start_timestamps.end(), starts.begin() + static_cast<ptrdiff_t>(begin),
                                 starts.begin() + static_cast<ptrdiff_t>(end));
  } else if (!out->start_timestamps.empty()) {
    out->start_timestamps.resize(out->timestamps.size(), 0);
  }
  return Status::Ok();
}

Status Chunk::DecodeHistograms(std::string_view body, size_t begin, size_t end, std::span<const TimestampMs> timestamps,
                               std::span<const TimestampMs> starts, storage::SampleColumns* out) const {
  codec::ByteReader reader(body);
  std::vector<double> counts(count_);
  std::vector<double> sums(count_);
  std::vector<double> zero_counts(count_);
  for (auto* column : {&counts, &sums, &zero_counts}) MS_RETURN_IF_ERROR(codec::DecodeDoubles(&reader, *column));
  size_t buckets_left = kChunkBucketsMax + 2 * model::kHistogramBucketsMax;
  std::vector<std::shared_ptr<model::Histogram>> run;
  std::vector<double> column;
  for (size_t at = 0; at < count_;) {
    uint64_t length = 0;
    if (!reader.Count(&length, count_ - at) || length == 0) return DataLoss("a chunk's layout run is malformed");
    auto layout = std::make_shared<model::Histogram>();
    if (!GetHistogramLayout(&reader, buckets_left / length, layout.get())) {
      return DataLoss("a chunk's histogram layout is malformed");
    }
    buckets_left -= length * BucketCount(*layout);
    run.clear();
    for (size_t i = 0; i < length; ++i) {
      auto histogram = std::make_shared<model::Histogram>(*layout);
      histogram->count = counts[at + i];
      histogram->sum = sums[at + i];
      histogram->zero_count = zero_counts[at + i];
      switch (hints_) {
        case ChunkHints::kGauge:
          histogram->counter_reset_hint = model::CounterResetHint::kGauge;
          break;
        case ChunkHints::kCounter:
          if (at + i > 0) histogram->counter_reset_hint = model::CounterResetHint::kNotReset;
          break;
        case ChunkHints::kUnknown:
          break;
      }
      run.push_back(std::move(histogram));
    }
    column.resize(length);
    for (const bool positive : {true, false}) {
      const size_t buckets = (positive ? layout->positive_buckets : layout->negative_buckets).size();
      for (size_t bucket = 0; bucket < buckets; ++bucket) {
        MS_RETURN_IF_ERROR(codec::DecodeDoubles(&reader, column));
        for (size_t i = 0; i < length; ++i) {
          (positive ? run[i]->positive_buckets : run[i]->negative_buckets)[bucket] = column[i];
        }
      }
    }
    for (size_t i = 0; i < length; ++i) {
      if (at + i < begin || at + i >= end) continue;
      tsdb::AppendHistogram(timestamps[at + i], std::move(run[i]), starts.empty() ? 0 : starts[at + i], out);
    }
    at += length;
  }
  if (!reader.empty()) return DataLoss("a chunk has {} bytes too many", reader.remaining());
  return Status::Ok();
}

}  // namespace millstream::tsdb

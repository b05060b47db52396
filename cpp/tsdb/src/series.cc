#include "series.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "millstream/base/check.h"
#include "millstream/model/value.h"

namespace millstream::tsdb {
namespace {

// Out-of-order histograms buffered before they are sealed; floats use the limit of their chunks.
constexpr size_t kOutOfOrderHistogramsMax = 32;

// Buckets of one side with their indices.
class BucketWalk {
 public:
  BucketWalk(const std::vector<model::Span>& spans, const std::vector<double>& buckets)
      : spans_(spans), buckets_(buckets) {
    Enter();
  }
  bool done() const { return at_ >= buckets_.size() || span_ >= spans_.size(); }
  int64_t index() const { return index_; }
  double count() const { return buckets_[at_]; }
  void Next() {
    ++at_;
    ++index_;
    if (++in_span_ >= spans_[span_].length) {
      ++span_;
      Enter();
    }
  }

 private:
  void Enter() {
    in_span_ = 0;
    while (span_ < spans_.size()) {
      index_ += spans_[span_].offset;
      if (spans_[span_].length > 0) return;
      ++span_;
    }
  }

  const std::vector<model::Span>& spans_;
  const std::vector<double>& buckets_;
  size_t span_ = 0;
  size_t in_span_ = 0;
  size_t at_ = 0;
  int64_t index_ = 0;
};

// Whether no bucket of `before` counts less in `after`.
bool BucketsGrow(BucketWalk before, BucketWalk after) {
  for (; !before.done(); before.Next()) {
    while (!after.done() && after.index() < before.index()) after.Next();
    const double now = !after.done() && after.index() == before.index() ? after.count() : 0;
    if (now < before.count()) return false;
  }
  return true;
}

bool SameBounds(const model::Histogram& a, const model::Histogram& b) {
  return a.schema == b.schema && a.zero_threshold == b.zero_threshold && a.custom_values == b.custom_values;
}

bool IsGauge(const model::Histogram& histogram) {
  return histogram.counter_reset_hint == model::CounterResetHint::kGauge;
}

// Whether `now` may stand after `last` in one chunk: Prometheus's rules, for they decide which hints are read back.
bool CanFollow(const model::Histogram& last, const model::Histogram& now) {
  const bool gauge = IsGauge(now);
  if (!gauge && now.counter_reset_hint == model::CounterResetHint::kReset) return false;
  if (model::IsStaleNan(now.sum)) return true;
  if (model::IsStaleNan(last.sum)) return false;
  if (!SameBounds(last, now)) return false;
  if (gauge) return true;
  if (now.count < last.count || now.zero_count < last.zero_count) return false;
  return BucketsGrow({last.positive_spans, last.positive_buckets}, {now.positive_spans, now.positive_buckets}) &&
         BucketsGrow({last.negative_spans, last.negative_buckets}, {now.negative_spans, now.negative_buckets});
}

int64_t HistogramBytes(const model::Histogram& histogram) {
  return static_cast<int64_t>(sizeof(model::Histogram) + 16 + BucketCount(histogram) * sizeof(double) +
                              histogram.custom_values.size() * sizeof(double) +
                              (histogram.positive_spans.size() + histogram.negative_spans.size()) *
                                  sizeof(model::Span));
}

}  // namespace

bool SampleValue::SameAs(const SampleValue& other) const {
  if ((histogram == nullptr) != (other.histogram == nullptr)) return false;
  if (histogram == nullptr) return std::bit_cast<uint64_t>(value) == std::bit_cast<uint64_t>(other.value);
  return WithHint(histogram, model::CounterResetHint::kUnknown)
      ->IdenticalTo(*WithHint(other.histogram, model::CounterResetHint::kUnknown));
}

int64_t BlockNumber(TimestampMs timestamp, int64_t range_ms) {
  const int64_t quotient = timestamp / range_ms;
  return timestamp % range_ms < 0 ? quotient - 1 : quotient;
}

void SeriesData::Open::Clear() {
  timestamps.clear();
  starts.clear();
  values.clear();
  histograms.clear();
  buckets = 0;
}

bool SeriesData::FitsOpen(const TimedSample& sample, const ChunkLimits& limits) const {
  if (open_.timestamps.empty()) return true;
  const bool is_histogram = sample.value.histogram != nullptr;
  if (is_histogram != (open_.kind == SampleKind::kHistogram)) return false;
  const size_t count_max = is_histogram ? limits.histogram_samples_max : limits.float_samples_max;
  if (open_.timestamps.size() >= count_max) return false;
  if (BlockNumber(open_.timestamps.front(), limits.block_range_ms) !=
      BlockNumber(sample.timestamp, limits.block_range_ms)) {
    return false;
  }
  if (!is_histogram) return true;
  const model::Histogram& histogram = *sample.value.histogram;
  if (open_.buckets + BucketCount(histogram) > kChunkBucketsMax) return false;
  return open_.gauge == IsGauge(histogram) && CanFollow(*open_.histograms.back(), histogram);
}

void SeriesData::Append(const TimedSample& sample, const ChunkLimits& limits) {
  MS_CHECK(!max_time_.has_value() || sample.timestamp > *max_time_);
  if (!FitsOpen(sample, limits)) SealOpen();
  const bool first = open_.timestamps.empty();
  if (sample.start != 0 && open_.starts.empty()) open_.starts.assign(open_.timestamps.size(), 0);
  if (sample.start != 0 || !open_.starts.empty()) open_.starts.push_back(sample.start);
  open_.timestamps.push_back(sample.timestamp);
  if (sample.value.histogram == nullptr) {
    open_.kind = SampleKind::kFloat;
    open_.gauge = false;
    open_.values.push_back(sample.value.value);
    last_ = sample.value;
  } else {
    open_.kind = SampleKind::kHistogram;
    open_.gauge = IsGauge(*sample.value.histogram);
    const auto hint = open_.gauge ? model::CounterResetHint::kGauge
                                  : (first ? model::CounterResetHint::kUnknown : model::CounterResetHint::kNotReset);
    open_.histograms.push_back(WithHint(sample.value.histogram, hint));
    open_.buckets += BucketCount(*sample.value.histogram);
    histogram_bytes_ += HistogramBytes(*sample.value.histogram);
    last_ = SampleValue{0, open_.histograms.back()};
  }
  max_time_ = sample.timestamp;
}

std::shared_ptr<const Chunk> SeriesData::MakeOpenChunk() const {
  return open_.kind == SampleKind::kFloat ? Chunk::SealFloats(open_.columns())
                                          : Chunk::SealHistograms(open_.columns(), open_.hints());
}

void SeriesData::SealOpen() {
  if (open_.timestamps.empty()) return;
  sealed_.push_back(MakeOpenChunk());
  sealed_bytes_ += static_cast<int64_t>(sealed_.back()->memory_bytes());
  for (const HistogramPtr& histogram : open_.histograms) histogram_bytes_ -= HistogramBytes(*histogram);
  open_.Clear();
}

void SeriesData::AppendOutOfOrder(const TimedSample& sample, const ChunkLimits& limits) {
  auto& columns = out_of_order_;
  const bool is_histogram = sample.value.histogram != nullptr;
  auto& timestamps = is_histogram ? columns.histogram_timestamps : columns.timestamps;
  auto& starts = is_histogram ? columns.histogram_start_timestamps : columns.start_timestamps;
  const auto at = std::lower_bound(timestamps.begin(), timestamps.end(), sample.timestamp) - timestamps.begin();
  if (sample.start != 0 && starts.empty()) starts.assign(timestamps.size(), 0);
  if (sample.start != 0 || !starts.empty()) starts.insert(starts.begin() + at, sample.start);
  timestamps.insert(timestamps.begin() + at, sample.timestamp);
  if (is_histogram) {
    // Its neighbour in time may still come: nothing is known about a reset between them.
    auto histogram = IsGauge(*sample.value.histogram)
                         ? sample.value.histogram
                         : WithHint(sample.value.histogram, model::CounterResetHint::kUnknown);
    histogram_bytes_ += HistogramBytes(*histogram);
    columns.histograms.insert(columns.histograms.begin() + at, std::move(histogram));
  } else {
    columns.values.insert(columns.values.begin() + at, sample.value.value);
  }
  if (columns.timestamps.size() >= limits.float_samples_max ||
      columns.histograms.size() >= std::min<size_t>(limits.histogram_samples_max, kOutOfOrderHistogramsMax)) {
    SealOutOfOrder();
  }
}

std::vector<std::shared_ptr<const Chunk>> SeriesData::MakeOutOfOrderChunks() const {
  std::vector<std::shared_ptr<const Chunk>> chunks;
  const auto& columns = out_of_order_;
  if (!columns.timestamps.empty()) {
    chunks.push_back(Chunk::SealFloats({columns.timestamps, columns.start_timestamps, columns.values, {}}));
  }
  // Gauges and counters stand in chunks of their own, and none has too many buckets.
  for (const bool gauge : {false, true}) {
    std::vector<TimestampMs> timestamps;
    std::vector<TimestampMs> starts;
    std::vector<HistogramPtr> histograms;
    size_t buckets = 0;
    const auto seal = [&] {
      if (timestamps.empty()) return;
      const bool any_start = std::any_of(starts.begin(), starts.end(), [](TimestampMs start) { return start != 0; });
      if (!any_start) starts.clear();
      chunks.push_back(Chunk::SealHistograms({timestamps, starts, {}, histograms},
                                             gauge ? ChunkHints::kGauge : ChunkHints::kUnknown));
      timestamps.clear();
      starts.clear();
      histograms.clear();
      buckets = 0;
    };
    for (size_t i = 0; i < columns.histograms.size(); ++i) {
      if (IsGauge(*columns.histograms[i]) != gauge) continue;
      if (buckets + BucketCount(*columns.histograms[i]) > kChunkBucketsMax) seal();
      buckets += BucketCount(*columns.histograms[i]);
      timestamps.push_back(columns.histogram_timestamps[i]);
      starts.push_back(columns.histogram_start_timestamps.empty() ? 0 : columns.histogram_start_timestamps[i]);
      histograms.push_back(columns.histograms[i]);
    }
    seal();
  }
  return chunks;
}

void SeriesData::SealOutOfOrder() {
  for (auto& chunk : MakeOutOfOrderChunks()) {
    sealed_bytes_ += static_cast<int64_t>(chunk->memory_bytes());
    out_of_order_sealed_.push_back(std::move(chunk));
  }
  for (const HistogramPtr& histogram : out_of_order_.histograms) histogram_bytes_ -= HistogramBytes(*histogram);
  out_of_order_.Clear();
}

void SeriesData::CopyOpen(storage::TimeRange range, storage::SampleColumns* out) const {
  const auto first = std::lower_bound(open_.timestamps.begin(), open_.timestamps.end(), range.min);
  const auto last = std::upper_bound(first, open_.timestamps.end(), range.max);
  for (auto i = static_cast<size_t>(first - open_.timestamps.begin());
       i < static_cast<size_t>(last - open_.timestamps.begin()); ++i) {
    const TimestampMs start = open_.starts.empty() ? 0 : open_.starts[i];
    if (open_.kind == SampleKind::kFloat) {
      AppendFloat(open_.timestamps[i], open_.values[i], start, out);
    } else {
      AppendHistogram(open_.timestamps[i], open_.histograms[i], start, out);
    }
  }
}

std::optional<SampleValue> SeriesData::Find(TimestampMs timestamp) const {
  const storage::TimeRange range{timestamp, timestamp};
  storage::SampleColumns found;
  CopyOpen(range, &found);
  CopyRange(out_of_order_, range, &found);
  const auto decode = [&](const Chunk& chunk) {
    storage::SampleColumns columns;
    if (chunk.Overlaps(range) && chunk.Decode(range, &columns).ok()) CopyRange(columns, range, &found);
  };
  if (found.size() == 0) {
    const auto at = std::lower_bound(sealed_.begin(), sealed_.end(), timestamp,
                                     [](const auto& chunk, TimestampMs t) { return chunk->max_time() < t; });
    if (at != sealed_.end()) decode(**at);
  }
  for (size_t i = 0; found.size() == 0 && i < out_of_order_sealed_.size(); ++i) decode(*out_of_order_sealed_[i]);
  if (!found.values.empty()) return SampleValue{found.values.front(), nullptr};
  if (!found.histograms.empty()) return SampleValue{0, found.histograms.front()};
  return std::nullopt;
}

bool SeriesData::Overlaps(storage::TimeRange range) const {
  const auto overlaps = [range](const std::vector<TimestampMs>& times) {
    return !times.empty() && times.front() <= range.max && times.back() >= range.min;
  };
  const auto chunk_overlaps = [range](const auto& chunk) { return chunk->Overlaps(range); };
  return overlaps(open_.timestamps) || overlaps(out_of_order_.timestamps) ||
         overlaps(out_of_order_.histogram_timestamps) || std::any_of(sealed_.begin(), sealed_.end(), chunk_overlaps) ||
         std::any_of(out_of_order_sealed_.begin(), out_of_order_sealed_.end(), chunk_overlaps);
}

storage::TimeRange SeriesData::TimeSpan() const {
  storage::TimeRange span{INT64_MAX, INT64_MIN};
  const auto add = [&span](TimestampMs min, TimestampMs max) {
    span.min = std::min(span.min, min);
    span.max = std::max(span.max, max);
  };
  for (const auto* times : {&open_.timestamps, &out_of_order_.timestamps, &out_of_order_.histogram_timestamps}) {
    if (!times->empty()) add(times->front(), times->back());
  }
  for (const auto* chunks : {&sealed_, &out_of_order_sealed_}) {
    for (const auto& chunk : *chunks) add(chunk->min_time(), chunk->max_time());
  }
  return span;
}

size_t SeriesData::chunks() const {
  return sealed_.size() + out_of_order_sealed_.size() + (open_.timestamps.empty() ? 0 : 1) +
         (out_of_order_.size() == 0 ? 0 : 1);
}

void SeriesData::Collect(storage::TimeRange range, SampleSources* sources) const {
  for (const auto* chunks : {&sealed_, &out_of_order_sealed_}) {
    for (const auto& chunk : *chunks) {
      if (chunk->Overlaps(range)) sources->chunks.push_back(chunk);
    }
  }
  storage::SampleColumns open;
  CopyOpen(range, &open);
  if (open.size() > 0) sources->columns.push_back(std::move(open));
  if (out_of_order_.size() > 0) {
    storage::SampleColumns buffered;
    CopyRange(out_of_order_, range, &buffered);
    if (buffered.size() > 0) sources->columns.push_back(std::move(buffered));
  }
}

std::vector<std::shared_ptr<const Chunk>> SeriesData::ChunksBefore(TimestampMs limit) {
  if (!open_.timestamps.empty() && open_.timestamps.back() < limit) SealOpen();
  const auto buffer_is_old = [&] {
    const auto& columns = out_of_order_;
    return columns.size() > 0 && (columns.timestamps.empty() || columns.timestamps.back() < limit) &&
           (columns.histogram_timestamps.empty() || columns.histogram_timestamps.back() < limit);
  };
  if (buffer_is_old()) SealOutOfOrder();
  std::vector<std::shared_ptr<const Chunk>> chunks;
  for (const auto* from : {&sealed_, &out_of_order_sealed_}) {
    for (const auto& chunk : *from) {
      if (chunk->max_time() < limit) chunks.push_back(chunk);
    }
  }
  return chunks;
}

void SeriesData::Drop(std::span<const std::shared_ptr<const Chunk>> gone) {
  // They stand here in the order in which they were returned; what has come since stands behind.
  size_t next = 0;
  for (auto* chunks : {&sealed_, &out_of_order_sealed_}) {
    std::erase_if(*chunks, [&](const auto& chunk) {
      if (next == gone.size() || chunk != gone[next]) return false;
      ++next;
      sealed_bytes_ -= static_cast<int64_t>(chunk->memory_bytes());
      return true;
    });
  }
}

SeriesData::State SeriesData::Save() const {
  State state;
  state.max_time = max_time_;
  state.sealed = sealed_;
  if (!open_.timestamps.empty()) state.open = MakeOpenChunk();
  state.out_of_order = out_of_order_sealed_;
  for (auto& chunk : MakeOutOfOrderChunks()) state.out_of_order.push_back(std::move(chunk));
  return state;
}

Status SeriesData::Restore(State state) {
  MS_CHECK(empty());
  max_time_ = state.max_time;
  sealed_ = std::move(state.sealed);
  out_of_order_sealed_ = std::move(state.out_of_order);
  for (const auto* chunks : {&sealed_, &out_of_order_sealed_}) {
    for (const auto& chunk : *chunks) sealed_bytes_ += static_cast<int64_t>(chunk->memory_bytes());
  }
  if (state.open == nullptr) return Status::Ok();
  storage::SampleColumns columns;
  MS_RETURN_IF_ERROR(state.open->Decode({INT64_MIN, INT64_MAX}, &columns));
  open_.kind = state.open->kind();
  open_.gauge = state.open->hints() == ChunkHints::kGauge;
  if (open_.kind == SampleKind::kFloat) {
    open_.timestamps = std::move(columns.timestamps);
    open_.starts = std::move(columns.start_timestamps);
    open_.values = std::move(columns.values);
    last_ = SampleValue{open_.values.back(), nullptr};
  } else {
    open_.timestamps = std::move(columns.histogram_timestamps);
    open_.starts = std::move(columns.histogram_start_timestamps);
    open_.histograms = std::move(columns.histograms);
    for (const HistogramPtr& histogram : open_.histograms) {
      open_.buckets += BucketCount(*histogram);
      histogram_bytes_ += HistogramBytes(*histogram);
    }
    last_ = SampleValue{0, open_.histograms.back()};
  }
  return Status::Ok();
}

int64_t SeriesData::memory_bytes() const {
  const size_t open =
      open_.timestamps.capacity() + open_.starts.capacity() + open_.values.capacity() + 2 * open_.histograms.capacity();
  const size_t late = out_of_order_.timestamps.capacity() + out_of_order_.values.capacity() +
                      out_of_order_.start_timestamps.capacity() + out_of_order_.histogram_timestamps.capacity() +
                      out_of_order_.histogram_start_timestamps.capacity() + 2 * out_of_order_.histograms.capacity();
  return static_cast<int64_t>(8 * (open + late) + 16 * (sealed_.capacity() + out_of_order_sealed_.capacity())) +
         sealed_bytes_ + histogram_bytes_;
}

}  // namespace millstream::tsdb

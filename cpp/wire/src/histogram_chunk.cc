#include "histogram_chunk.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "chunk_bits.h"
#include "millstream/model/histogram_math.h"
#include "millstream/model/value.h"

namespace millstream::wire {
namespace {

using model::CounterResetHint;
using model::Histogram;

constexpr double kWholeMax = 9'007'199'254'740'992;  // 2^53
// The highest two bits of the third byte.
constexpr unsigned char kUnknownReset = 0b00 << 6;
constexpr unsigned char kNotReset = 0b01 << 6;
constexpr unsigned char kReset = 0b10 << 6;
constexpr unsigned char kGauge = 0b11 << 6;
// A zero threshold that is a power of two between 2^-243 and 2^10 has a byte of its own.
constexpr int kThresholdExponentMin = -242;
constexpr int kThresholdExponentMax = 11;
constexpr uint64_t kThresholdExponentShift = 243;
constexpr uint64_t kThresholdInFull = 255;
// Custom bounds up to here that are whole thousandths are numbers of thousandths.
constexpr double kBoundThousandthsMax = 33'554'430;

bool IsWhole(double count) {
  return count <= kWholeMax && std::trunc(count) == count && !std::signbit(count);
}

bool HasWholeCounts(const Histogram& histogram) {
  return IsWhole(histogram.count) && IsWhole(histogram.zero_count) &&
         std::ranges::all_of(histogram.positive_buckets, IsWhole) &&
         std::ranges::all_of(histogram.negative_buckets, IsWhole);
}

// Whether the chunk in which `before` is the last sample has a form for `now`.
bool Continues(const Histogram& now, const Histogram& before) {
  const bool is_stale = model::IsStaleNan(now.sum);
  if (is_stale || model::IsStaleNan(before.sum)) return is_stale && model::IsStaleNan(before.sum);
  const bool is_gauge = now.counter_reset_hint == CounterResetHint::kGauge;
  if (is_gauge != (before.counter_reset_hint == CounterResetHint::kGauge)) return false;
  return model::HaveOneLayout(now, before) && (is_gauge || !model::DetectReset(now, before));
}

unsigned char HeaderOf(const Histogram& first, const Histogram* before) {
  if (model::IsStaleNan(first.sum)) return kUnknownReset;
  switch (first.counter_reset_hint) {
    case CounterResetHint::kGauge:
      return kGauge;
    case CounterResetHint::kReset:
      return kReset;
    case CounterResetHint::kNotReset:
      return kNotReset;
    case CounterResetHint::kUnknown:
      break;
  }
  if (before == nullptr || model::IsStaleNan(before->sum) || before->counter_reset_hint == CounterResetHint::kGauge) {
    return kUnknownReset;
  }
  return model::DetectReset(first, *before) ? kReset : kNotReset;
}

void WriteZeroThreshold(double threshold, HighBitWriter* out) {
  if (threshold == 0) return out->Write(0, 8);
  int exponent = 0;
  const double fraction = std::frexp(threshold, &exponent);
  if (fraction == 0.5 && exponent >= kThresholdExponentMin && exponent <= kThresholdExponentMax) {
    return out->Write(static_cast<uint64_t>(exponent) + kThresholdExponentShift, 8);
  }
  out->Write(kThresholdInFull, 8);
  out->WriteDouble(threshold);
}

void WriteSpans(const std::vector<model::Span>& spans, HighBitWriter* out) {
  out->WriteUnsigned(spans.size());
  for (const model::Span& span : spans) {
    out->WriteUnsigned(span.length);
    out->WriteSigned(span.offset);
  }
}

void WriteBound(double bound, HighBitWriter* out) {
  const double thousandths = std::round(bound * 1000);
  if (thousandths >= 0 && thousandths <= kBoundThousandthsMax &&
      std::bit_cast<uint64_t>(thousandths / 1000) == std::bit_cast<uint64_t>(bound)) {
    // 0 says that the bound follows in full.
    return out->WriteUnsigned(static_cast<uint64_t>(thousandths) + 1);
  }
  out->WriteUnsigned(0);
  out->WriteDouble(bound);
}

void WriteLayout(const Histogram& histogram, HighBitWriter* out) {
  WriteZeroThreshold(histogram.zero_threshold, out);
  out->WriteSigned(histogram.schema);
  WriteSpans(histogram.positive_spans, out);
  WriteSpans(histogram.negative_spans, out);
  if (!histogram.uses_custom_buckets()) return;
  out->WriteUnsigned(histogram.custom_values.size());
  for (const double bound : histogram.custom_values) WriteBound(bound, out);
}

// A bucket is the difference to the one before it, and that as the difference of differences between samples.
class WholeCounts {
 public:
  void WriteFirst(const Histogram& histogram, HighBitWriter* out) {
    const auto count = static_cast<uint64_t>(histogram.count);
    const auto zero_count = static_cast<uint64_t>(histogram.zero_count);
    out->WriteUnsigned(count);
    out->WriteUnsigned(zero_count);
    sum_.WriteFirst(histogram.sum, out);
    counts_ = {DeltaColumn(count), DeltaColumn(zero_count)};
    ForEachBucket(histogram, [&](uint64_t difference) {
      out->WriteSigned(static_cast<int64_t>(difference));
      counts_.emplace_back(difference);
    });
  }
  void Write(const Histogram& histogram, HighBitWriter* out) {
    counts_[0].Write(static_cast<uint64_t>(histogram.count), out);
    counts_[1].Write(static_cast<uint64_t>(histogram.zero_count), out);
    sum_.Write(histogram.sum, out);
    size_t column = 2;
    ForEachBucket(histogram, [&](uint64_t difference) { counts_[column++].Write(difference, out); });
  }

 private:
  template <typename Function>
  static void ForEachBucket(const Histogram& histogram, const Function& function) {
    for (const auto* buckets : {&histogram.positive_buckets, &histogram.negative_buckets}) {
      uint64_t previous = 0;
      for (const double bucket : *buckets) {
        const auto count = static_cast<uint64_t>(bucket);
        function(count - previous);
        previous = count;
      }
    }
  }

  XorColumn sum_;
  std::vector<DeltaColumn> counts_;  // of all, of the zero bucket, then of the buckets
};

class AnyCounts {
 public:
  void WriteFirst(const Histogram& histogram, HighBitWriter* out) {
    columns_.resize(3 + histogram.positive_buckets.size() + histogram.negative_buckets.size());
    ForEach(histogram, [out](XorColumn& column, double value) { column.WriteFirst(value, out); });
  }
  void Write(const Histogram& histogram, HighBitWriter* out) {
    ForEach(histogram, [out](XorColumn& column, double value) { column.Write(value, out); });
  }

 private:
  template <typename Function>
  void ForEach(const Histogram& histogram, const Function& function) {
    function(columns_[0], histogram.count);
    function(columns_[1], histogram.zero_count);
    function(columns_[2], histogram.sum);
    size_t column = 3;
    for (const double bucket : histogram.positive_buckets) function(columns_[column++], bucket);
    for (const double bucket : histogram.negative_buckets) function(columns_[column++], bucket);
  }

  std::vector<XorColumn> columns_;
};

// The end of a series has nothing but its sum, whatever it came with.
const Histogram& AsWritten(const Histogram& histogram) {
  static const Histogram kStale = [] {
    Histogram stale;
    stale.sum = model::StaleNan();
    return stale;
  }();
  return model::IsStaleNan(histogram.sum) ? kStale : histogram;
}

template <typename Counts>
size_t WriteSamples(std::span<const TimestampMs> timestamps,
                    std::span<const std::shared_ptr<const Histogram>> histograms, std::string* chunk) {
  const bool wants_whole = std::is_same_v<Counts, WholeCounts>;
  HighBitWriter out(chunk);
  Counts counts;
  const Histogram& first = AsWritten(*histograms[0]);
  WriteLayout(first, &out);
  out.WriteSigned(timestamps[0]);
  counts.WriteFirst(first, &out);
  DeltaColumn times(static_cast<uint64_t>(timestamps[0]));
  size_t count = 1;
  while (count < histograms.size() && count < kHistogramChunkSamplesMax && chunk->size() < kHistogramChunkBytesMax) {
    if (count >= kHistogramChunkSamplesMin && chunk->size() >= kHistogramChunkBytesTarget) break;
    const Histogram& next = AsWritten(*histograms[count]);
    if (!Continues(next, *histograms[count - 1]) || HasWholeCounts(next) != wants_whole) break;
    times.Write(static_cast<uint64_t>(timestamps[count]), &out);
    counts.Write(next, &out);
    ++count;
  }
  return count;
}

}  // namespace

HistogramChunk EncodeHistogramChunk(std::span<const TimestampMs> timestamps,
                                    std::span<const std::shared_ptr<const Histogram>> histograms,
                                    const Histogram* before) {
  std::string bytes(2, '\0');
  bytes.push_back(static_cast<char>(HeaderOf(*histograms[0], before)));
  const bool is_whole = HasWholeCounts(AsWritten(*histograms[0]));
  const size_t samples = is_whole ? WriteSamples<WholeCounts>(timestamps, histograms, &bytes)
                                  : WriteSamples<AnyCounts>(timestamps, histograms, &bytes);
  bytes[0] = static_cast<char>(samples >> 8);
  bytes[1] = static_cast<char>(samples);
  return {.encoding = is_whole ? HistogramEncoding::kHistogram : HistogramEncoding::kFloatHistogram,
          .samples = samples,
          .bytes = std::move(bytes)};
}

}  // namespace millstream::wire

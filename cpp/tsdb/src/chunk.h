// Chunk: a run of samples of one series, all floats or all histograms, sealed into bytes.
//
// The bytes are the same in memory, in a snapshot and in a block; their layout is drawn in docs/formats/chunk.md.
// Threads     Immutable; safe to read from any thread.
// Invariants  Timestamps ascend strictly. 1 <= count <= kChunkSamplesMax.
// Errors      Parse and Decode: kDataLoss for bytes that Seal does not write.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/model/histogram.h"
#include "millstream/storage/queryable.h"

namespace millstream::tsdb {

inline constexpr size_t kChunkSamplesMax = 4096;
// Bucket counts of all histograms in a chunk: what a decoder allocates at most, but for one histogram more.
inline constexpr size_t kChunkBucketsMax = size_t{1} << 18;

enum class SampleKind : uint8_t { kFloat = 0, kHistogram = 1 };

// What counter reset hints the histograms of a chunk have when read.
enum class ChunkHints : uint8_t {
  kCounter = 0,  // the first unknown, the others not_reset
  kGauge = 1,    // all gauge
  kUnknown = 2,  // all unknown: neighbours in the chunk need not have been neighbours in time
};

using HistogramPtr = std::shared_ptr<const model::Histogram>;

// Samples of one kind in columns; what a chunk is sealed from.
struct ChunkColumns {
  std::span<const TimestampMs> timestamps;
  std::span<const TimestampMs> starts;  // empty, or 0 where unknown
  std::span<const double> values;       // floats, or
  std::span<const HistogramPtr> histograms;
};

// Of the floats of a chunk. NaN values count for `count`, `first` and `last` only; the others are 0 when all are NaN.
struct FloatSummary {
  double min = 0;
  double max = 0;
  double sum = 0;
  double first = 0;
  double last = 0;
  uint32_t resets = 0;  // values less than the one before
};

class Chunk {
 public:
  static std::shared_ptr<const Chunk> SealFloats(const ChunkColumns& columns);
  // All histograms have the same hint class; `hints` says what they read back as.
  static std::shared_ptr<const Chunk> SealHistograms(const ChunkColumns& columns, ChunkHints hints);
  // Checks the header and keeps the bytes.
  static Result<std::shared_ptr<const Chunk>> Parse(std::string bytes);

  SampleKind kind() const { return kind_; }
  ChunkHints hints() const { return hints_; }
  uint32_t count() const { return count_; }
  TimestampMs min_time() const { return min_time_; }
  TimestampMs max_time() const { return max_time_; }
  // Of float chunks.
  const FloatSummary& summary() const { return summary_; }
  const std::string& bytes() const { return bytes_; }
  size_t memory_bytes() const { return sizeof(Chunk) + bytes_.capacity(); }

  bool Overlaps(storage::TimeRange range) const { return min_time_ <= range.max && max_time_ >= range.min; }

  // Appends the samples within `range` to *out.
  Status Decode(storage::TimeRange range, storage::SampleColumns* out) const;

 private:
  Chunk() = default;
  Status ParseHeader();
  Status DecodeHistograms(std::string_view body, size_t begin, size_t end, std::span<const TimestampMs> timestamps,
                          std::span<const TimestampMs> starts, storage::SampleColumns* out) const;

  SampleKind kind_ = SampleKind::kFloat;
  ChunkHints hints_ = ChunkHints::kCounter;
  bool has_starts_ = false;
  uint32_t count_ = 0;
  TimestampMs min_time_ = 0;
  TimestampMs max_time_ = 0;
  FloatSummary summary_;
  size_t body_ = 0;  // where the columns begin in bytes_
  std::string bytes_;
};

// Appends one sample and keeps the start column as long as the others, or empty.
void AppendFloat(TimestampMs timestamp, double value, TimestampMs start, storage::SampleColumns* out);
void AppendHistogram(TimestampMs timestamp, HistogramPtr histogram, TimestampMs start, storage::SampleColumns* out);

size_t BucketCount(const model::Histogram& histogram);
// The same schema, zero threshold, spans and custom values.
bool SameLayout(const model::Histogram& a, const model::Histogram& b);
// A copy with another hint, or the same pointer when it has it already.
HistogramPtr WithHint(const HistogramPtr& histogram, model::CounterResetHint hint);

}  // namespace millstream::tsdb

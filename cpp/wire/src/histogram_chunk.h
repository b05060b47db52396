// EncodeHistogramChunk: native histograms as one chunk of Prometheus's encodings for them, which remote read sends.
//
// A chunk has one layout: buckets, schema, zero threshold and custom bounds are written once, before its first sample.
// It has whole counts (kHistogram) or any (kFloatHistogram), is of gauges or of counters, and none of its counters was
// reset after its first sample: a reader takes that for granted. Whatever differs from that begins another chunk.
// Source      Prometheus's tsdb/chunkenc.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "millstream/base/strong_int.h"
#include "millstream/model/histogram.h"

namespace millstream::wire {

inline constexpr size_t kHistogramChunkSamplesMax = 120;
// A chunk ends once it is larger and has so many samples, as Prometheus's end.
inline constexpr size_t kHistogramChunkBytesTarget = 1024;
inline constexpr size_t kHistogramChunkSamplesMin = 10;
// It ends in any case once it is larger, so no chunk has more bytes than this and a sample's.
inline constexpr size_t kHistogramChunkBytesMax = size_t{1} << 20;

// The numbers of prometheus.Chunk.Encoding.
enum class HistogramEncoding : uint8_t { kHistogram = 2, kFloatHistogram = 3 };

struct HistogramChunk {
  HistogramEncoding encoding;
  size_t samples;  // how many of those given, from the first on; at least one
  std::string bytes;
};

// Columns of equal length, not empty, ascending in time, of histograms that are valid. `before` is the sample of the
// series before them when it is a histogram, else null; it tells whether the first one was reset.
HistogramChunk EncodeHistogramChunk(std::span<const TimestampMs> timestamps,
                                    std::span<const std::shared_ptr<const model::Histogram>> histograms,
                                    const model::Histogram* before);

}  // namespace millstream::wire

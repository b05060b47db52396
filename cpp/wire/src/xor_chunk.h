// EncodeXorChunk: float samples as one chunk of Prometheus's XOR encoding, which remote read sends.
//
// Source      Prometheus's tsdb/chunkenc; T. Pelkonen et al., "Gorilla: a fast, scalable, in-memory time series
//             database", VLDB 2015.
#pragma once

#include <span>
#include <string>

#include "millstream/base/strong_int.h"

namespace millstream::wire {

inline constexpr size_t kXorChunkSamplesMax = 120;

// Columns of equal length, 1 to kXorChunkSamplesMax, ascending in time.
std::string EncodeXorChunk(std::span<const TimestampMs> timestamps, std::span<const double> values);

}  // namespace millstream::wire

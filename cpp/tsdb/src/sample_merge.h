// SampleSources: where samples of one series lie, and their merge into one column in time order.
//
// Invariants  When several sources have a sample at one timestamp, the source added first wins.
// Errors      kDataLoss from a corrupt chunk.
#pragma once

#include <memory>
#include <vector>

#include "chunk.h"
#include "millstream/storage/queryable.h"

namespace millstream::tsdb {

struct SampleSources {
  std::vector<std::shared_ptr<const Chunk>> chunks;  // each ascending; they may overlap
  std::vector<storage::SampleColumns> columns;       // each ascending; they may overlap
};

// Appends the samples of all sources within `range` to *out. Histograms whose neighbour before came from another source
// lose their hint, unless they are gauges.
// Cost        A copy where sources do not overlap; a sort where they do.
Status MergeSamples(storage::TimeRange range, const SampleSources& sources, storage::SampleColumns* out);

// Appends those samples of ascending columns that lie within `range`.
void CopyRange(const storage::SampleColumns& from, storage::TimeRange range, storage::SampleColumns* out);

}  // namespace millstream::tsdb

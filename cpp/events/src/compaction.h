// Compaction of a partition by key: of each key the newest event stays, where it is; an event that deletes its key
// goes, too, once it is old enough.
//
// A pass reads what is new since the last one and notes the newest offset of each key, as many keys as memory allows;
// then it rewrites, from the oldest on, every closed segment in which something goes. So what a tombstone deletes is
// gone before the tombstone is. With more keys than memory, pass follows pass. How far the passes have come is noted in
// the partition's folder.
//
// What publishing again would have to know (a client's id, a producer's sequence) stays behind as a record without key,
// headers and payload, while it is among the partition's newest kRememberedEvents offsets.
//
// Threads     Compact on any thread, one partition and one thread at a time; publishers and readers go on meanwhile.
// Cost        Memory: for as many keys as there are new events, at most bytes_max, and a batch. A pass reads what is
//             new up to three times and what is old once, and writes the segments in which something goes.
// Errors      Those of the log; a partition whose compaction failed is as it was, and the next one tries again.
#pragma once

#include <atomic>
#include <cstdint>

#include "millstream/base/status.h"
#include "millstream/env/env.h"
#include "partition.h"

namespace millstream::events {

struct CompactionStats {
  std::atomic<uint64_t> passes{0};  // whoever compacts writes it; likewise below
  std::atomic<uint64_t> events_removed{0};
  std::atomic<uint64_t> bytes_freed{0};
};

// Does what is worth doing now. `open` false: only when the log is open already. Stops early once `closed`.
Status Compact(const env::Env& env, const std::atomic<bool>& closed, Partition& partition, bool open,
               uint64_t memory_bytes_max, CompactionStats* stats);

}  // namespace millstream::events

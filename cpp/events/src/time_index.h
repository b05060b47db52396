// TimeIndex: the newest timestamp in each range of a partition's offsets, so that an event is found by its time without
// reading the partition.
//
// A range is what one closed segment held. Its entry is appended to the file `times` when the segment is closed, and is
// no more than a hint: where entries are missing or broken, the range counts as unknown and is read. Whoever is removed
// later only makes an entry too high, which costs a look and gives no wrong answer.
//
// Threads     One at a time.
// Cost        An entry for each segment, 24 bytes in memory and 32 in the file.
// Errors      None: what cannot be read or written is an index that knows less.
// Source      docs/formats/events.md draws the file.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millstream/base/strong_int.h"
#include "millstream/env/file_system.h"

namespace millstream::events {

struct TimeRange {
  uint64_t first = 0;
  uint64_t end = 0;
  TimestampMs newest = 0;
  friend bool operator==(const TimeRange&, const TimeRange&) = default;
};

// The newest timestamp of no event.
inline constexpr TimestampMs kNoTimestamp = std::numeric_limits<TimestampMs>::min();

std::string EncodeTimeRange(const TimeRange& range);
// The intact entries, ascending and without overlap; an entry that overlaps earlier ones takes their place.
std::vector<TimeRange> DecodeTimeRanges(std::string_view bytes);

// What the file says about the offsets from `start` to before `closed_end`; the file forgets the rest.
std::vector<TimeRange> LoadTimeRanges(env::FileSystem& files, const std::string& path, uint64_t start,
                                      uint64_t closed_end);
void StoreTimeRange(env::FileSystem& files, const std::string& path, const TimeRange& range);

class TimeIndex {
 public:
  TimeIndex() = default;
  explicit TimeIndex(std::vector<TimeRange> ranges) : ranges_(std::move(ranges)) {}
  // A range above all others.
  void Add(const TimeRange& range) { ranges_.push_back(range); }
  // The first range from `offset` on, below `closed_end`, that may have an event at or after `timestamp`; its `first`
  // is not below `offset`.
  std::optional<TimeRange> Find(uint64_t offset, uint64_t closed_end, TimestampMs timestamp) const;

 private:
  std::vector<TimeRange> ranges_;
};

}  // namespace millstream::events

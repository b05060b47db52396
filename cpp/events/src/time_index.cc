#include "time_index.h"

#include <algorithm>
#include <utility>

#include "millstream/codec/byte_io.h"
#include "millstream/codec/crc32c.h"
#include "millstream/env/file_util.h"

namespace millstream::events {
namespace {

constexpr uint32_t kMagic = 0x454D4954;  // "TIME"
constexpr size_t kEntryBytes = 32;
constexpr size_t kCheckedBytes = 28;
constexpr uint64_t kFileBytesMax = 256 << 20;

std::optional<TimeRange> DecodeEntry(std::string_view bytes) {
  codec::ByteReader reader(bytes);
  uint32_t magic = 0;
  uint32_t crc = 0;
  uint64_t newest = 0;
  TimeRange range;
  if (!reader.U32(&magic) || !reader.U64(&range.first) || !reader.U64(&range.end) || !reader.U64(&newest) ||
      !reader.U32(&crc)) {
    return std::nullopt;
  }
  if (magic != kMagic || crc != codec::Crc32c(bytes.substr(0, kCheckedBytes)) || range.first >= range.end) {
    return std::nullopt;
  }
  range.newest = static_cast<TimestampMs>(newest);
  return range;
}

}  // namespace

std::string EncodeTimeRange(const TimeRange& range) {
  std::string out;
  codec::ByteWriter writer(&out);
  writer.U32(kMagic);
  writer.U64(range.first);
  writer.U64(range.end);
  writer.U64(static_cast<uint64_t>(range.newest));
  writer.U32(codec::Crc32c(out));
  return out;
}

std::vector<TimeRange> DecodeTimeRanges(std::string_view bytes) {
  std::vector<TimeRange> ranges;
  for (; bytes.size() >= kEntryBytes; bytes.remove_prefix(kEntryBytes)) {
    const std::optional<TimeRange> range = DecodeEntry(bytes.substr(0, kEntryBytes));
    if (!range.has_value()) continue;
    while (!ranges.empty() && ranges.back().end > range->first) ranges.pop_back();
    ranges.push_back(*range);
  }
  return ranges;
}

std::vector<TimeRange> LoadTimeRanges(env::FileSystem& files, const std::string& path, uint64_t start,
                                      uint64_t closed_end) {
  const auto exists = files.Exists(path);
  if (!exists.ok() || !*exists) return {};
  const auto bytes = env::ReadFile(files, path, kFileBytesMax);
  if (!bytes.ok()) return {};
  std::vector<TimeRange> ranges = DecodeTimeRanges(*bytes);
  // Of a segment that a power cut has made the last one again: what it will hold in the end is another range, and the
  // entry would be too low for it.
  const bool is_ahead = std::erase_if(ranges, [&](const TimeRange& range) { return range.end > closed_end; }) > 0;
  std::erase_if(ranges, [&](const TimeRange& range) { return range.end <= start; });
  // Written anew when half of it is of no use, or when entries that are appended would not be where they are looked
  // for.
  if (!is_ahead && bytes->size() % kEntryBytes == 0 && bytes->size() <= 2 * kEntryBytes * (ranges.size() + 1)) {
    return ranges;
  }
  std::string kept;
  for (const TimeRange& range : ranges) kept += EncodeTimeRange(range);
  if (!env::WriteFileAtomically(files, path, kept).ok() && is_ahead) (void)files.Remove(path).ok();
  return ranges;
}

void StoreTimeRange(env::FileSystem& files, const std::string& path, const TimeRange& range) {
  const auto exists = files.Exists(path);
  if (!exists.ok()) return;
  const auto file = files.OpenForWrite(path, *exists ? env::OpenMode::kAppend : env::OpenMode::kCreate);
  if (!file.ok()) return;
  const uint64_t size = (*file)->size();
  // What was written in part goes again: entries stand at multiples of their size.
  if (!(*file)->Append(EncodeTimeRange(range)).ok()) (void)(*file)->Truncate(size).ok();
}

std::optional<TimeRange> TimeIndex::Find(uint64_t offset, uint64_t closed_end, TimestampMs timestamp) const {
  auto range = std::ranges::upper_bound(ranges_, offset, {}, &TimeRange::end);
  while (offset < closed_end) {
    // What no entry covers is unknown.
    if (range == ranges_.end() || range->first >= closed_end) return TimeRange{offset, closed_end, timestamp};
    if (range->first > offset) return TimeRange{offset, range->first, timestamp};
    if (range->newest >= timestamp) return TimeRange{offset, std::min(range->end, closed_end), range->newest};
    offset = range->end;
    ++range;
  }
  return std::nullopt;
}

}  // namespace millstream::events

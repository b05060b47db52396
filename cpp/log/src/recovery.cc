#include "recovery.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "millstream/env/file_util.h"

namespace millstream::log {
namespace {

// How much is looked through at once for batches behind broken bytes.
constexpr uint64_t kSearchBytes = 1 << 20;

Result<std::optional<SegmentHeader>> ReadSegmentHeader(const env::ReadableFile& file) {
  std::array<char, kSegmentHeaderBytes> bytes{};
  MS_ASSIGN_OR_RETURN(const size_t read, file.Read(0, bytes));
  return DecodeSegmentHeader({bytes.data(), read});
}

Status BadSegmentHeader(const std::string& path) {
  return DataLoss("{} is corrupt at byte 0: the segment's header does not match its checksum", path);
}

// Whether a batch header behind `position` proves that the bytes there had been good once: it was written by this boot,
// or when `expected` was on the disk already.
Result<bool> IsProvenByLaterBatch(const env::ReadableFile& file, uint64_t size, uint64_t salt, uint64_t position,
                                  Offset expected, uint64_t boot) {
  FileWindow window(&file);
  // The first two bytes of a batch's magic are enough to skip most positions.
  for (uint64_t at = position; at + kBatchHeaderBytes <= size;) {
    const uint64_t count = std::min(kSearchBytes, size - at);
    MS_ASSIGN_OR_RETURN(const std::string_view bytes, window.View(at, count, size));
    for (size_t i = bytes.find("MS"); i != std::string_view::npos && i + kBatchHeaderBytes <= bytes.size();
         i = bytes.find("MS", i + 1)) {
      const std::optional<BatchHeader> header = DecodeBatchHeader(bytes.substr(i, kBatchHeaderBytes), salt);
      if (header.has_value() && header->first >= expected && (header->boot == boot || header->synced > expected)) {
        return true;
      }
    }
    at += count - (kBatchHeaderBytes - 1);
  }
  return false;
}

// Whether broken bytes at `item` can be no torn tail.
Result<bool> IsCorruption(const env::ReadableFile& file, uint64_t size, uint64_t salt, const SegmentScanner::Item& item,
                          Offset expected, uint64_t last_boot, uint64_t boot) {
  if (last_boot == boot) return true;
  if (item.has_header && item.header.boot == boot) return true;
  return IsProvenByLaterBatch(file, size, salt, item.position + 1, expected, boot);
}

bool IsUnfinishedRewriting(std::string_view name) {
  if (!name.ends_with(kUnfinishedSuffix)) return false;
  name.remove_suffix(kUnfinishedSuffix.size());
  return ParseRewrittenSegmentName(name).has_value();
}

// Sorts the segments, and takes out those that a rewritten one stands for: a crash came before they were removed.
void DropReplaced(std::vector<Segment>* segments, std::vector<std::string>* leftovers) {
  std::ranges::sort(*segments, [](const Segment& left, const Segment& right) {
    return std::pair(left.first, right.generation) < std::pair(right.first, left.generation);
  });
  std::vector<Segment> kept;
  const Segment* standing = nullptr;  // the newest rewritten one whose range has been entered
  Segment newest;
  for (Segment& segment : *segments) {
    if (standing != nullptr && segment.first < standing->rewritten_end && segment.generation < standing->generation) {
      leftovers->push_back(segment.path);
      continue;
    }
    if (segment.generation > 0) {
      newest = segment;
      standing = &newest;
    }
    kept.push_back(std::move(segment));
  }
  *segments = std::move(kept);
}

// Walks through the last segment, and opens it where its intact batches end.
Status RecoverLast(env::FileSystem& files, const SegmentHeader& header, uint64_t boot, Recovered* recovered) {
  Segment& segment = recovered->segments.back();
  MS_ASSIGN_OR_RETURN(const std::unique_ptr<env::ReadableFile> file, files.OpenForRead(segment.path));
  const uint64_t size = segment.bytes;
  SegmentScanner scanner(file.get(), segment.salt, kSegmentHeaderBytes, segment.first);
  recovered->last_boot = header.boot;
  uint64_t end = size;
  while (true) {
    auto next = scanner.Next(size);
    if (!next.ok()) return std::move(next).status().WithContext(segment.path);
    const SegmentScanner::Item& item = *next;
    if (item.what == SegmentScanner::What::kEnd) break;
    if (item.what == SegmentScanner::What::kBatch) {
      recovered->last_boot = item.header.boot;
      recovered->clean = item.header.kind == BatchKind::kMark && item.header.synced == item.header.first;
      segment.NoteBatch(item.header.first, item.position);
      continue;
    }
    if (item.what == SegmentScanner::What::kBad) {
      MS_ASSIGN_OR_RETURN(const bool is_corruption, IsCorruption(*file, size, segment.salt, item, scanner.expected(),
                                                                 recovered->last_boot, boot));
      if (is_corruption) {
        return DataLoss("{} is corrupt at byte {} (record {}): {}", segment.path, item.position,
                        scanner.expected().value(), item.reason);
      }
    }
    recovered->clean = false;
    end = item.position;
    RecoveryReport& report = recovered->report;
    report.tail_was_cut = true;
    report.file = segment.path;
    report.position = item.position;
    report.bytes_cut = size - item.position;
    report.reason = item.reason;
    break;
  }
  recovered->end = scanner.expected();
  MS_ASSIGN_OR_RETURN(recovered->active, files.OpenForWrite(segment.path, env::OpenMode::kAppend));
  if (end < size) MS_RETURN_IF_ERROR(recovered->active->Truncate(end));
  if (end != SectorEnd(end)) MS_RETURN_IF_ERROR(recovered->active->Truncate(SectorEnd(end)));
  segment.bytes = recovered->active->size();
  // What a killed process had written is perhaps not on the disk yet, and from now on counts as being there.
  return recovered->active->Sync();
}

}  // namespace

Result<NewSegment> MakeSegment(env::FileSystem& files, env::Random& random, const std::string& folder, Offset first,
                               uint64_t boot, bool* sync_failed) {
  *sync_failed = false;
  NewSegment made;
  made.segment.first = first;
  made.segment.path = env::JoinPath(folder, SegmentName(first));
  made.segment.salt = random.Next64();
  made.segment.bytes = kSectorBytes;
  MS_ASSIGN_OR_RETURN(const bool exists, files.Exists(made.segment.path));
  if (exists) {
    MS_ASSIGN_OR_RETURN(const uint64_t bytes, files.FileSize(made.segment.path));
    if (bytes > kSectorBytes) return Internal("{} is in the way of a new segment", made.segment.path);
  }
  MS_ASSIGN_OR_RETURN(made.file, files.OpenForWrite(made.segment.path, env::OpenMode::kTruncate));
  const auto header = EncodeSegmentHeader({first, boot, made.segment.salt});
  MS_RETURN_IF_ERROR(made.file->Append({header.data(), header.size()}));
  MS_RETURN_IF_ERROR(made.file->Truncate(kSectorBytes));
  Status synced = made.file->Sync();
  if (synced.ok()) synced = files.SyncFolder(folder);
  if (!synced.ok()) {
    *sync_failed = true;
    // What is in memory now looks whole, and perhaps is not on the disk: nobody shall take it for a segment.
    (void)files.Remove(made.segment.path);
    return synced;
  }
  return made;
}

Result<Recovered> Recover(env::FileSystem& files, env::Random& random, const std::string& folder, uint64_t boot) {
  Recovered recovered;
  std::vector<Segment>& segments = recovered.segments;
  MS_ASSIGN_OR_RETURN(const std::vector<env::FolderEntry> entries, files.List(folder));
  std::vector<std::string> leftovers;
  for (const env::FolderEntry& entry : entries) {
    if (entry.is_folder) continue;
    const std::string path = env::JoinPath(folder, entry.name);
    if (IsUnfinishedRewriting(entry.name)) leftovers.push_back(path);
    Segment segment;
    if (const std::optional<Offset> first = ParseSegmentName(entry.name); first.has_value()) {
      segment.first = *first;
    } else if (const auto rewritten = ParseRewrittenSegmentName(entry.name); rewritten.has_value()) {
      segment.first = rewritten->first;
      segment.rewritten_end = rewritten->end;
      segment.generation = rewritten->generation;
    } else {
      continue;
    }
    segment.path = path;
    segments.push_back(std::move(segment));
  }
  DropReplaced(&segments, &leftovers);
  for (const std::string& path : leftovers) MS_RETURN_IF_ERROR(files.Remove(path));
  for (Segment& segment : segments) {
    MS_ASSIGN_OR_RETURN(segment.bytes, files.FileSize(segment.path));
  }
  if (!segments.empty() && segments.back().generation > 0) {
    return DataLoss("{} is not the log's last segment: the one behind it is missing", segments.back().path);
  }
  SegmentHeader last_header;
  bool remake_last = segments.empty();
  for (Segment& segment : segments) {
    MS_ASSIGN_OR_RETURN(const std::unique_ptr<env::ReadableFile> file, files.OpenForRead(segment.path));
    MS_ASSIGN_OR_RETURN(const std::optional<SegmentHeader> header, ReadSegmentHeader(*file));
    const bool is_last = &segment == &segments.back();
    if (!header.has_value()) {
      // Records go into a segment only after its header is on the disk, so this one never held any.
      remake_last = is_last && segment.bytes <= kSectorBytes;
      if (!remake_last) return BadSegmentHeader(segment.path);
      recovered.report = {.segments = 0,
                          .tail_was_cut = true,
                          .file = segment.path,
                          .position = 0,
                          .bytes_cut = segment.bytes,
                          .reason = "the segment was not finished when it was made"};
      break;
    }
    if (header->first != segment.first) {
      return DataLoss("{} is corrupt at byte 8: its first record is {} by its header", segment.path,
                      header->first.value());
    }
    segment.salt = header->salt;
    last_header = *header;
  }
  if (remake_last) {
    const Offset first = segments.empty() ? Offset(0) : segments.back().first;
    if (!segments.empty()) segments.pop_back();
    bool sync_failed = false;
    MS_ASSIGN_OR_RETURN(NewSegment made, MakeSegment(files, random, folder, first, boot, &sync_failed));
    segments.push_back(std::move(made.segment));
    recovered.active = std::move(made.file);
    recovered.end = first;
    recovered.last_boot = boot;
  } else {
    MS_RETURN_IF_ERROR(RecoverLast(files, last_header, boot, &recovered));
    // The name of the last segment itself, too, is perhaps not on the disk yet.
    MS_RETURN_IF_ERROR(files.SyncFolder(folder));
  }
  recovered.report.segments = segments.size();
  return recovered;
}

}  // namespace millstream::log

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

Status WrongFirst(const std::string& path, const SegmentHeader& header) {
  return DataLoss("{} is corrupt at byte 8: its first record is {} by its header", path, header.first.value());
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

// Where the intact batches of a segment end, and what stands behind them.
struct Tail {
  uint64_t end = 0;  // a position
  Offset end_offset;
  uint64_t last_boot = 0;
  bool clean = false;
  bool is_torn = false;
  std::string reason;  // of a torn one
};

// Walks through a segment that may end in a torn tail; kDataLoss for a corrupt one.
Result<Tail> ScanTail(env::FileSystem& files, const SegmentHeader& header, uint64_t boot, const std::string& path,
                      Segment* segment) {
  MS_ASSIGN_OR_RETURN(const std::unique_ptr<env::ReadableFile> file, files.OpenForRead(path));
  const uint64_t size = segment->bytes;
  SegmentScanner scanner(file.get(), segment->salt, kSegmentHeaderBytes, segment->first);
  Tail tail;
  tail.last_boot = header.boot;
  tail.end = size;
  while (true) {
    auto next = scanner.Next(size);
    if (!next.ok()) return std::move(next).status().WithContext(path);
    const SegmentScanner::Item& item = *next;
    if (item.what == SegmentScanner::What::kEnd) break;
    if (item.what == SegmentScanner::What::kBatch) {
      tail.last_boot = item.header.boot;
      tail.clean = item.header.kind == BatchKind::kMark && item.header.synced == item.header.first;
      segment->NoteBatch(item.header.first, item.position);
      continue;
    }
    if (item.what == SegmentScanner::What::kBad) {
      MS_ASSIGN_OR_RETURN(const bool is_corruption,
                          IsCorruption(*file, size, segment->salt, item, scanner.expected(), tail.last_boot, boot));
      if (is_corruption) {
        return DataLoss("{} is corrupt at byte {} (record {}): {}", path, item.position, scanner.expected().value(),
                        item.reason);
      }
    }
    tail.clean = false;
    tail.is_torn = true;
    tail.end = item.position;
    tail.reason = item.reason;
    break;
  }
  tail.end_offset = scanner.expected();
  return tail;
}

void Report(const std::string& path, const Segment& segment, const Tail& tail, RecoveryReport* report) {
  if (!tail.is_torn) return;
  if (report->tail_was_cut) {
    report->bytes_cut += segment.bytes - tail.end;
    report->reason += fmt::format("; {} at byte {}: {}", path, tail.end, tail.reason);
    return;
  }
  *report = {.segments = 0,
             .tail_was_cut = true,
             .file = path,
             .position = tail.end,
             .bytes_cut = segment.bytes - tail.end,
             .reason = tail.reason};
}

// Cuts a segment where its intact batches end, and brings it to the disk: what a killed process had written is perhaps
// not there yet, and from now on counts as being there.
Result<std::unique_ptr<env::WritableFile>> CutTail(env::FileSystem& files, const std::string& path, const Tail& tail,
                                                   Segment* segment) {
  MS_ASSIGN_OR_RETURN(std::unique_ptr<env::WritableFile> file, files.OpenForWrite(path, env::OpenMode::kAppend));
  if (tail.end < segment->bytes) MS_RETURN_IF_ERROR(file->Truncate(tail.end));
  if (tail.end != SectorEnd(tail.end)) MS_RETURN_IF_ERROR(file->Truncate(SectorEnd(tail.end)));
  segment->bytes = file->size();
  MS_RETURN_IF_ERROR(file->Sync());
  return file;
}

// A segment that had not got its name when the log was last used.
struct Next {
  Segment segment;  // `path` is the name to be
  std::optional<SegmentHeader> header;
  bool continues = false;  // the last segment; else it goes
  Tail tail;               // when it continues
};

// Finds out whether `next` continues `last`, or was written by a machine that has restarted since, so that what was
// before it may be lost; kDataLoss when neither can be.
Status LookAtNext(env::FileSystem& files, uint64_t boot, const Segment& last, const Tail& tail, Next* next) {
  Segment& segment = next->segment;
  const std::string& path = segment.next_path;
  MS_ASSIGN_OR_RETURN(segment.bytes, files.FileSize(path));
  MS_ASSIGN_OR_RETURN(const std::unique_ptr<env::ReadableFile> file, files.OpenForRead(path));
  MS_ASSIGN_OR_RETURN(next->header, ReadSegmentHeader(*file));
  if (!next->header.has_value()) {
    // A killed process had not come to its first record.
    return segment.bytes > kSectorBytes && tail.last_boot == boot ? BadSegmentHeader(path) : Status::Ok();
  }
  if (next->header->first != segment.first) return WrongFirst(path, *next->header);
  segment.salt = next->header->salt;
  next->continues = segment.first == tail.end_offset;
  if (next->continues) {
    MS_ASSIGN_OR_RETURN(next->tail, ScanTail(files, *next->header, boot, path, &segment));
    return Status::Ok();
  }
  bool is_corruption = next->header->boot == boot;
  if (!is_corruption) {
    MS_ASSIGN_OR_RETURN(is_corruption, IsProvenByLaterBatch(*file, segment.bytes, segment.salt, kSegmentHeaderBytes,
                                                            tail.end_offset, boot));
  }
  if (!is_corruption) return Status::Ok();
  if (segment.first < tail.end_offset) {
    return DataLoss("{} begins with record {}, which {} has, too", path, segment.first.value(), last.path);
  }
  return DataLoss("{} is corrupt at byte {}: it ends before record {}, and the next segment begins with {}", last.path,
                  tail.end, tail.end_offset.value(), segment.first.value());
}

// Opens the log where its intact batches end: in the last segment, or in the next one if that continues it.
Status RecoverEnd(env::FileSystem& files, const std::string& folder, const SegmentHeader& last_header, uint64_t boot,
                  std::optional<Next> next, Recovered* recovered) {
  Segment& last = recovered->segments.back();
  RecoveryReport& report = recovered->report;
  MS_ASSIGN_OR_RETURN(Tail tail, ScanTail(files, last_header, boot, last.path, &last));
  // All is judged before anything is changed.
  if (next.has_value()) MS_RETURN_IF_ERROR(LookAtNext(files, boot, last, tail, &*next));
  Report(last.path, last, tail, &report);
  MS_ASSIGN_OR_RETURN(recovered->active, CutTail(files, last.path, tail, &last));
  if (next.has_value()) {
    Segment& segment = next->segment;
    if (next->continues) {
      Report(segment.path, segment, next->tail, &report);
      MS_ASSIGN_OR_RETURN(recovered->active, CutTail(files, segment.next_path, next->tail, &segment));
      MS_RETURN_IF_ERROR(files.Rename(segment.next_path, segment.path));
      segment.next_path.clear();
      tail = std::move(next->tail);
      recovered->segments.push_back(std::move(segment));
    } else {
      if (!report.tail_was_cut) report.file = segment.next_path;
      report.tail_was_cut = true;
      report.bytes_cut += segment.bytes;
      report.reason += fmt::format("{}{} {}", report.reason.empty() ? "" : "; ", segment.next_path,
                                   next->header.has_value() ? "does not continue the segment before it any more"
                                                            : "was not finished when it was made");
      MS_RETURN_IF_ERROR(files.Remove(segment.next_path));
    }
  }
  recovered->end = tail.end_offset;
  recovered->last_boot = tail.last_boot;
  recovered->clean = tail.clean;
  // The name of the last segment itself, too, is perhaps not on the disk yet; and a next one that has gone must not
  // come back.
  return files.SyncFolder(folder);
}

// Opens `path`, anew, with the header of a segment that holds no record.
Status WriteHeader(env::FileSystem& files, env::Random& random, uint64_t boot, const std::string& path,
                   NewSegment* made) {
  made->segment.salt = random.Next64();
  made->segment.bytes = kSectorBytes;
  MS_ASSIGN_OR_RETURN(const bool exists, files.Exists(made->segment.path));
  if (exists) {
    MS_ASSIGN_OR_RETURN(const uint64_t bytes, files.FileSize(made->segment.path));
    if (bytes > kSectorBytes) return Internal("{} is in the way of a new segment", made->segment.path);
  }
  MS_ASSIGN_OR_RETURN(made->file, files.OpenForWrite(path, env::OpenMode::kTruncate));
  const auto header = EncodeSegmentHeader({made->segment.first, boot, made->segment.salt});
  MS_RETURN_IF_ERROR(made->file->Append({header.data(), header.size()}));
  return made->file->Truncate(kSectorBytes);
}

}  // namespace

Result<NewSegment> MakeSegment(env::FileSystem& files, env::Random& random, const std::string& folder, Offset first,
                               uint64_t boot, bool* sync_failed) {
  *sync_failed = false;
  NewSegment made;
  made.segment.first = first;
  made.segment.path = env::JoinPath(folder, SegmentName(first));
  MS_RETURN_IF_ERROR(WriteHeader(files, random, boot, made.segment.path, &made));
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

Result<NewSegment> MakeNextSegment(env::FileSystem& files, env::Random& random, const std::string& folder, Offset first,
                                   uint64_t boot) {
  NewSegment made;
  made.segment.first = first;
  made.segment.path = env::JoinPath(folder, SegmentName(first));
  made.segment.next_path = env::JoinPath(folder, NextSegmentName(first));
  if (Status status = WriteHeader(files, random, boot, made.segment.next_path, &made); !status.ok()) {
    (void)files.Remove(made.segment.next_path);
    return status;
  }
  return made;
}

Result<Recovered> Recover(env::FileSystem& files, env::Random& random, const std::string& folder, uint64_t boot) {
  Recovered recovered;
  std::vector<Segment>& segments = recovered.segments;
  MS_ASSIGN_OR_RETURN(const std::vector<env::FolderEntry> entries, files.List(folder));
  std::vector<std::string> leftovers;
  std::optional<Next> next;
  for (const env::FolderEntry& entry : entries) {
    if (entry.is_folder) continue;
    const std::string path = env::JoinPath(folder, entry.name);
    if (IsUnfinishedRewriting(entry.name)) leftovers.push_back(path);
    if (const std::optional<Offset> first = ParseNextSegmentName(entry.name); first.has_value()) {
      if (next.has_value())
        return DataLoss("{} and {}: at most one of them can be there", next->segment.next_path, path);
      next.emplace();
      next->segment.first = *first;
      next->segment.path = env::JoinPath(folder, SegmentName(*first));
      next->segment.next_path = path;
      continue;
    }
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
  if (segments.empty() && next.has_value()) {
    return DataLoss("{} continues a segment that is missing", next->segment.next_path);
  }
  SegmentHeader last_header;
  bool remake_last = segments.empty();
  for (Segment& segment : segments) {
    MS_ASSIGN_OR_RETURN(const std::unique_ptr<env::ReadableFile> file, files.OpenForRead(segment.path));
    MS_ASSIGN_OR_RETURN(const std::optional<SegmentHeader> header, ReadSegmentHeader(*file));
    const bool is_last = &segment == &segments.back();
    if (!header.has_value()) {
      // Records go into a segment only after its header is on the disk, so this one never held any.
      remake_last = is_last && segment.bytes <= kSectorBytes && !next.has_value();
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
      return WrongFirst(segment.path, *header);
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
    MS_RETURN_IF_ERROR(RecoverEnd(files, folder, last_header, boot, std::move(next), &recovered));
  }
  recovered.report.segments = segments.size();
  return recovered;
}

}  // namespace millstream::log

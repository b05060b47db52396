// LocalLog::Rewrite: a new segment in the place of closed ones.
//
// The new one is written under a name that opening takes for unfinished, synced, and renamed; once its name is on the
// disk the log reads from it, and the old ones go. Until they are gone its name says which ones it stands for.
#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "millstream/base/check.h"
#include "millstream/codec/crc32c.h"
#include "millstream/env/file_util.h"
#include "millstream/log/local_log.h"
#include "recovery.h"

namespace millstream::log {
namespace {

constexpr uint64_t kBodyBytes = 256 << 10;
// So many places without records cost less as empty records than as a batch of their own.
constexpr uint64_t kEmptyRecordsMax = kBatchHeaderBytes / kRecordLengthBytes;

}  // namespace

// The segment that is being written.
class Replacement {
 public:
  Replacement(Segment* segment, env::WritableFile* file, uint64_t boot, Offset synced)
      : segment_(segment), file_(file), boot_(boot), synced_(synced), next_(segment->first) {}

  Status Begin() {
    const auto header = EncodeSegmentHeader({segment_->first, boot_, segment_->salt});
    MS_RETURN_IF_ERROR(file_->Append({header.data(), header.size()}));
    return file_->Truncate(kSectorBytes);
  }

  Status Keep(Offset offset, std::string_view payload) {
    MS_CHECK(offset >= next_);
    const uint64_t gone = offset - next_;
    if (count_ > 0 && gone <= kEmptyRecordsMax) {
      for (uint64_t i = 0; i < gone; ++i) AppendRecordLength(&body_, 0);
      count_ += static_cast<uint32_t>(gone);
    } else if (gone > 0) {
      MS_RETURN_IF_ERROR(Flush());
      MS_RETURN_IF_ERROR(WriteGap(gone));
    }
    AppendRecordLength(&body_, static_cast<uint32_t>(payload.size()));
    body_ += payload;
    ++count_;
    next_ = offset + 1;
    return body_.size() >= kBodyBytes ? Flush() : Status::Ok();
  }

  Status Finish(Offset end) {
    MS_RETURN_IF_ERROR(Flush());
    if (end > next_) MS_RETURN_IF_ERROR(WriteGap(end - next_));
    segment_->bytes = file_->size();
    return file_->Sync();
  }

 private:
  Status Flush() {
    if (count_ == 0) return Status::Ok();
    const Status written = WriteBatch(BatchKind::kRecords, count_, body_);
    count_ = 0;
    body_.clear();
    return written;
  }

  Status WriteGap(uint64_t count) {
    while (count > 0) {
      const auto part = static_cast<uint32_t>(std::min<uint64_t>(count, UINT32_MAX));
      MS_RETURN_IF_ERROR(WriteBatch(BatchKind::kGap, part, ""));
      count -= part;
    }
    return Status::Ok();
  }

  Status WriteBatch(BatchKind kind, uint32_t count, std::string_view body) {
    BatchHeader header;
    header.kind = kind;
    header.body_bytes = static_cast<uint32_t>(body.size());
    header.count = count;
    header.first = written_;
    header.synced = synced_;
    header.boot = boot_;
    header.body_crc = codec::Crc32c(body);
    const auto bytes = EncodeBatchHeader(header, segment_->salt);
    const std::array<std::string_view, 2> parts{std::string_view(bytes.data(), bytes.size()), body};
    segment_->NoteBatch(written_, file_->size());
    written_ += count;
    return file_->Append(parts);
  }

  Segment* segment_;
  env::WritableFile* file_;
  const uint64_t boot_;
  const Offset synced_;
  std::string body_;
  uint32_t count_ = 0;               // of records in body_
  Offset next_;                      // behind the last record that is kept
  Offset written_{segment_->first};  // of the next batch
};

std::vector<SegmentSpan> LocalLog::Spans() const {
  std::vector<SegmentSpan> spans;
  const MutexLock lock(mutex_);
  spans.reserve(segments_.size());
  for (size_t i = 0; i < segments_.size(); ++i) {
    const bool is_last = i + 1 == segments_.size();
    const Offset end = is_last ? end_ : segments_[i + 1].first;
    spans.push_back({.first = segments_[i].first,
                     .end = end,
                     .bytes = is_last ? active_bytes_ : segments_[i].bytes,
                     .is_closed = !is_last && end <= ClosedEnd()});
  }
  return spans;
}

std::span<Segment> LocalLog::FindClosed(Offset first, Offset end) {
  if (end > ClosedEnd()) return {};
  const auto begin = std::ranges::lower_bound(segments_, first, {}, &Segment::first);
  const auto behind = std::ranges::lower_bound(segments_, end, {}, &Segment::first);
  if (begin == segments_.end() || begin->first != first || behind == segments_.end() || behind->first != end) return {};
  return {begin, behind};
}

Result<RewriteReport> LocalLog::Rewrite(Offset first, Offset end, const RecordEditor& edit) {
  std::vector<Segment> old;
  {
    const MutexLock lock(mutex_);
    if (closed_) return Aborted("log {} is closed", folder_);
    if (!failure_.ok()) return failure_;
    if (rewriting_) return FailedPrecondition("log {} is being rewritten already", folder_);
    const std::span<Segment> found = FindClosed(first, end);
    if (found.empty())
      return NotFound("log {} has no closed segments from {} to {}", folder_, first.value(), end.value());
    old.assign(found.begin(), found.end());
    rewriting_ = true;
  }
  RewriteReport report;
  auto made = WriteReplacement(old, end, edit, &report);
  const Status status = made.ok() ? Replace(old, end, std::move(made->segment)) : made.status();
  const MutexLock lock(mutex_);
  rewriting_ = false;
  progress_.NotifyAll();
  if (!status.ok()) return status;
  return report;
}

Result<NewSegment> LocalLog::WriteReplacement(const std::vector<Segment>& old, Offset end, const RecordEditor& edit,
                                              RewriteReport* report) {
  NewSegment made;
  Segment& segment = made.segment;
  segment.first = old.front().first;
  segment.rewritten_end = end;
  segment.salt = env_.random->Next64();
  for (const Segment& one : old) {
    segment.generation = std::max(segment.generation, one.generation + 1);
    report->bytes_before += one.bytes;
  }
  segment.path = env::JoinPath(
      folder_, RewrittenSegmentName({.first = segment.first, .end = end, .generation = segment.generation}));
  const std::string unfinished = segment.path + std::string(kUnfinishedSuffix);
  const auto write = [&]() -> Status {
    MS_ASSIGN_OR_RETURN(made.file, env_.files->OpenForWrite(unfinished, env::OpenMode::kTruncate));
    Replacement replacement(&segment, made.file.get(), boot_, end);
    MS_RETURN_IF_ERROR(replacement.Begin());
    for (size_t i = 0; i < old.size(); ++i) {
      const Offset old_end = i + 1 < old.size() ? old[i + 1].first : end;
      MS_RETURN_IF_ERROR(CopyRecords(old[i], old_end, edit, &replacement, report));
    }
    return replacement.Finish(end);
  };
  if (Status written = write(); !written.ok()) {
    made.file = nullptr;
    (void)env_.files->Remove(unfinished);
    return written;
  }
  report->bytes_after = segment.bytes;
  return made;
}

Status LocalLog::CopyRecords(const Segment& from, Offset end, const RecordEditor& edit, Replacement* to,
                             RewriteReport* report) {
  MS_ASSIGN_OR_RETURN(const auto file, env_.files->OpenForRead(from.path));
  SegmentScanner scanner(file.get(), from.salt, kSegmentHeaderBytes, from.first);
  while (true) {
    {
      const MutexLock lock(mutex_);
      if (closed_) return Aborted("log {} is closed", folder_);
    }
    auto item = scanner.Next(from.bytes);
    if (!item.ok()) return std::move(item).status().WithContext(from.path);
    if (item->what == SegmentScanner::What::kEnd) break;
    if (item->what != SegmentScanner::What::kBatch) {
      return DataLoss("{} is corrupt at byte {} (record {}): {}", from.path, item->position, scanner.expected().value(),
                      item->reason);
    }
    if (item->header.kind != BatchKind::kRecords) continue;
    std::string_view body = item->body;
    for (uint32_t i = 0; i < item->header.count; ++i) {
      const storage::LogRecord record{item->header.first + i, TakeRecord(&body)};
      if (record.payload.empty()) continue;
      MS_ASSIGN_OR_RETURN(const std::optional<std::string_view> kept, edit(record));
      if (kept.has_value()) {
        MS_RETURN_IF_ERROR(to->Keep(record.offset, *kept));
      } else {
        ++report->records_removed;
      }
    }
  }
  if (scanner.expected() == end) return Status::Ok();
  return DataLoss("{} is corrupt at byte {}: it ends before record {}, and the next segment begins with {}", from.path,
                  from.bytes, scanner.expected().value(), end.value());
}

Status LocalLog::Replace(const std::vector<Segment>& old, Offset end, Segment made) {
  const std::string unfinished = made.path + std::string(kUnfinishedSuffix);
  Status status;
  {
    const MutexLock lock(mutex_);
    while (replacing_) progress_.Wait(mutex_);
    status = closed_ ? Aborted("log {} is closed", folder_) : failure_;
    const std::span<Segment> now = FindClosed(made.first, end);
    if (status.ok() && !std::ranges::equal(now, old, {}, &Segment::salt, &Segment::salt)) {
      status = NotFound("log {}: what was rewritten has been removed meanwhile", folder_);
    }
    replacing_ = status.ok();
  }
  if (!status.ok()) {
    (void)env_.files->Remove(unfinished);
    return status;
  }
  status = env_.files->Rename(unfinished, made.path);
  const bool renamed = status.ok();
  if (renamed) {
    status = env_.files->SyncFolder(folder_);
  } else {
    (void)env_.files->Remove(unfinished);
  }
  if (status.ok()) {
    const MutexLock lock(mutex_);
    const std::span<Segment> now = FindClosed(made.first, end);
    const auto begin = segments_.begin() + (now.data() - segments_.data());
    *begin = std::move(made);
    segments_.erase(begin + 1, begin + static_cast<std::ptrdiff_t>(old.size()));
  }
  // Nothing else may happen to the folder's names before these are gone for good: then no crash brings them back.
  if (status.ok()) {
    for (const Segment& one : old) {
      if (!status.ok()) break;
      status = env_.files->Remove(one.path);
      if (status.code() == StatusCode::kNotFound) status = Status::Ok();
    }
    if (status.ok()) status = env_.files->SyncFolder(folder_);
  }
  const MutexLock lock(mutex_);
  replacing_ = false;
  // What stands on the disk now is sorted out when the log is opened anew.
  if (!status.ok() && renamed) Fail(status);
  progress_.NotifyAll();
  return status;
}

}  // namespace millstream::log

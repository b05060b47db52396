#include "millstream/log/local_log.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "millstream/base/check.h"
#include "millstream/base/hash.h"
#include "millstream/codec/crc32c.h"
#include "millstream/log/roll_queue.h"
#include "recovery.h"

namespace millstream::log {

using storage::Durability;
using storage::LogRecord;

namespace {

Status CheckOptions(const LocalLogOptions& options) {
  if (options.segment_bytes < kSegmentBytesMin || options.segment_bytes > kSegmentBytesMax) {
    return InvalidArgument("segment_bytes is {}; it must be from {} to {}", options.segment_bytes, kSegmentBytesMin,
                           kSegmentBytesMax);
  }
  if (options.background_sync_bytes == 0) return InvalidArgument("background_sync_bytes must be positive");
  return Status::Ok();
}

// Nothing is known of boots where the system does not name them: then all count as the same.
uint64_t BootNumber(env::FileSystem& files) {
  const std::string id = files.BootId();
  return id.empty() ? 0 : Hash64(id);
}

Status CheckAppend(uint64_t records, uint64_t body_bytes) {
  if (records == 0) return InvalidArgument("an append needs at least one record");
  if (records > storage::kLogRecordsPerAppendMax) {
    return ResourceExhausted("{} records in one append; at most {} are taken", records,
                             storage::kLogRecordsPerAppendMax);
  }
  if (body_bytes > storage::kLogAppendBytesMax) {
    return ResourceExhausted("an append of {} bytes; at most {} are taken", body_bytes, storage::kLogAppendBytesMax);
  }
  return Status::Ok();
}

// The size of an append's body, or what limit it exceeds.
Result<uint64_t> BodyBytes(std::span<const std::string_view> payloads) {
  uint64_t bytes = 0;
  for (const std::string_view payload : payloads) {
    if (payload.size() > storage::kLogRecordBytesMax) {
      return ResourceExhausted("a record of {} bytes; at most {} are taken", payload.size(),
                               storage::kLogRecordBytesMax);
    }
    bytes += kRecordLengthBytes + payload.size();
  }
  MS_RETURN_IF_ERROR(CheckAppend(payloads.size(), bytes));
  return bytes;
}

}  // namespace

Result<std::unique_ptr<LocalLog>> LocalLog::Open(const env::Env& env, const std::string& folder,
                                                 const LocalLogOptions& options) {
  MS_RETURN_IF_ERROR(CheckOptions(options));
  const uint64_t boot = BootNumber(*env.files);
  MS_ASSIGN_OR_RETURN(Recovered recovered, Recover(*env.files, *env.random, folder, boot));
  std::unique_ptr<LocalLog> log(new LocalLog(env, folder, options, boot, std::move(recovered)));
  MS_RETURN_IF_ERROR(log->StartThread());
  return log;
}

LocalLog::LocalLog(const env::Env& env, std::string folder, const LocalLogOptions& options, uint64_t boot,
                   Recovered recovered)
    : env_(env),
      folder_(std::move(folder)),
      options_(options),
      boot_(boot),
      recovery_(std::move(recovered.report)),
      mark_due_(recovered.last_boot != boot),
      clean_(recovered.clean),
      segments_(std::move(recovered.segments)),
      active_(std::move(recovered.active)),
      active_bytes_(segments_.back().bytes),
      synced_bytes_(active_bytes_),
      end_(recovered.end),
      synced_(recovered.end),
      sync_wanted_(recovered.end) {}

Status LocalLog::StartThread() {
  if (!options_.sync_thread) return Status::Ok();
  MS_ASSIGN_OR_RETURN(thread_, env_.executor->Start({.name = options_.thread_name, .cpu = {}}, [this] { SyncLoop(); }));
  return Status::Ok();
}

LocalLog::~LocalLog() {
  (void)Close();
}

// --- appending ---

BatchHeader LocalLog::MakeHeader(BatchKind kind, Offset first, Offset synced) const {
  BatchHeader header;
  header.kind = kind;
  header.first = first;
  header.synced = synced;
  header.boot = boot_;
  return header;
}

Result<Offset> LocalLog::Append(std::span<const std::string_view> payloads) {
  MS_ASSIGN_OR_RETURN(const uint64_t bytes, BodyBytes(payloads));
  return AppendBody({.payloads = payloads, .framed = {}, .count = payloads.size(), .bytes = bytes});
}

Result<Offset> LocalLog::AppendFramed(std::span<const std::string_view> pieces, uint64_t count) {
  uint64_t bytes = 0;
  for (const std::string_view piece : pieces) bytes += piece.size();
  MS_RETURN_IF_ERROR(CheckAppend(count, bytes));
  return AppendBody({.payloads = {}, .framed = pieces, .count = count, .bytes = bytes});
}

Result<Offset> LocalLog::AppendBody(const Body& body) {
  {
    const MutexLock lock(mutex_);
    if (closed_) return FailedPrecondition("log {} is closed", folder_);
    if (!failure_.ok()) return failure_;
    // A mark and the batch.
    const uint64_t frame_bytes = 2 * kBatchHeaderBytes + body.bytes;
    roll_due_ |= active_bytes_ + frame_bytes > options_.segment_bytes && end_ > segments_.back().first;
  }
  if (roll_due_) MS_RETURN_IF_ERROR(ExplainNoRoom(Roll()));
  auto first = WriteBatch(body);
  if (!first.ok()) return ExplainNoRoom(std::move(first).status());
  return first;
}

Status LocalLog::ExplainNoRoom(Status status) const {
  if (status.code() != StatusCode::kResourceExhausted) return status;
  return status.WithContext(fmt::format("log {} has no room; it goes on once there is some", folder_));
}

Status LocalLog::TakeWriting() {
  // The sync thread, which needs the file for an instant, goes first: else it might wait for ever.
  while (writing_ || seal_wanted_) progress_.Wait(mutex_);
  if (!failure_.ok()) return failure_;
  writing_ = true;
  return Status::Ok();
}

Result<Offset> LocalLog::WriteBatch(const Body& body) {
  BatchHeader header;
  std::shared_ptr<env::WritableFile> file;
  uint64_t position = 0;
  uint64_t salt = 0;
  {
    const MutexLock lock(mutex_);
    MS_RETURN_IF_ERROR(TakeWriting());
    header = MakeHeader(BatchKind::kRecords, end_, synced_);
    header.body_bytes = static_cast<uint32_t>(body.bytes);
    header.count = static_cast<uint32_t>(body.count);
    file = active_;
    position = active_bytes_;
    salt = segments_.back().salt;
  }
  Status status = CutUnfinished(*file, position);
  if (status.ok()) {
    BuildFrame(body, mark_due_, header, salt);
    status = file->Append(parts_);
    if (!status.ok()) {
      unfinished_ = true;
      // What was written in part goes at once, if it can; else before anything else is written.
      (void)CutUnfinished(*file, position);
    }
  }
  const MutexLock lock(mutex_);
  writing_ = false;
  progress_.NotifyAll();
  if (!status.ok()) return status;
  segments_.back().NoteBatch(header.first, position);
  active_bytes_ = file->size();
  end_ += header.count;
  mark_due_ = false;
  clean_ = false;
  stats_.appended_records += header.count;
  stats_.appended_bytes += body.bytes - header.count * kRecordLengthBytes;
  stats_.written_bytes += active_bytes_ - position;
  if (options_.sync_thread && options_.durability == Durability::kProcess &&
      stats_.written_bytes - asked_bytes_ >= options_.background_sync_bytes) {
    asked_bytes_ = stats_.written_bytes;
    sync_wanted_ = end_;
    work_.NotifyOne();
  }
  return header.first;
}

size_t LocalLog::BuildHead(uint64_t bytes, bool with_mark, const BatchHeader& header, uint64_t salt) {
  frame_.clear();
  parts_.clear();
  // Exactly what will be in it: parts_ points into it, so it must not move.
  frame_.reserve((with_mark ? 2 : 1) * kBatchHeaderBytes + bytes);
  if (with_mark) {
    const auto mark = EncodeBatchHeader(MakeHeader(BatchKind::kMark, header.first, header.synced), salt);
    frame_.append(mark.data(), mark.size());
  }
  const size_t header_at = frame_.size();
  frame_.append(kBatchHeaderBytes, '\0');
  return header_at;
}

void LocalLog::BuildFramed(const Body& body, bool with_mark, BatchHeader header, uint64_t salt) {
  const size_t header_at = BuildHead(0, with_mark, header, salt);
  parts_.emplace_back(frame_);
  uint32_t crc = 0;
  for (const std::string_view piece : body.framed) {
    crc = codec::Crc32cExtend(crc, piece);
    parts_.push_back(piece);
  }
  header.body_crc = crc;
  const auto bytes = EncodeBatchHeader(header, salt);
  std::copy(bytes.begin(), bytes.end(), frame_.begin() + static_cast<std::ptrdiff_t>(header_at));
}

void LocalLog::BuildFrame(const Body& body, bool with_mark, BatchHeader header, uint64_t salt) {
  if (!body.framed.empty()) return BuildFramed(body, with_mark, header, salt);
  uint64_t outside_bytes = 0;
  for (const std::string_view payload : body.payloads) {
    if (payload.size() >= kInlinePayloadBytes) outside_bytes += payload.size();
  }
  const size_t header_at = BuildHead(body.bytes - outside_bytes, with_mark, header, salt);
  uint32_t crc = 0;
  size_t part_begin = 0;
  size_t crc_begin = frame_.size();
  for (const std::string_view payload : body.payloads) {
    AppendRecordLength(&frame_, static_cast<uint32_t>(payload.size()));
    if (payload.size() < kInlinePayloadBytes) {
      frame_ += payload;
      continue;
    }
    const std::string_view written(frame_);
    crc = codec::Crc32cExtend(codec::Crc32cExtend(crc, written.substr(crc_begin)), payload);
    parts_.push_back(written.substr(part_begin));
    parts_.push_back(payload);
    part_begin = frame_.size();
    crc_begin = frame_.size();
  }
  MS_CHECK(frame_.size() == header_at + kBatchHeaderBytes + body.bytes - outside_bytes);
  crc = codec::Crc32cExtend(crc, std::string_view(frame_).substr(crc_begin));
  if (part_begin < frame_.size()) parts_.push_back(std::string_view(frame_).substr(part_begin));
  header.body_crc = crc;
  const auto bytes = EncodeBatchHeader(header, salt);
  std::copy(bytes.begin(), bytes.end(), frame_.begin() + static_cast<std::ptrdiff_t>(header_at));
}

Status LocalLog::CutUnfinished(env::WritableFile& file, uint64_t bytes) {
  if (!unfinished_) return Status::Ok();
  MS_RETURN_IF_ERROR(file.Truncate(bytes));
  unfinished_ = false;
  return Status::Ok();
}

Status LocalLog::PadToSector(env::WritableFile& file, uint64_t bytes) {
  MS_RETURN_IF_ERROR(CutUnfinished(file, bytes));
  return bytes == SectorEnd(bytes) ? Status::Ok() : file.Truncate(SectorEnd(bytes));
}

// --- syncing ---

void LocalLog::Fail(Status status) {
  if (!failure_.ok()) return;
  failure_ = Unavailable("log {}: a sync failed, nothing is acknowledged any more: {}", folder_, status.ToString());
  work_.NotifyAll();
}

std::vector<storage::Log::DurableCallback> LocalLog::TakeWaiters(Offset below) {
  std::vector<DurableCallback> taken;
  const auto end = waiters_.lower_bound(below);
  for (auto waiter = waiters_.begin(); waiter != end; ++waiter) taken.push_back(std::move(waiter->second));
  waiters_.erase(waiters_.begin(), end);
  return taken;
}

bool LocalLog::TakeActive(std::shared_ptr<env::WritableFile>* file, uint64_t* bytes, Offset* target) {
  const MutexLock lock(mutex_);
  seal_wanted_ = true;
  while (writing_) progress_.Wait(mutex_);
  seal_wanted_ = false;
  if (rolled_ != nullptr) {
    progress_.NotifyAll();
    return false;
  }
  writing_ = true;
  *file = active_;
  *bytes = active_bytes_;
  *target = end_;
  return true;
}

Status LocalLog::SyncOnce() {
  {
    const MutexLock lock(mutex_);
    while (syncing_) progress_.Wait(mutex_);
    if (!failure_.ok()) return failure_;
    syncing_ = true;
  }
  Status status = SyncActive();
  const MutexLock lock(mutex_);
  syncing_ = false;
  progress_.NotifyAll();
  return status;
}

Status LocalLog::SyncActive() {
  std::shared_ptr<env::WritableFile> file;
  uint64_t bytes = 0;
  Offset target;
  do {
    MS_RETURN_IF_ERROR(FinishRollAlone());
  } while (!TakeActive(&file, &bytes, &target));
  // What is synced now fills its last sector, so that nothing written later can take it along when the power goes.
  Status status = PadToSector(*file, bytes);
  {
    const MutexLock lock(mutex_);
    writing_ = false;
    if (status.ok()) active_bytes_ = bytes = file->size();
    progress_.NotifyAll();
  }
  if (status.ok()) status = file->SyncData();
  std::vector<DurableCallback> done;
  Status answer;
  bool cut = false;
  {
    const MutexLock lock(mutex_);
    ++stats_.syncs;
    if (status.ok()) {
      synced_ = target;
      if (file == active_) synced_bytes_ = bytes;
      done = TakeWaiters(synced_);
    } else {
      Fail(status);
      answer = failure_;
      done = TakeWaiters(end_);
      // Nobody was told that these bytes are durable, and perhaps they are only in memory: they must not be found again
      // when the log is opened anew, as if they were safe.
      cut = options_.durability == Durability::kFsync;
      while (writing_) progress_.Wait(mutex_);
      bytes = synced_bytes_;
    }
    progress_.NotifyAll();
  }
  if (cut) (void)file->Truncate(bytes);
  for (const DurableCallback& callback : done) callback(answer);
  return answer;
}

void LocalLog::SyncLoop() {
  while (true) {
    Status failure;
    std::vector<DurableCallback> waiters;
    bool only_roll = false;
    {
      const MutexLock lock(mutex_);
      while (!stopping_ && (failure_.ok() ? sync_wanted_ <= synced_ && !roll_wanted_ : waiters_.empty())) {
        work_.Wait(mutex_);
      }
      if (stopping_) return;
      failure = failure_;
      if (!failure.ok()) waiters = TakeWaiters(end_);
      only_roll = sync_wanted_ <= synced_;
      roll_wanted_ = false;
    }
    if (failure.ok()) (void)(only_roll ? FinishRoll() : SyncOnce());
    for (const DurableCallback& waiter : waiters) waiter(failure);
  }
}

Status LocalLog::SyncUpTo(Offset target) {
  if (!options_.sync_thread) {
    {
      const MutexLock lock(mutex_);
      if (synced_ >= target) return Status::Ok();
      if (!failure_.ok()) return failure_;
    }
    return SyncOnce();
  }
  const MutexLock lock(mutex_);
  const uint64_t rolls_failed = rolls_failed_;
  while (synced_ < target) {
    if (!failure_.ok()) return failure_;
    if (rolls_failed_ != rolls_failed) return roll_failure_;
    if (stopping_) return FailedPrecondition("log {} is closed", folder_);
    if (sync_wanted_ < target) {
      sync_wanted_ = target;
      work_.NotifyOne();
    }
    progress_.Wait(mutex_);
  }
  return Status::Ok();
}

Status LocalLog::Sync() {
  return SyncUpTo(end());
}

void LocalLog::WhenDurable(Offset offset, DurableCallback done) {
  Status answer;
  bool sync_here = false;
  {
    const MutexLock lock(mutex_);
    if (offset >= end_) {
      answer =
          OutOfRange("log {}: offset {} has not been appended; the end is {}", folder_, offset.value(), end_.value());
    } else if (offset < synced_) {
      answer = Status::Ok();
    } else if (!failure_.ok()) {
      answer = failure_;
    } else if (options_.durability == Durability::kProcess) {
      answer = Status::Ok();
    } else if (!options_.sync_thread) {
      sync_here = true;
    } else {
      if (waiters_.size() < storage::kLogWaitersMax && !stopping_) {
        waiters_.emplace(offset, std::move(done));
        if (sync_wanted_ <= offset) {
          sync_wanted_ = offset + 1;
          work_.NotifyOne();
        }
        return;
      }
      answer = stopping_ ? FailedPrecondition("log {} is closed", folder_)
                         : ResourceExhausted("log {}: {} calls wait for durability already", folder_,
                                             storage::kLogWaitersMax);
    }
  }
  if (sync_here) answer = SyncUpTo(offset + 1);
  done(answer);
}

Status LocalLog::WaitDurable(Offset offset) {
  struct Wait {
    Mutex mutex;
    CondVar changed;
    bool is_done GUARDED_BY(mutex) = false;
    Status status GUARDED_BY(mutex);
  };
  Wait wait;
  WhenDurable(offset, [&wait](const Status& status) {
    const MutexLock lock(wait.mutex);
    wait.is_done = true;
    wait.status = status;
    // Under the lock: once it is free, `wait` may be gone.
    wait.changed.NotifyOne();
  });
  const MutexLock lock(wait.mutex);
  while (!wait.is_done) wait.changed.Wait(wait.mutex);
  return wait.status;
}

Status LocalLog::Close() {
  {
    const MutexLock lock(mutex_);
    if (closed_) return Status::Ok();
    closed_ = true;
    // It sees that, and ends: nothing may happen in the folder any more once the log is closed.
    while (rewriting_) progress_.Wait(mutex_);
  }
  // Nobody else finishes a roll from here on, but the sync thread.
  if (options_.rolls != nullptr) options_.rolls->Remove(this);
  Status status = Sync();
  if (status.ok()) status = FinishRoll();
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    work_.NotifyAll();
    progress_.NotifyAll();
  }
  thread_ = nullptr;
  if (status.ok() && !clean_) status = WriteCleanMark();
  return status;
}

Status LocalLog::WriteCleanMark() {
  std::shared_ptr<env::WritableFile> file;
  std::array<char, kBatchHeaderBytes> mark{};
  uint64_t bytes = 0;
  {
    const MutexLock lock(mutex_);
    mark = EncodeBatchHeader(MakeHeader(BatchKind::kMark, end_, end_), segments_.back().salt);
    file = active_;
    bytes = active_bytes_;
  }
  MS_RETURN_IF_ERROR(CutUnfinished(*file, bytes));
  if (Status status = file->Append({mark.data(), mark.size()}); !status.ok()) {
    unfinished_ = true;
    (void)CutUnfinished(*file, bytes);
    return status;
  }
  MS_RETURN_IF_ERROR(PadToSector(*file, file->size()));
  MS_RETURN_IF_ERROR(file->SyncData());
  clean_ = true;
  return Status::Ok();
}

// --- the rest of the contract ---

Status LocalLog::TruncateBefore(Offset offset) {
  {
    const MutexLock lock(mutex_);
    while (replacing_) progress_.Wait(mutex_);
    replacing_ = true;
  }
  Status status = RemoveBefore(offset);
  const MutexLock lock(mutex_);
  replacing_ = false;
  progress_.NotifyAll();
  return status;
}

Status LocalLog::RemoveBefore(Offset offset) {
  while (true) {
    std::string path;
    bool roll_first = false;
    {
      const MutexLock lock(mutex_);
      // After a replacement that was left half done, what is old here may stand for what was put in its place.
      if (!failure_.ok()) return failure_;
      if (segments_.size() < 2 || segments_[1].first > offset) return Status::Ok();
      path = segments_.front().path;
      // What continues a segment that is gone would be taken for nothing when the log is opened anew.
      roll_first = segments_.size() == 2 && rolled_ != nullptr;
    }
    if (roll_first) MS_RETURN_IF_ERROR(FinishRoll());
    // The oldest first, and each durably before the next: a crash leaves no hole.
    const Status removed = env_.files->Remove(path);
    if (!removed.ok() && removed.code() != StatusCode::kNotFound) return removed;
    const Status synced = env_.files->SyncFolder(folder_);
    const MutexLock lock(mutex_);
    segments_.erase(segments_.begin());
    if (!synced.ok()) {
      Fail(synced);
      return failure_;
    }
  }
}

Offset LocalLog::start() const {
  const MutexLock lock(mutex_);
  return segments_.front().first;
}

Offset LocalLog::end() const {
  const MutexLock lock(mutex_);
  return end_;
}

Offset LocalLog::durable_end() const {
  const MutexLock lock(mutex_);
  return options_.durability == Durability::kFsync ? synced_ : end_;
}

Offset LocalLog::active_start() const {
  const MutexLock lock(mutex_);
  return segments_.back().first;
}

Offset LocalLog::closed_end() const {
  const MutexLock lock(mutex_);
  return ClosedEnd();
}

Offset LocalLog::ClosedEnd() const {
  return rolled_ == nullptr ? segments_.back().first : segments_[segments_.size() - 2].first;
}

LogStats LocalLog::stats() const {
  const MutexLock lock(mutex_);
  LogStats stats = stats_;
  stats.segments = segments_.size();
  return stats;
}

uint64_t LocalLog::bytes() const {
  const MutexLock lock(mutex_);
  uint64_t bytes = active_bytes_;
  for (size_t i = 0; i + 1 < segments_.size(); ++i) bytes += segments_[i].bytes;
  return bytes;
}

Offset LocalLog::OffsetKeeping(uint64_t bytes) const {
  const MutexLock lock(mutex_);
  uint64_t kept = active_bytes_;
  size_t first = segments_.size() - 1;
  while (first > 0 && kept + segments_[first - 1].bytes <= bytes) kept += segments_[--first].bytes;
  return segments_[first].first;
}

Result<LocalLog::SegmentView> LocalLog::View(Offset first) const {
  const MutexLock lock(mutex_);
  const auto found = std::lower_bound(segments_.begin(), segments_.end(), first,
                                      [](const Segment& segment, Offset offset) { return segment.first < offset; });
  if (found == segments_.end() || found->first != first) {
    return OutOfRange("log {}: the records from {} on have been removed; the first is {}", folder_, first.value(),
                      segments_.front().first.value());
  }
  SegmentView view;
  view.path = found->path;
  view.next_path = found->next_path;
  view.salt = found->salt;
  view.limit_bytes = found->bytes;
  if (found + 1 != segments_.end()) {
    view.next = (found + 1)->first;
  } else if (!failure_.ok() && options_.durability == Durability::kFsync) {
    view.limit_bytes = synced_bytes_;
    view.failure = failure_;
  } else {
    view.limit_bytes = active_bytes_;
  }
  return view;
}

class LocalLog::Reader final : public storage::LogReader {
 public:
  Reader(const LocalLog* log, Offset from, const Entry& entry) : log_(log), from_(from) { GoTo(entry); }

  Result<std::optional<LogRecord>> Next() override {
    if (!error_.ok()) return error_;
    auto record = FindNext();
    if (!record.ok()) error_ = record.status();
    return record;
  }

 private:
  Result<std::optional<LogRecord>> FindNext() {
    while (true) {
      while (left_ > 0) {
        const std::string_view payload = TakeRecord(&body_);
        const Offset offset = next_;
        ++next_;
        --left_;
        if (offset >= from_) return std::optional(LogRecord{offset, payload});
      }
      const auto found = log_->View(segment_);
      if (!found.ok() || (file_ != nullptr && found->salt != salt_)) {
        // Removed, or rewritten.
        MS_RETURN_IF_ERROR(Seek());
        continue;
      }
      const SegmentView& view = *found;
      if (file_ == nullptr) {
        MS_ASSIGN_OR_RETURN(const bool opened, OpenFile(view));
        if (!opened) continue;
      }
      auto item = scanner_->Next(view.limit_bytes);
      if (!item.ok()) return std::move(item).status().WithContext(view.path);
      switch (item->what) {
        case SegmentScanner::What::kBatch:
          body_ = item->body;
          left_ = item->header.kind == BatchKind::kGap ? 0 : item->header.count;
          next_ = item->header.kind == BatchKind::kGap ? scanner_->expected() : item->header.first;
          break;
        case SegmentScanner::What::kEnd:
          if (!view.failure.ok()) return view.failure;
          if (!view.next.has_value()) return std::optional<LogRecord>();
          if (*view.next != scanner_->expected()) {
            return DataLoss("{} is corrupt at byte {}: it ends before record {}, and the next segment begins with {}",
                            view.path, view.limit_bytes, scanner_->expected().value(), view.next->value());
          }
          GoTo({*view.next, {*view.next, kSegmentHeaderBytes}});
          break;
        case SegmentScanner::What::kShort:
        case SegmentScanner::What::kBad:
          return DataLoss("{} is corrupt at byte {} (record {}): {}", view.path, item->position,
                          scanner_->expected().value(), item->reason);
      }
    }
  }

  // False when there is another file to be opened by now.
  Result<bool> OpenFile(const SegmentView& view) {
    // A file that is not found under the name that it has at first has got its own.
    env::FileSystem& files = *log_->env_.files;
    auto file = files.OpenForRead(view.next_path.empty() ? view.path : view.next_path);
    if (!file.ok() && file.status().code() == StatusCode::kNotFound && !view.next_path.empty()) {
      file = files.OpenForRead(view.path);
    }
    if (!file.ok() && file.status().code() == StatusCode::kNotFound) {
      const auto now = log_->View(segment_);
      if (now.ok() && now->salt == view.salt) return OutOfRange("{} has been removed", view.path);
      return false;
    }
    if (!file.ok()) return std::move(file).status();
    file_ = std::move(*file);
    salt_ = view.salt;
    scanner_.emplace(file_.get(), view.salt, position_, next_);
    return true;
  }

  // To where the record that comes next is by now.
  Status Seek() {
    from_ = std::max(from_, next_);
    MS_ASSIGN_OR_RETURN(const Entry entry, log_->FindEntry(from_));
    GoTo(entry);
    return Status::Ok();
  }

  void GoTo(const Entry& entry) {
    segment_ = entry.segment;
    position_ = entry.from.position;
    next_ = entry.from.offset;
    scanner_.reset();
    file_ = nullptr;
  }

  const LocalLog* log_;
  Offset from_;            // records below are not wanted
  Offset segment_;         // by its first offset
  uint64_t position_ = 0;  // where to start in it
  Offset next_;            // the record that comes next
  std::unique_ptr<env::ReadableFile> file_;
  uint64_t salt_ = 0;  // of the file
  std::optional<SegmentScanner> scanner_;
  std::string_view body_;  // of the current batch, what is left of it
  uint32_t left_ = 0;      // how many records that is
  Status error_;
};

Result<LocalLog::Entry> LocalLog::FindEntry(Offset offset) const {
  const MutexLock lock(mutex_);
  if (offset < segments_.front().first || offset > end_) {
    return OutOfRange("log {}: there is no record {}; there are those from {} to before {}", folder_, offset.value(),
                      segments_.front().first.value(), end_.value());
  }
  const auto segment =
      std::prev(std::upper_bound(segments_.begin(), segments_.end(), offset,
                                 [](Offset wanted, const Segment& candidate) { return wanted < candidate.first; }));
  Entry found{segment->first, {segment->first, kSegmentHeaderBytes}};
  const auto entry =
      std::upper_bound(segment->index.begin(), segment->index.end(), offset,
                       [](Offset wanted, const IndexEntry& candidate) { return wanted < candidate.offset; });
  if (entry != segment->index.begin()) found.from = *std::prev(entry);
  return found;
}

Result<std::unique_ptr<storage::LogReader>> LocalLog::Read(Offset offset) const {
  MS_ASSIGN_OR_RETURN(const Entry entry, FindEntry(offset));
  return std::make_unique<Reader>(this, offset, entry);
}

}  // namespace millstream::log

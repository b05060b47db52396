// LocalLog's rolls: how one segment ends and the next begins.
//
// RollNow does all of it at once. BeginRoll goes on in a file that nothing has synced and that bears a name of its own;
// FinishRoll, on whatever thread, syncs it and the segment before it, and renames it. Opening finds by the names how
// far that had come.
#include <utility>

#include "millstream/env/file_system.h"
#include "millstream/log/local_log.h"
#include "millstream/log/roll_queue.h"
#include "recovery.h"

namespace millstream::log {

Status LocalLog::Seal() {
  bool is_empty = false;
  {
    const MutexLock lock(mutex_);
    if (closed_) return FailedPrecondition("log {} is closed", folder_);
    if (!failure_.ok()) return failure_;
    is_empty = end_ == segments_.back().first;
  }
  if (!is_empty) {
    roll_due_ = true;
    MS_RETURN_IF_ERROR(ExplainNoRoom(Roll()));
  }
  return ExplainNoRoom(FinishRoll());
}

Status LocalLog::Roll() {
  return rolls_later() ? BeginRoll() : RollNow();
}

Status LocalLog::RollNow() {
  const Offset first = end();
  // A segment that has a successor is complete on the disk: a torn tail can only be in the last one.
  MS_RETURN_IF_ERROR(SyncUpTo(first));
  MS_RETURN_IF_ERROR(EndActive());
  bool sync_failed = false;
  auto made = MakeSegment(*env_.files, *env_.random, folder_, first, boot_, &sync_failed);
  const MutexLock lock(mutex_);
  if (!made.ok()) {
    if (!sync_failed) return std::move(made).status();
    Fail(made.status());
    return failure_;
  }
  GoOnIn(std::move(*made));
  return Status::Ok();
}

Status LocalLog::EndActive() {
  std::shared_ptr<env::WritableFile> file;
  uint64_t bytes = 0;
  {
    const MutexLock lock(mutex_);
    MS_RETURN_IF_ERROR(TakeWriting());
    file = active_;
    bytes = active_bytes_;
  }
  Status status = CutUnfinished(*file, bytes);
  const Status synced = status.ok() ? file->SyncData() : Status::Ok();
  const MutexLock lock(mutex_);
  writing_ = false;
  progress_.NotifyAll();
  if (synced.ok()) return status;
  Fail(synced);
  return failure_;
}

Status LocalLog::BeginRoll() {
  // One at a time: the disk sets the pace.
  MS_RETURN_IF_ERROR(FinishRoll());
  std::shared_ptr<env::WritableFile> ended;
  uint64_t bytes = 0;
  Offset first;
  {
    const MutexLock lock(mutex_);
    MS_RETURN_IF_ERROR(TakeWriting());
    ended = active_;
    bytes = active_bytes_;
    first = end_;
  }
  auto made = MakeNext(*ended, bytes, first);
  {
    const MutexLock lock(mutex_);
    writing_ = false;
    progress_.NotifyAll();
    active_bytes_ = ended->size();
    if (!made.ok()) return std::move(made).status();
    GoOnIn(std::move(*made));
    rolled_ = std::move(ended);
    // The roll's end brings to the disk what was to be asked for.
    asked_bytes_ = stats_.written_bytes;
    roll_wanted_ = true;
    work_.NotifyOne();
  }
  if (options_.rolls != nullptr) options_.rolls->Add(this);
  return Status::Ok();
}

Result<NewSegment> LocalLog::MakeNext(env::WritableFile& ended, uint64_t bytes, Offset first) {
  MS_RETURN_IF_ERROR(PadToSector(ended, bytes));
  return MakeNextSegment(*env_.files, *env_.random, folder_, first, boot_);
}

void LocalLog::GoOnIn(NewSegment made) {
  segments_.back().bytes = active_bytes_;
  segments_.push_back(std::move(made.segment));
  active_ = std::move(made.file);
  active_bytes_ = segments_.back().bytes;
  synced_bytes_ = active_bytes_;
  stats_.written_bytes += active_bytes_;
  // The new header names the boot.
  mark_due_ = false;
  roll_due_ = false;
}

Status LocalLog::FinishRoll() {
  {
    const MutexLock lock(mutex_);
    // Where there is nothing to finish, a sync of the last segment keeps nobody from ending it.
    while (syncing_ && rolled_ != nullptr) progress_.Wait(mutex_);
    if (rolled_ == nullptr) return Status::Ok();
    if (!failure_.ok()) return failure_;
    syncing_ = true;
  }
  Status status = FinishRollAlone();
  const MutexLock lock(mutex_);
  syncing_ = false;
  progress_.NotifyAll();
  return status;
}

Status LocalLog::FinishRollAlone() {
  std::shared_ptr<env::WritableFile> ended;
  std::shared_ptr<env::WritableFile> next;
  std::string path;
  std::string next_path;
  {
    const MutexLock lock(mutex_);
    if (rolled_ == nullptr) return Status::Ok();
    ended = rolled_;
    next = active_;
    path = segments_.back().path;
    next_path = segments_.back().next_path;
  }
  // The next one first: there is little in it yet. A sync that fails is never tried again, whatever it lacks.
  bool no_room = false;
  Status status = next->Sync();
  if (status.ok()) status = ended->SyncData();
  if (status.ok()) {
    status = env_.files->Rename(next_path, path);
    no_room = status.code() == StatusCode::kResourceExhausted;
    if (status.ok()) status = env_.files->SyncFolder(folder_);
  }
  const MutexLock lock(mutex_);
  ++stats_.syncs;
  if (status.ok()) {
    segments_.back().next_path.clear();
    rolled_ = nullptr;
    synced_ = std::max(synced_, segments_.back().first);
  } else if (no_room) {
    // Nothing is lost: whoever rolls, syncs or opens next tries again.
    ++rolls_failed_;
    roll_failure_ = status;
    sync_wanted_ = synced_;
  } else {
    Fail(status);
    status = failure_;
  }
  progress_.NotifyAll();
  return status;
}

}  // namespace millstream::log

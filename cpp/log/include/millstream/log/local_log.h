// LocalLog: a partition's log in a folder of this machine.
//
// Records go into segment files, one batch per append; a segment that has grown to its size is synced and followed by
// the next. A thread of its own syncs for all who wait at once (group commit). Opening tells what a crash left
// unfinished (cut off, reported) from corruption (kDataLoss; nothing is changed).
//
// With kProcess the writer does not wait for a segment's end to reach the disk: it goes on in the next one, which has a
// name of its own (NextSegmentName) until the sync thread, or a RollQueue, has synced both. One roll at most is under
// way so: a second one, and whoever wants anything synced or removed that this one is about, finishes it first.
//
// Threads     As storage::Log. Without a sync thread, whoever waits syncs: Append, the waits, Sync, TruncateBefore and
//             Close then come from one thread, and nothing is synced that nobody asks for, save by a RollQueue.
// Invariants  (1) Acknowledged records are never cut off. (2) A sector with what counts as synced is never written
//             again. (3) A record goes into a segment that bears its name, or a segment gets its name, only once it
//             exists durably and all before it is on the disk.
//             (4) A record that is rewritten away leaves its offset behind: offsets never change.
// Ownership   Borrows the env. Readers borrow the log: they go first.
// Cost        An append is one write; payloads below kInlinePayloadBytes are copied once.
// Source      The files' layout: docs/formats/log.md.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/mutex.h"
#include "millstream/base/result.h"
#include "millstream/env/env.h"
#include "millstream/log/segment.h"
#include "millstream/storage/log.h"

namespace millstream::log {

class RollQueue;

struct LocalLogOptions {
  storage::Durability durability = storage::Durability::kProcess;
  // A segment is closed before it would grow beyond; one append may exceed it alone.
  uint64_t segment_bytes = uint64_t{64} << 20;
  // With kProcess, what a power cut can take at most is this much, and what is appended while it is synced.
  uint64_t background_sync_bytes = uint64_t{16} << 20;
  bool sync_thread = true;
  // With kProcess and without a sync thread: finishes rolls, and a power cut can take two segments. Where there is
  // neither, the append that rolls waits for the disk. Must be there until the log is closed.
  RollQueue* rolls = nullptr;
  std::string thread_name = "ms-log-sync";
};

inline constexpr uint64_t kSegmentBytesMin = 16 << 10;
inline constexpr uint64_t kSegmentBytesMax = uint64_t{1} << 30;

// What opening the log found, for the operator.
struct RecoveryReport {
  uint64_t segments = 0;
  // A torn tail that was cut off, or a next segment that did not continue what was left and went; or both.
  bool tail_was_cut = false;
  std::string file;
  uint64_t position = 0;
  uint64_t bytes_cut = 0;
  std::string reason;
};

struct LogStats {
  uint64_t appended_records = 0;
  uint64_t appended_bytes = 0;  // of payloads
  uint64_t written_bytes = 0;   // of files
  uint64_t syncs = 0;
  uint64_t segments = 0;
};

// The offsets that a segment holds, some of which may be gone, and its bytes.
struct SegmentSpan {
  Offset first;
  Offset end;
  uint64_t bytes = 0;
  bool is_closed = false;
};

// What a record is rewritten as: itself or other bytes, or nothing. The bytes must stay valid until the next call.
using RecordEditor = std::function<Result<std::optional<std::string_view>>(const storage::LogRecord&)>;

struct RewriteReport {
  uint64_t bytes_before = 0;
  uint64_t bytes_after = 0;
  uint64_t records_removed = 0;
};

// Payloads below this are copied into the write's buffer, larger ones are written from where they are.
inline constexpr uint64_t kInlinePayloadBytes = 16 << 10;

struct Recovered;
struct NewSegment;
class Replacement;

class LocalLog final : public storage::Log {
 public:
  // Opens the log in `folder`, which must exist and belong to this process alone (FileSystem::LockFolder on the data
  // folder sees to that).
  static Result<std::unique_ptr<LocalLog>> Open(const env::Env& env, const std::string& folder,
                                                const LocalLogOptions& options);
  // Closes; what Close would answer is lost.
  ~LocalLog() override;

  Result<Offset> Append(std::span<const std::string_view> payloads) override EXCLUDES(mutex_);
  // The same for `count` records each of which stands behind its length of kRecordLengthBytes, in as many pieces as it
  // takes: they are written from where they are.
  Result<Offset> AppendFramed(std::span<const std::string_view> pieces, uint64_t count) EXCLUDES(mutex_);
  Status WaitDurable(Offset offset) override EXCLUDES(mutex_);
  void WhenDurable(Offset offset, DurableCallback done) override EXCLUDES(mutex_);
  Status Sync() override EXCLUDES(mutex_);
  Status TruncateBefore(Offset offset) override EXCLUDES(mutex_);
  Result<std::unique_ptr<storage::LogReader>> Read(Offset offset) const override EXCLUDES(mutex_);
  Offset start() const override EXCLUDES(mutex_);
  Offset end() const override EXCLUDES(mutex_);
  Offset durable_end() const override EXCLUDES(mutex_);

  // Closes the last segment, unless it is empty, and begins the next; all before it is on the disk then. Called by the
  // thread that appends.
  Status Seal() EXCLUDES(mutex_);
  // Brings the segment before the last to the disk and gives the last its name, if a roll has left that to be done.
  // From any thread.
  Status FinishRoll() EXCLUDES(mutex_);
  // All segments, the oldest first; the last one is not closed, nor those that end behind closed_end().
  std::vector<SegmentSpan> Spans() const EXCLUDES(mutex_);
  // Puts one segment in the place of the closed ones that begin at `first` and end at `end`, with what `edit` says of
  // each record; empty records are gone already. A crash leaves the old ones or the new one. From any thread, one at a
  // time, while others append and read: a reader in the middle of an old segment goes on in the new one.
  // Errors: kNotFound when the segments are no longer these; kAborted when the log is closed meanwhile.
  Result<RewriteReport> Rewrite(Offset first, Offset end, const RecordEditor& edit) EXCLUDES(mutex_);

  // Syncs all, marks the end as clean and stops the thread. Afterwards Append is refused. Idempotent. Called by the
  // thread that appends.
  Status Close() EXCLUDES(mutex_);

  const RecoveryReport& recovery() const { return recovery_; }
  LogStats stats() const EXCLUDES(mutex_);
  // The first offset of the last segment: nothing is appended before it any more.
  Offset active_start() const EXCLUDES(mutex_);
  // The end of the last segment that is closed and on the disk with all before it.
  Offset closed_end() const EXCLUDES(mutex_);
  // Of all segment files.
  uint64_t bytes() const EXCLUDES(mutex_);
  // Where the log would begin if it held at most `bytes`, in whole segments; the last one always stays.
  Offset OffsetKeeping(uint64_t bytes) const EXCLUDES(mutex_);

 private:
  class Reader;

  // What a reader needs to know of a segment at this moment.
  struct SegmentView {
    std::string path;
    std::string next_path;  // as in Segment
    uint64_t salt = 0;
    uint64_t limit_bytes = 0;    // may be read
    std::optional<Offset> next;  // first offset of the segment behind; none for the last
    Status failure;              // why nothing behind the limit can be read
  };

  LocalLog(const env::Env& env, std::string folder, const LocalLogOptions& options, uint64_t boot, Recovered recovered);

  Status StartThread();
  // Of the appending thread.
  // The records of one append: either is empty.
  struct Body {
    std::span<const std::string_view> payloads;
    std::span<const std::string_view> framed;
    uint64_t count = 0;
    uint64_t bytes = 0;
  };
  Result<Offset> AppendBody(const Body& body) EXCLUDES(mutex_);
  Result<Offset> WriteBatch(const Body& body) EXCLUDES(mutex_);
  BatchHeader MakeHeader(BatchKind kind, Offset first, Offset synced) const;
  void BuildFrame(const Body& body, bool with_mark, BatchHeader header, uint64_t salt);
  // What stands before the body; returns where its header is to be.
  size_t BuildHead(uint64_t bytes, bool with_mark, const BatchHeader& header, uint64_t salt);
  void BuildFramed(const Body& body, bool with_mark, BatchHeader header, uint64_t salt);
  Status ExplainNoRoom(Status status) const;
  bool rolls_later() const {
    return options_.durability == storage::Durability::kProcess && (options_.sync_thread || options_.rolls != nullptr);
  }
  Status Roll() EXCLUDES(mutex_);
  Status RollNow() EXCLUDES(mutex_);
  Status BeginRoll() EXCLUDES(mutex_);
  void GoOnIn(NewSegment made) REQUIRES(mutex_);
  // Waits for its turn to write to the last segment, and sets writing_.
  Status TakeWriting() REQUIRES(mutex_);
  // Cuts off what a refused append left in the last segment, durably: a closed one is read to its end.
  Status EndActive() EXCLUDES(mutex_);
  Status WriteCleanMark() EXCLUDES(mutex_);

  // Of whoever set writing_; `bytes` is active_bytes_.
  Status CutUnfinished(env::WritableFile& file, uint64_t bytes);
  Status PadToSector(env::WritableFile& file, uint64_t bytes);
  // Pads the file of the segment that ends, and makes the one that begins with `first`.
  Result<NewSegment> MakeNext(env::WritableFile& ended, uint64_t bytes, Offset first);

  // Of whoever syncs: the thread, or without one every caller.
  void SyncLoop() EXCLUDES(mutex_);
  Status SyncOnce() EXCLUDES(mutex_);
  // Of whoever set syncing_.
  Status SyncActive() EXCLUDES(mutex_);
  Status FinishRollAlone() EXCLUDES(mutex_);
  // False while a roll is to be finished first; else syncing may begin: *file, to *bytes, with all below *target.
  bool TakeActive(std::shared_ptr<env::WritableFile>* file, uint64_t* bytes, Offset* target) EXCLUDES(mutex_);
  Status SyncUpTo(Offset target) EXCLUDES(mutex_);
  void Fail(Status status) REQUIRES(mutex_);
  std::vector<DurableCallback> TakeWaiters(Offset below) REQUIRES(mutex_);

  Result<SegmentView> View(Offset first) const EXCLUDES(mutex_);
  struct Entry {
    Offset segment;
    IndexEntry from;
  };
  // Where reading must begin to find the record at `offset`.
  Result<Entry> FindEntry(Offset offset) const EXCLUDES(mutex_);

  Offset ClosedEnd() const REQUIRES(mutex_);
  Status RemoveBefore(Offset offset) EXCLUDES(mutex_);
  // The closed segments from `first` to `end`; empty when they are not there.
  std::span<Segment> FindClosed(Offset first, Offset end) REQUIRES(mutex_);
  Result<NewSegment> WriteReplacement(const std::vector<Segment>& old, Offset end, const RecordEditor& edit,
                                      RewriteReport* report) EXCLUDES(mutex_);
  Status CopyRecords(const Segment& from, Offset end, const RecordEditor& edit, Replacement* to, RewriteReport* report)
      EXCLUDES(mutex_);
  Status Replace(const std::vector<Segment>& old, Offset end, Segment made) EXCLUDES(mutex_);

  const env::Env env_;
  const std::string folder_;
  const LocalLogOptions options_;
  const uint64_t boot_;
  RecoveryReport recovery_;

  // Of the appending thread alone.
  std::string frame_;
  std::vector<std::string_view> parts_;
  bool roll_due_ = false;     // stays set while rolling fails: a half-made segment bears the present end as its name
  bool mark_due_ = false;     // nothing in the active segment says yet that it is this boot that writes
  bool clean_ = false;        // the last batch is a mark, and all is on the disk
  uint64_t asked_bytes_ = 0;  // written_bytes when the last background sync was asked for

  // Of whoever set writing_.
  bool unfinished_ = false;  // bytes of a refused append may stand behind active_bytes_

  mutable Mutex mutex_;
  CondVar work_;      // for the sync thread: sync_wanted_, roll_wanted_ or stopping_ changed
  CondVar progress_;  // for all others: synced_, failure_, stopping_, writing_, seal_wanted_ or syncing_ changed
  std::vector<Segment> segments_ GUARDED_BY(mutex_);
  std::shared_ptr<env::WritableFile> active_ GUARDED_BY(mutex_);
  uint64_t active_bytes_ GUARDED_BY(mutex_) = 0;  // of the active segment: batches, and the padding of syncs
  uint64_t synced_bytes_ GUARDED_BY(mutex_) = 0;  // how far a finished sync covers it
  Offset end_ GUARDED_BY(mutex_);
  Offset synced_ GUARDED_BY(mutex_);             // all below is on the disk
  Offset sync_wanted_ GUARDED_BY(mutex_);        // somebody waits for all below
  bool writing_ GUARDED_BY(mutex_) = false;      // somebody writes to the active segment, without the lock
  bool seal_wanted_ GUARDED_BY(mutex_) = false;  // the sync thread waits for writing_
  bool syncing_ GUARDED_BY(mutex_) = false;      // somebody syncs files or finishes a roll, without the lock
  // The file of the segment before the last, while that is perhaps not on the disk and the last has not got its name.
  std::shared_ptr<env::WritableFile> rolled_ GUARDED_BY(mutex_);
  bool roll_wanted_ GUARDED_BY(mutex_) = false;   // the sync thread shall finish it
  uint64_t rolls_failed_ GUARDED_BY(mutex_) = 0;  // how often the disk had no room for that
  Status roll_failure_ GUARDED_BY(mutex_);        // the last time
  bool stopping_ GUARDED_BY(mutex_) = false;
  bool closed_ GUARDED_BY(mutex_) = false;
  bool rewriting_ GUARDED_BY(mutex_) = false;  // a Rewrite runs
  bool replacing_ GUARDED_BY(mutex_) = false;  // somebody takes closed segments away
  Status failure_ GUARDED_BY(mutex_);
  std::multimap<Offset, DurableCallback> waiters_ GUARDED_BY(mutex_);
  LogStats stats_ GUARDED_BY(mutex_);

  // Last, so that it has ended before anything that it uses goes.
  std::unique_ptr<env::Thread> thread_;
};

}  // namespace millstream::log

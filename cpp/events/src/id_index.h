// IdIndex: where the events of a partition are to which clients gave ids, while the partition is open.
//
// What the writer adds is cut into runs (id_run.h), each of a range of offsets. A thread behind the writer sorts and
// writes them, and merges neighbours. A run of events that are all in closed segments on the disk is kept ("ids"); one
// of later events would be wrong about others that take their offsets after a power cut, so it has another name
// ("passing") and is of no use once the log has been opened again. What no run covers is a hole: whoever looks into it
// reads those events once and fills it. So nothing here has to be durable, or even there.
//
// A partition in memory has the same runs in memory.
//
// Threads     Three: "writer" is the partition's writer, "background" the one thread behind it, and all else any.
// Invariants  (1) Runs do not overlap, and a run has every id of its range. (2) What is pending is above all runs.
// Ownership   Borrows the files. The background's tasks share it.
// Cost        Memory: at most kPendingIds entries and as many as wait to be written, kWaitingIds and one batch; 100
//             bytes for a run. A merge takes 32 MiB for a moment.
// Errors      What cannot be written is a hole. What cannot be read is dropped, which makes a hole.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "id_run.h"
#include "millstream/base/mutex.h"
#include "millstream/base/result.h"
#include "millstream/env/file_system.h"

namespace millstream::events {

struct IdRun {
  enum class Kind {
    kCut,      // in memory, in the order of offsets, and not for long
    kMemory,   // sorted
    kPassing,  // a file that counts as long as the log is open
    kKept,     // a file that counts for ever
  };
  uint64_t first = 0;
  uint64_t end = 0;
  uint64_t count = 0;
  Kind kind = Kind::kCut;
  std::vector<IdEntry> entries;  // of the first two kinds
};
using IdRunPtr = std::shared_ptr<const IdRun>;

class IdIndex {
 public:
  static constexpr size_t kPendingIds = 8192;
  static constexpr size_t kWaitingIds = 4 * kPendingIds;
  static constexpr size_t kMergedRuns = 8;

  // `folder` is the runs' own, which need not be there; empty for a partition in memory. Ids below `from` have not been
  // added here.
  IdIndex(env::FileSystem& files, std::string folder, uint64_t from)
      : files_(files), folder_(std::move(folder)), from_(from), loaded_(folder_.empty()) {}

  // --- writer ---
  // Offsets ascend.
  void Add(uint64_t hash, uint64_t offset) { pending_.push_back({hash, offset}); }
  size_t pending() const { return pending_.size(); }
  uint64_t pending_from() const { return from_; }
  std::vector<uint64_t> FindPending(uint64_t hash) const;
  // What is pending below `end` becomes a run. Work is to be called then.
  void Cut(uint64_t end) EXCLUDES(mutex_);
  void ForgetPending() { pending_ = {}; }
  // Where the partition begins, and where the closed segments on the disk end.
  void SetBounds(uint64_t start, uint64_t closed_end) EXCLUDES(mutex_);
  // True once until the next Work: whoever is told so has it done.
  bool WantsWork() { return !work_wanted_.exchange(true); }
  void ForgetWork() { work_wanted_.store(false); }
  bool is_used() const EXCLUDES(mutex_);

  // --- background ---
  // Reads what is in the folder, writes what was cut, lets go what is below the start, merges.
  void Work() EXCLUDES(mutex_);
  // The ids of a hole from `first` to before `end`, or of its beginning when `read` returns less. Ascending offsets.
  using ReadIds = std::function<Result<std::vector<IdEntry>>(uint64_t first, uint64_t* end)>;
  Status Fill(uint64_t first, uint64_t end, const ReadIds& read) EXCLUDES(mutex_);
  // It cannot be read.
  void Drop(const IdRunPtr& run) EXCLUDES(mutex_);
  // The log has been closed: keeps the runs that count for ever, and ends.
  void Finish() EXCLUDES(mutex_);

  // --- any ---
  // Does no more, and touches no file any more once it returns.
  void End() EXCLUDES(mutex_);
  bool ended() const EXCLUDES(mutex_);
  // Whether the runs of the folder are known; Work sees to that.
  bool loaded() const { return loaded_.load(); }
  // What covers the offset before `below`: a run, or a hole that begins at `first`. None below the start.
  struct Cover {
    IdRunPtr run;
    uint64_t first = 0;
  };
  std::optional<Cover> FindBelow(uint64_t below) const EXCLUDES(mutex_);
  // The offsets of events whose ids may have this hash, ascending.
  Result<std::vector<uint64_t>> Find(const IdRun& run, uint64_t hash) const;

 private:
  // Marks that files are in use, unless all has ended.
  bool Begin() EXCLUDES(mutex_);
  void Leave() EXCLUDES(mutex_);

  std::string PathOf(const IdRun& run) const;
  Result<IdRunFile> OpenRun(const IdRun& run) const;
  Result<std::vector<IdEntry>> ReadRun(const IdRun& run) const;
  void Load() EXCLUDES(mutex_);
  void LoadFolder() EXCLUDES(mutex_);
  // Entries ascend. Null when it could not be written.
  IdRunPtr Write(uint64_t first, uint64_t end, std::vector<IdEntry> entries) EXCLUDES(mutex_);
  void WriteCuts() EXCLUDES(mutex_);
  void Keep() EXCLUDES(mutex_);
  void Trim() EXCLUDES(mutex_);
  bool MergeSome() EXCLUDES(mutex_);
  std::vector<IdRunPtr> FindMerge() const REQUIRES(mutex_);
  void Insert(IdRunPtr run) REQUIRES(mutex_);
  // False when it is there no more. `made` may be null.
  bool Replace(const IdRunPtr& run, IdRunPtr made) EXCLUDES(mutex_);
  void RemoveFile(const IdRun& run);

  env::FileSystem& files_;
  const std::string folder_;
  // Of the writer alone.
  std::vector<IdEntry> pending_;
  uint64_t from_;

  std::atomic<bool> loaded_;              // the background writes it
  std::atomic<bool> work_wanted_{false};  // the writer and the background write it

  mutable Mutex mutex_;
  CondVar left_;                                   // busy_ changed
  std::vector<IdRunPtr> runs_ GUARDED_BY(mutex_);  // ascending
  uint64_t waiting_ids_ GUARDED_BY(mutex_) = 0;    // of those that were cut and not written
  uint64_t start_ GUARDED_BY(mutex_) = 0;
  uint64_t closed_end_ GUARDED_BY(mutex_) = 0;
  bool busy_ GUARDED_BY(mutex_) = false;
  bool ended_ GUARDED_BY(mutex_) = false;
};

}  // namespace millstream::events

// SimFileSystem: a file system in memory that loses, tears and refuses what a real one may.
//
// Without faults it behaves as POSIX files do. A test makes it fail in four ways:
//   - PowerCut: each 512-byte sector written since its file's last sync is kept, dropped or garbled, independently;
//     each name created, renamed or removed since its folder's last sync is there or not, independently.
//   - CrashAt: from the Nth operation on nothing works, until PowerCut or ProcessDeath; that operation itself happens
//     in part or not at all.
//   - FailAt, FailNext: one operation fails. A failed append leaves a prefix of its bytes; a failed sync drops what was
//     dirty and calls it clean, so that later syncs succeed without it.
//   - SetCapacity: a full disk.
//
// What is random comes from the seed alone, so a run on one thread repeats exactly.
// Threads     All functions may be called from any thread.
// Invariants  (1) A sector that is not dirty holds on the disk what a sync that succeeded has put there.
//             (2) Handles opened before a PowerCut or ProcessDeath answer kUnavailable for ever.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/mutex.h"
#include "millstream/env/file_system.h"
#include "millstream/env/random.h"

namespace millstream::env {

class SimFileSystem final : public FileSystem {
 public:
  static constexpr uint64_t kSectorBytes = 512;

  enum class Operation {
    kOpenForWrite,
    kOpenForRead,
    kRead,
    kMap,
    kAppend,
    kTruncate,
    kSync,
    kSyncFolder,
    kRename,
    kRemove,
    kMakeFolder,
    kList,
    kStat,
    kLock,
  };
  static constexpr size_t kOperationKinds = static_cast<size_t>(Operation::kLock) + 1;

  explicit SimFileSystem(uint64_t seed);
  ~SimFileSystem() override;

  Result<std::unique_ptr<WritableFile>> OpenForWrite(const std::string& path, OpenMode mode) override;
  Result<std::unique_ptr<ReadableFile>> OpenForRead(const std::string& path) override;
  Result<std::unique_ptr<MappedFile>> Map(const std::string& path) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Status Remove(const std::string& path) override;
  Status MakeFolder(const std::string& path) override;
  Status SyncFolder(const std::string& path) override;
  Result<std::vector<FolderEntry>> List(const std::string& path) override;
  Result<bool> Exists(const std::string& path) override;
  Result<uint64_t> FileSize(const std::string& path) override;
  Result<uint64_t> FreeBytes(const std::string& path) override;
  Result<std::unique_ptr<FolderLock>> LockFolder(const std::string& path) override;
  std::string BootId() override;

  // How many operations have begun, of all kinds and of one.
  uint64_t operations() const;
  uint64_t operations(Operation kind) const;

  // The machine or process dies in the operation that makes operations() equal `operation`.
  void CrashAt(uint64_t operation);
  bool crashed() const;
  // The kind of the operation in which the last crash came.
  Operation crashed_in() const;
  // The operation that makes operations() equal `operation` fails with `status`.
  void FailAt(uint64_t operation, Status status);
  // The next `times` operations of this kind fail with `status`.
  void FailNext(Operation kind, Status status, uint64_t times = 1);
  // All files together may hold `bytes`; an append beyond writes what fits and answers kResourceExhausted.
  void SetCapacity(uint64_t bytes);
  uint64_t used_bytes() const;

  // The machine loses power and starts again.
  void PowerCut();
  // The process dies and starts again: all that was written is still there, all handles and locks are gone.
  void ProcessDeath();

  // Behind the engine's back, for tests of corruption: neither counts as an operation, and both reach the disk at once.
  Result<std::string> Contents(const std::string& path) const;
  Status Overwrite(const std::string& path, std::string_view bytes);

 private:
  struct Node;
  using NodePtr = std::shared_ptr<Node>;
  // One change of a folder's names that its next sync makes durable: `removed` goes, `added` leads to `node`.
  struct NameChange {
    std::string removed;
    std::string added;
    NodePtr node;
  };
  // A file or a folder. "Current" is what the running machine sees, "durable" what is on the disk.
  struct Node {
    bool is_folder = false;
    // of a file
    std::string current;
    std::string durable;
    std::set<uint64_t> dirty_sectors;
    bool size_dirty = false;
    // of a folder
    std::map<std::string, NodePtr> names;
    std::map<std::string, NodePtr> durable_names;
    std::vector<NameChange> changes;
    bool locked = false;
  };
  // How an operation goes: its answer, whether it takes effect in spite of it, and, where not, whether it got as far as
  // the device, so that a part of it may have happened.
  struct Verdict {
    Status status;
    bool takes_effect = true;
    bool in_part = false;
  };
  struct Place {
    NodePtr folder;
    std::string name;
    NodePtr node;  // null when there is none of that name
  };

  class Writable;
  class Readable;
  class Mapped;
  class Lock;

  Verdict Begin(Operation kind, std::string_view path) REQUIRES(mutex_);
  Status CheckGeneration(uint64_t generation) const REQUIRES(mutex_);
  Result<Place> Find(std::string_view path) const REQUIRES(mutex_);
  Result<NodePtr> FindFile(std::string_view path) const REQUIRES(mutex_);
  Result<NodePtr> FindFolder(std::string_view path) const REQUIRES(mutex_);
  uint64_t UsedBytes() const REQUIRES(mutex_);
  void Restart() REQUIRES(mutex_);
  void CutFile(Node& file) REQUIRES(mutex_);
  void CutFolder(Node& folder, int depth) REQUIRES(mutex_);

  Status AppendTo(Node& file, const std::string& path, uint64_t generation, uint64_t* size,
                  std::span<const std::string_view> parts) EXCLUDES(mutex_);
  Status TruncateTo(Node& file, const std::string& path, uint64_t generation, uint64_t* size, uint64_t bytes)
      EXCLUDES(mutex_);
  Status SyncFile(Node& file, const std::string& path, uint64_t generation) EXCLUDES(mutex_);

  mutable Mutex mutex_;
  SeededRandom random_ GUARDED_BY(mutex_);
  NodePtr root_ GUARDED_BY(mutex_);
  uint64_t generation_ GUARDED_BY(mutex_) = 0;
  uint64_t boot_ GUARDED_BY(mutex_) = 1;
  bool down_ GUARDED_BY(mutex_) = false;
  uint64_t operations_ GUARDED_BY(mutex_) = 0;
  std::array<uint64_t, kOperationKinds> operations_of_ GUARDED_BY(mutex_){};
  uint64_t crash_at_ GUARDED_BY(mutex_) = 0;
  Operation crashed_in_ GUARDED_BY(mutex_) = Operation::kOpenForWrite;
  uint64_t fail_at_ GUARDED_BY(mutex_) = 0;
  Status fail_at_status_ GUARDED_BY(mutex_);
  std::array<uint64_t, kOperationKinds> fail_next_ GUARDED_BY(mutex_){};
  std::array<Status, kOperationKinds> fail_next_status_ GUARDED_BY(mutex_);
  uint64_t capacity_bytes_ GUARDED_BY(mutex_) = UINT64_MAX;
};

}  // namespace millstream::env

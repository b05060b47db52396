// FileSystem: every access of the engine to a disk.
//
// Paths are the system's, relative ones to the working folder. What survives what:
//   - Bytes appended survive the death of the process once Append returned OK, and of the machine once a Sync or
//     SyncData that began later returned OK.
//   - A created, renamed or removed name survives the death of the machine once SyncFolder of its folder returned OK.
//   - After a failed Sync the bytes before it are in doubt for ever: a later Sync that returns OK proves nothing.
//
// Threads     FileSystem from any thread. One WritableFile: Append and Truncate from one thread at a time, the syncs
//             from any thread meanwhile. One ReadableFile or MappedFile: any number of threads.
// Errors      kNotFound, kAlreadyExists, kPermissionDenied; kResourceExhausted for a full disk, a quota or too many
//             open files; kInternal for a failing device. Each message names the operation and the path.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/base/status.h"

namespace millstream::env {

// A file open for appending. The destructor closes it and syncs nothing.
class WritableFile {
 public:
  virtual ~WritableFile() = default;

  // Writes the parts one after another at the end. After an error any prefix of them may have been written, and size()
  // does not count it: the caller truncates to size() before it appends again.
  virtual Status Append(std::span<const std::string_view> parts) = 0;
  Status Append(std::string_view bytes) { return Append(std::span<const std::string_view>(&bytes, 1)); }

  // Cuts the file, or fills it with zeros, to `bytes`; the next Append writes there.
  virtual Status Truncate(uint64_t bytes) = 0;

  // Bytes and all metadata reach the disk.
  virtual Status Sync() = 0;
  // Bytes, and of the metadata what is needed to read them, reach the disk.
  virtual Status SyncData() = 0;

  virtual uint64_t size() const = 0;
};

class ReadableFile {
 public:
  virtual ~ReadableFile() = default;

  // Fills `out` from byte `position` on and returns how much: less than out.size() only at the end of the file.
  virtual Result<size_t> Read(uint64_t position, std::span<char> out) const = 0;

  // The size now; another handle may be appending.
  virtual Result<uint64_t> Size() const = 0;
};

// A file's bytes in the address space. For files that no longer change: cutting a mapped file short makes reads fault.
class MappedFile {
 public:
  virtual ~MappedFile() = default;
  virtual std::string_view bytes() const = 0;
};

// Holds a folder for this process; the destructor, and the death of the process, give it back.
class FolderLock {
 public:
  virtual ~FolderLock() = default;
};

enum class OpenMode {
  kCreate,    // the file must not exist
  kTruncate,  // made if absent, emptied if present
  kAppend,    // the file must exist; appends at its end
};

struct FolderEntry {
  std::string name;
  bool is_folder = false;
  friend bool operator==(const FolderEntry&, const FolderEntry&) = default;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual Result<std::unique_ptr<WritableFile>> OpenForWrite(const std::string& path, OpenMode mode) = 0;
  virtual Result<std::unique_ptr<ReadableFile>> OpenForRead(const std::string& path) = 0;
  virtual Result<std::unique_ptr<MappedFile>> Map(const std::string& path) = 0;

  // Replaces `to` if it exists, in one step.
  virtual Status Rename(const std::string& from, const std::string& to) = 0;
  // A file, or an empty folder.
  virtual Status Remove(const std::string& path) = 0;
  // kAlreadyExists when there is anything of that name. The parent must exist.
  virtual Status MakeFolder(const std::string& path) = 0;
  virtual Status SyncFolder(const std::string& path) = 0;

  // In ascending order of names, "." and ".." left out.
  virtual Result<std::vector<FolderEntry>> List(const std::string& path) = 0;
  virtual Result<bool> Exists(const std::string& path) = 0;
  virtual Result<uint64_t> FileSize(const std::string& path) = 0;
  // What this process may still write on the device that holds `path`.
  virtual Result<uint64_t> FreeBytes(const std::string& path) = 0;

  // Takes the folder for this process alone, through a file named LOCK in it. kFailedPrecondition when another lock on
  // it is held, by whatever process.
  virtual Result<std::unique_ptr<FolderLock>> LockFolder(const std::string& path) = 0;

  // Names the time since the machine started: equal answers mean that nothing but the death of processes has happened
  // between them, so that unsynced bytes are still there. Empty when the system does not say.
  virtual std::string BootId() = 0;
};

}  // namespace millstream::env

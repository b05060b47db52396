#include "posix_file_system.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

#include "millstream/env/file_util.h"

namespace millstream::env {
namespace {

// How many parts one system call takes; Linux's own limit is 1024.
constexpr size_t kPartsPerCallMax = 64;

StatusCode CodeOf(int error) {
  switch (error) {
    case ENOENT:
      return StatusCode::kNotFound;
    case EEXIST:
      return StatusCode::kAlreadyExists;
    case EACCES:
    case EPERM:
    case EROFS:
      return StatusCode::kPermissionDenied;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return StatusCode::kResourceExhausted;
    case EINVAL:
    case ENAMETOOLONG:
      return StatusCode::kInvalidArgument;
    case ENOTDIR:
    case EISDIR:
    case ENOTEMPTY:
    case EBUSY:
      return StatusCode::kFailedPrecondition;
    default:
      return StatusCode::kInternal;
  }
}

Status ErrnoStatus(int error, std::string_view operation, std::string_view path) {
  return Status(CodeOf(error), fmt::format("{} {}: {}", operation, path, std::generic_category().message(error)));
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  // What close could still report concerns bytes that nobody synced.
  ~Descriptor() {
    if (number_ >= 0) (void)close(number_);
  }
  int number() const { return number_; }

 private:
  int number_;
};

Result<Descriptor> OpenDescriptor(const std::string& path, int flags) {
  int number = -1;
  do {
    number = open(path.c_str(), flags | O_CLOEXEC, 0644);
  } while (number < 0 && errno == EINTR);
  if (number < 0) return ErrnoStatus(errno, "open", path);
  return Descriptor(number);
}

Result<uint64_t> SizeOf(const Descriptor& descriptor, const std::string& path) {
  struct stat about{};
  if (fstat(descriptor.number(), &about) != 0) return ErrnoStatus(errno, "stat", path);
  return static_cast<uint64_t>(about.st_size);
}

class PosixWritableFile final : public WritableFile {
 public:
  PosixWritableFile(Descriptor descriptor, std::string path, uint64_t size)
      : descriptor_(std::move(descriptor)), path_(std::move(path)), size_(size) {}

  Status Append(std::span<const std::string_view> parts) override {
    uint64_t position = size_;
    size_t skip = 0;  // bytes of parts.front() that are written already
    while (!parts.empty()) {
      std::array<iovec, kPartsPerCallMax> vectors{};
      const size_t count = std::min(parts.size(), vectors.size());
      for (size_t i = 0; i < count; ++i) {
        const std::string_view part = i == 0 ? parts[i].substr(skip) : parts[i];
        vectors[i] = {const_cast<char*>(part.data()), part.size()};
      }
      const ssize_t written =
          pwritev(descriptor_.number(), vectors.data(), static_cast<int>(count), static_cast<off_t>(position));
      if (written < 0) {
        if (errno == EINTR) continue;
        return ErrnoStatus(errno, "write", path_);
      }
      position += static_cast<uint64_t>(written);
      auto left = static_cast<size_t>(written);
      size_t done = 0;
      while (done < count && left >= parts[done].size() - skip) {
        left -= parts[done].size() - skip;
        skip = 0;
        ++done;
      }
      parts = parts.subspan(done);
      skip += left;
    }
    size_ = position;
    return Status::Ok();
  }

  Status Truncate(uint64_t bytes) override {
    while (ftruncate(descriptor_.number(), static_cast<off_t>(bytes)) != 0) {
      if (errno != EINTR) return ErrnoStatus(errno, "truncate", path_);
    }
    size_ = bytes;
    return Status::Ok();
  }

  // EINTR is no reason to try again: whether the error of a page was consumed by the interrupted call is unknown.
  Status Sync() override {
    return fsync(descriptor_.number()) == 0 ? Status::Ok() : ErrnoStatus(errno, "fsync", path_);
  }
  Status SyncData() override {
    return fdatasync(descriptor_.number()) == 0 ? Status::Ok() : ErrnoStatus(errno, "fdatasync", path_);
  }

  uint64_t size() const override { return size_; }

 private:
  Descriptor descriptor_;
  std::string path_;
  uint64_t size_;
};

class PosixReadableFile final : public ReadableFile {
 public:
  PosixReadableFile(Descriptor descriptor, std::string path)
      : descriptor_(std::move(descriptor)), path_(std::move(path)) {}

  Result<size_t> Read(uint64_t position, std::span<char> out) const override {
    size_t done = 0;
    while (done < out.size()) {
      const ssize_t read =
          pread(descriptor_.number(), out.data() + done, out.size() - done, static_cast<off_t>(position + done));
      if (read < 0) {
        if (errno == EINTR) continue;
        return ErrnoStatus(errno, "read", path_);
      }
      if (read == 0) break;
      done += static_cast<size_t>(read);
    }
    return done;
  }

  Result<uint64_t> Size() const override { return SizeOf(descriptor_, path_); }

 private:
  Descriptor descriptor_;
  std::string path_;
};

class PosixMappedFile final : public MappedFile {
 public:
  explicit PosixMappedFile(std::string_view bytes) : bytes_(bytes) {}
  PosixMappedFile(const PosixMappedFile&) = delete;
  PosixMappedFile& operator=(const PosixMappedFile&) = delete;
  ~PosixMappedFile() override {
    if (!bytes_.empty()) (void)munmap(const_cast<char*>(bytes_.data()), bytes_.size());
  }
  std::string_view bytes() const override { return bytes_; }

 private:
  std::string_view bytes_;
};

class PosixFolderLock final : public FolderLock {
 public:
  explicit PosixFolderLock(Descriptor descriptor) : descriptor_(std::move(descriptor)) {}

 private:
  Descriptor descriptor_;  // closing it gives the flock back
};

}  // namespace

Result<std::unique_ptr<WritableFile>> PosixFileSystem::OpenForWrite(const std::string& path, OpenMode mode) {
  int flags = O_WRONLY;
  if (mode == OpenMode::kCreate) flags |= O_CREAT | O_EXCL;
  if (mode == OpenMode::kTruncate) flags |= O_CREAT | O_TRUNC;
  MS_ASSIGN_OR_RETURN(Descriptor descriptor, OpenDescriptor(path, flags));
  MS_ASSIGN_OR_RETURN(const uint64_t size, SizeOf(descriptor, path));
  return std::make_unique<PosixWritableFile>(std::move(descriptor), path, size);
}

Result<std::unique_ptr<ReadableFile>> PosixFileSystem::OpenForRead(const std::string& path) {
  MS_ASSIGN_OR_RETURN(Descriptor descriptor, OpenDescriptor(path, O_RDONLY));
  return std::make_unique<PosixReadableFile>(std::move(descriptor), path);
}

Result<std::unique_ptr<MappedFile>> PosixFileSystem::Map(const std::string& path) {
  MS_ASSIGN_OR_RETURN(const Descriptor descriptor, OpenDescriptor(path, O_RDONLY));
  MS_ASSIGN_OR_RETURN(const uint64_t size, SizeOf(descriptor, path));
  // A mapping of nothing is an error to the system.
  if (size == 0) return std::make_unique<PosixMappedFile>(std::string_view());
  void* address = mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor.number(), 0);
  if (address == MAP_FAILED) return ErrnoStatus(errno, "mmap", path);
  return std::make_unique<PosixMappedFile>(std::string_view(static_cast<const char*>(address), size));
}

Status PosixFileSystem::Rename(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) == 0) return Status::Ok();
  return ErrnoStatus(errno, "rename", fmt::format("{} to {}", from, to));
}

Status PosixFileSystem::Remove(const std::string& path) {
  return remove(path.c_str()) == 0 ? Status::Ok() : ErrnoStatus(errno, "remove", path);
}

Status PosixFileSystem::MakeFolder(const std::string& path) {
  return mkdir(path.c_str(), 0755) == 0 ? Status::Ok() : ErrnoStatus(errno, "mkdir", path);
}

Status PosixFileSystem::SyncFolder(const std::string& path) {
  MS_ASSIGN_OR_RETURN(const Descriptor descriptor, OpenDescriptor(path, O_RDONLY | O_DIRECTORY));
  return fsync(descriptor.number()) == 0 ? Status::Ok() : ErrnoStatus(errno, "fsync", path);
}

Result<std::vector<FolderEntry>> PosixFileSystem::List(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir(path.c_str()), closedir);
  if (folder == nullptr) return ErrnoStatus(errno, "list", path);
  std::vector<FolderEntry> entries;
  while (true) {
    errno = 0;
    const dirent* entry = readdir(folder.get());
    if (entry == nullptr) {
      if (errno != 0) return ErrnoStatus(errno, "list", path);
      break;
    }
    const std::string name = static_cast<const char*>(entry->d_name);
    if (name == "." || name == "..") continue;
    struct stat about{};
    // A name that vanished since readdir is simply not listed.
    if (fstatat(dirfd(folder.get()), name.c_str(), &about, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;
      return ErrnoStatus(errno, "stat", JoinPath(path, name));
    }
    entries.push_back({name, S_ISDIR(about.st_mode)});
  }
  std::sort(entries.begin(), entries.end(), [](const FolderEntry& a, const FolderEntry& b) { return a.name < b.name; });
  return entries;
}

Result<bool> PosixFileSystem::Exists(const std::string& path) {
  struct stat about{};
  if (stat(path.c_str(), &about) == 0) return true;
  if (errno == ENOENT) return false;
  return ErrnoStatus(errno, "stat", path);
}

Result<uint64_t> PosixFileSystem::FileSize(const std::string& path) {
  struct stat about{};
  if (stat(path.c_str(), &about) != 0) return ErrnoStatus(errno, "stat", path);
  return static_cast<uint64_t>(about.st_size);
}

Result<uint64_t> PosixFileSystem::FreeBytes(const std::string& path) {
  struct statvfs about{};
  if (statvfs(path.c_str(), &about) != 0) return ErrnoStatus(errno, "statvfs", path);
  return static_cast<uint64_t>(about.f_bavail) * about.f_frsize;
}

Result<std::unique_ptr<FolderLock>> PosixFileSystem::LockFolder(const std::string& path) {
  const std::string lock_path = JoinPath(path, "LOCK");
  MS_ASSIGN_OR_RETURN(Descriptor descriptor, OpenDescriptor(lock_path, O_RDWR | O_CREAT));
  if (flock(descriptor.number(), LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    if (error != EWOULDBLOCK) return ErrnoStatus(error, "flock", lock_path);
    std::array<char, 32> owner{};
    const ssize_t length = pread(descriptor.number(), owner.data(), owner.size(), 0);
    const std::string_view pid(owner.data(), static_cast<size_t>(std::max<ssize_t>(length, 0)));
    if (pid == std::to_string(getpid())) return FailedPrecondition("{} is already open in this process", path);
    return FailedPrecondition("{} is open in another process{}", path,
                              pid.empty() ? "" : fmt::format(" (pid {})", pid));
  }
  // The number only helps a person to find the holder; the lock holds without it, on a full disk too.
  const std::string pid = std::to_string(getpid());
  if (ftruncate(descriptor.number(), 0) == 0) (void)!pwrite(descriptor.number(), pid.data(), pid.size(), 0);
  return std::make_unique<PosixFolderLock>(std::move(descriptor));
}

std::string PosixFileSystem::BootId() {
  const auto descriptor = OpenDescriptor("/proc/sys/kernel/random/boot_id", O_RDONLY);
  if (!descriptor.ok()) return {};
  std::array<char, 64> text{};
  const ssize_t length = read(descriptor->number(), text.data(), text.size());
  std::string id(text.data(), static_cast<size_t>(std::max<ssize_t>(length, 0)));
  while (!id.empty() && id.back() == '\n') id.pop_back();
  return id;
}

}  // namespace millstream::env

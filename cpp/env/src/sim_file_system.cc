#include "millstream/env/sim_file_system.h"

#include <algorithm>
#include <utility>

#include "millstream/base/check.h"
#include "millstream/env/file_util.h"

namespace millstream::env {
namespace {

constexpr std::array<std::string_view, SimFileSystem::kOperationKinds> kOperationNames = {
    "open for write", "open for read", "read",   "map",   "append", "truncate", "sync",
    "sync folder",    "rename",        "remove", "mkdir", "list",   "stat",     "lock"};

// The names of a path, "." left out, so that "./a" and "a" and "/a" are one file.
std::vector<std::string_view> NamesOf(std::string_view path) {
  std::vector<std::string_view> names;
  while (!path.empty()) {
    const size_t slash = path.find('/');
    const std::string_view name = path.substr(0, slash);
    if (!name.empty() && name != ".") names.push_back(name);
    path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
  }
  return names;
}

void MarkDirty(std::set<uint64_t>& sectors, uint64_t begin, uint64_t end) {
  if (begin >= end) return;
  const uint64_t last = (end - 1) / SimFileSystem::kSectorBytes;
  for (uint64_t sector = begin / SimFileSystem::kSectorBytes; sector <= last; ++sector) sectors.insert(sector);
}

// Copies one sector from `from` into `to`, which is long enough; zeros where `from` has ended.
void CopySector(const std::string& from, std::string& to, uint64_t sector) {
  const uint64_t begin = sector * SimFileSystem::kSectorBytes;
  const uint64_t end = std::min<uint64_t>(begin + SimFileSystem::kSectorBytes, to.size());
  for (uint64_t i = begin; i < end; ++i) to[i] = i < from.size() ? from[i] : '\0';
}

}  // namespace

class SimFileSystem::Writable final : public WritableFile {
 public:
  Writable(SimFileSystem* files, NodePtr node, std::string path, uint64_t generation, uint64_t size)
      : files_(files), node_(std::move(node)), path_(std::move(path)), generation_(generation), size_(size) {}

  Status Append(std::span<const std::string_view> parts) override {
    return files_->AppendTo(*node_, path_, generation_, &size_, parts);
  }
  Status Truncate(uint64_t bytes) override { return files_->TruncateTo(*node_, path_, generation_, &size_, bytes); }
  Status Sync() override { return files_->SyncFile(*node_, path_, generation_); }
  Status SyncData() override { return files_->SyncFile(*node_, path_, generation_); }
  uint64_t size() const override { return size_; }

 private:
  SimFileSystem* files_;
  NodePtr node_;
  std::string path_;
  uint64_t generation_;
  uint64_t size_;
};

class SimFileSystem::Readable final : public ReadableFile {
 public:
  Readable(SimFileSystem* files, NodePtr node, std::string path, uint64_t generation)
      : files_(files), node_(std::move(node)), path_(std::move(path)), generation_(generation) {}

  Result<size_t> Read(uint64_t position, std::span<char> out) const override {
    const MutexLock lock(files_->mutex_);
    MS_RETURN_IF_ERROR(files_->CheckGeneration(generation_));
    MS_RETURN_IF_ERROR(files_->Begin(Operation::kRead, path_).status);
    const std::string& bytes = node_->current;
    if (position >= bytes.size()) return size_t{0};
    const size_t count = std::min<size_t>(out.size(), bytes.size() - position);
    std::copy_n(bytes.data() + position, count, out.data());
    return count;
  }
  Result<uint64_t> Size() const override {
    const MutexLock lock(files_->mutex_);
    MS_RETURN_IF_ERROR(files_->CheckGeneration(generation_));
    MS_RETURN_IF_ERROR(files_->Begin(Operation::kStat, path_).status);
    return uint64_t{node_->current.size()};
  }

 private:
  SimFileSystem* files_;
  NodePtr node_;
  std::string path_;
  uint64_t generation_;
};

// The bytes as they were when the file was mapped, which for files that no longer change is the same.
class SimFileSystem::Mapped final : public MappedFile {
 public:
  explicit Mapped(std::string bytes) : bytes_(std::move(bytes)) {}
  std::string_view bytes() const override { return bytes_; }

 private:
  std::string bytes_;
};

class SimFileSystem::Lock final : public FolderLock {
 public:
  Lock(SimFileSystem* files, NodePtr folder, uint64_t generation)
      : files_(files), folder_(std::move(folder)), generation_(generation) {}
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  ~Lock() override {
    const MutexLock lock(files_->mutex_);
    if (generation_ == files_->generation_) folder_->locked = false;
  }

 private:
  SimFileSystem* files_;
  NodePtr folder_;
  uint64_t generation_;
};

SimFileSystem::SimFileSystem(uint64_t seed) : random_(seed), root_(std::make_shared<Node>()) {
  root_->is_folder = true;
}

SimFileSystem::~SimFileSystem() = default;

// --- the operations ---

SimFileSystem::Verdict SimFileSystem::Begin(Operation kind, std::string_view path) {
  if (down_)
    return {Unavailable("{} {}: the simulated machine is down", kOperationNames[static_cast<size_t>(kind)], path),
            false, false};
  const auto index = static_cast<size_t>(kind);
  ++operations_;
  ++operations_of_[index];
  if (operations_ == crash_at_) {
    down_ = true;
    crashed_in_ = kind;
    return {Unavailable("{} {}: the simulated machine goes down", kOperationNames[index], path), random_.Below(2) == 0,
            true};
  }
  if (operations_ == fail_at_) return {fail_at_status_, false, true};
  if (fail_next_[index] > 0) {
    --fail_next_[index];
    return {fail_next_status_[index], false, true};
  }
  return {};
}

Status SimFileSystem::CheckGeneration(uint64_t generation) const {
  return generation == generation_ ? Status::Ok() : Unavailable("the handle is from before the simulated crash");
}

Result<SimFileSystem::Place> SimFileSystem::Find(std::string_view path) const {
  const std::vector<std::string_view> names = NamesOf(path);
  if (names.empty()) return Place{root_, "", root_};
  NodePtr folder = root_;
  for (size_t i = 0; i + 1 < names.size(); ++i) {
    const auto found = folder->names.find(std::string(names[i]));
    if (found == folder->names.end()) return NotFound("{}: there is no folder {}", path, names[i]);
    if (!found->second->is_folder) return FailedPrecondition("{}: {} is not a folder", path, names[i]);
    folder = found->second;
  }
  const auto found = folder->names.find(std::string(names.back()));
  return Place{folder, std::string(names.back()), found == folder->names.end() ? nullptr : found->second};
}

Result<SimFileSystem::NodePtr> SimFileSystem::FindFile(std::string_view path) const {
  MS_ASSIGN_OR_RETURN(const Place place, Find(path));
  if (place.node == nullptr) return NotFound("{}: no such file", path);
  if (place.node->is_folder) return FailedPrecondition("{} is a folder", path);
  return place.node;
}

Result<SimFileSystem::NodePtr> SimFileSystem::FindFolder(std::string_view path) const {
  MS_ASSIGN_OR_RETURN(const Place place, Find(path));
  if (place.node == nullptr) return NotFound("{}: no such folder", path);
  if (!place.node->is_folder) return FailedPrecondition("{} is not a folder", path);
  return place.node;
}

Result<std::unique_ptr<WritableFile>> SimFileSystem::OpenForWrite(const std::string& path, OpenMode mode) {
  const MutexLock lock(mutex_);
  const Verdict verdict = Begin(Operation::kOpenForWrite, path);
  if (!verdict.takes_effect) return verdict.status;
  MS_ASSIGN_OR_RETURN(const Place place, Find(path));
  NodePtr node = place.node;
  if (node != nullptr && node->is_folder) return FailedPrecondition("{} is a folder", path);
  if (node != nullptr && mode == OpenMode::kCreate) return AlreadyExists("{} exists already", path);
  if (node == nullptr && mode == OpenMode::kAppend) return NotFound("{}: no such file", path);
  if (node == nullptr) {
    node = std::make_shared<Node>();
    place.folder->names[place.name] = node;
    place.folder->changes.push_back({"", place.name, node});
  } else if (mode == OpenMode::kTruncate) {
    MarkDirty(node->dirty_sectors, 0, node->current.size());
    node->current.clear();
    node->size_dirty = true;
  }
  if (!verdict.status.ok()) return verdict.status;
  return std::make_unique<Writable>(this, node, path, generation_, node->current.size());
}

Status SimFileSystem::AppendTo(Node& file, const std::string& path, uint64_t generation, uint64_t* size,
                               std::span<const std::string_view> parts) {
  const MutexLock lock(mutex_);
  MS_RETURN_IF_ERROR(CheckGeneration(generation));
  const Verdict verdict = Begin(Operation::kAppend, path);
  std::string bytes;
  for (const std::string_view part : parts) bytes += part;
  const uint64_t wanted = bytes.size();
  Status status = verdict.status;
  if (!status.ok() && !verdict.in_part) return status;
  if (!status.ok()) bytes.resize(random_.Below(wanted + 1));
  const uint64_t used = UsedBytes();
  const uint64_t free = used >= capacity_bytes_ ? 0 : capacity_bytes_ - used;
  const uint64_t growth = *size + bytes.size() > file.current.size() ? *size + bytes.size() - file.current.size() : 0;
  if (growth > free) {
    bytes.resize(bytes.size() - (growth - free));
    if (status.ok()) status = ResourceExhausted("append {}: no space left on the simulated device", path);
  }
  if (!bytes.empty()) {
    const uint64_t end = *size + bytes.size();
    MarkDirty(file.dirty_sectors, std::min<uint64_t>(*size, file.current.size()), end);
    if (file.current.size() < end) file.current.resize(end, '\0');
    std::copy(bytes.begin(), bytes.end(), file.current.begin() + static_cast<std::ptrdiff_t>(*size));
    file.size_dirty = true;
  }
  if (status.ok()) *size += wanted;
  return status;
}

Status SimFileSystem::TruncateTo(Node& file, const std::string& path, uint64_t generation, uint64_t* size,
                                 uint64_t bytes) {
  const MutexLock lock(mutex_);
  MS_RETURN_IF_ERROR(CheckGeneration(generation));
  const Verdict verdict = Begin(Operation::kTruncate, path);
  if (!verdict.takes_effect) return verdict.status;
  const uint64_t before = file.current.size();
  MarkDirty(file.dirty_sectors, std::min(before, bytes), std::max(before, bytes));
  file.current.resize(bytes, '\0');
  file.size_dirty = true;
  *size = bytes;
  return verdict.status;
}

Status SimFileSystem::SyncFile(Node& file, const std::string& path, uint64_t generation) {
  const MutexLock lock(mutex_);
  MS_RETURN_IF_ERROR(CheckGeneration(generation));
  const Verdict verdict = Begin(Operation::kSync, path);
  // A machine that goes down before the sync leaves all as dirty as it was.
  if (!verdict.takes_effect && down_) return verdict.status;
  // A failed sync: some sectors happened to get through, none is dirty any more, and the size stays the old one.
  if (verdict.takes_effect) file.durable.resize(file.current.size(), '\0');
  for (const uint64_t sector : file.dirty_sectors) {
    if (verdict.takes_effect || random_.Below(2) == 0) CopySector(file.current, file.durable, sector);
  }
  file.dirty_sectors.clear();
  file.size_dirty = false;
  return verdict.status;
}

Result<std::unique_ptr<ReadableFile>> SimFileSystem::OpenForRead(const std::string& path) {
  const MutexLock lock(mutex_);
  MS_RETURN_IF_ERROR(Begin(Operation::kOpenForRead, path).status);
  MS_ASSIGN_OR_RETURN(NodePtr node, FindFile(path));
  return std::make_unique<Readable>(this, std::move(node), path, generation_);
}

Result<std::unique_ptr<MappedFile>> SimFileSystem::Map(const std::string& path) {
  const MutexLock lock(mutex_);
  MS_RETURN_IF_ERROR(Begin(Operation::kMap, path).status);
  MS_ASSIGN_OR_RETURN(const NodePtr node, FindFile(path));
  return std::make_unique<Mapped>(node->current);
}

Status SimFileSystem::Rename(const std::string& from, const std::string& to) {
  const MutexLock lock(mutex_);
  const Verdict verdict = Begin(Operation::kRename, from);
  if (!verdict.takes_effect) return verdict.status;
  MS_ASSIGN_OR_RETURN(const Place source, Find(from));
  MS_ASSIGN_OR_RETURN(const Place target, Find(to));
  if (source.node == nullptr) return NotFound("rename {}: no such file", from);
  if (target.node == source.node) return verdict.status;
  if (target.node != nullptr) {
    if (target.node->is_folder != source.node->is_folder || !target.node->names.empty()) {
      return FailedPrecondition("rename {} to {}: the target is in the way", from, to);
    }
  }
  source.folder->names.erase(source.name);
  target.folder->names[target.name] = source.node;
  if (source.folder == target.folder) {
    source.folder->changes.push_back({source.name, target.name, source.node});
  } else {
    target.folder->changes.push_back({"", target.name, source.node});
    source.folder->changes.push_back({source.name, "", nullptr});
  }
  return verdict.status;
}

Status SimFileSystem::Remove(const std::string& path) {
  const MutexLock lock(mutex_);
  const Verdict verdict = Begin(Operation::kRemove, path);
  if (!verdict.takes_effect) return verdict.status;
  MS_ASSIGN_OR_RETURN(const Place place, Find(path));
  if (place.node == nullptr) return NotFound("remove {}: no such file", path);
  if (place.name.empty() || !place.node->names.empty()) return FailedPrecondition("remove {}: it is not empty", path);
  place.folder->names.erase(place.name);
  place.folder->changes.push_back({place.name, "", nullptr});
  return verdict.status;
}

Status SimFileSystem::MakeFolder(const std::string& path) {
  const MutexLock lock(mutex_);
  const Verdict verdict = Begin(Operation::kMakeFolder, path);
  if (!verdict.takes_effect) return verdict.status;
  MS_ASSIGN_OR_RETURN(const Place place, Find(path));
  if (place.node != nullptr) return AlreadyExists("mkdir {}: it exists already", path);
  const auto node = std::make_shared<Node>();
  node->is_folder = true;
  place.folder->names[place.name] = node;
  place.folder->changes.push_back({"", place.name, node});
  return verdict.status;
}

Status SimFileSystem::SyncFolder(const std::string& path) {
  const MutexLock lock(mutex_);
  const Verdict verdict = Begin(Operation::kSyncFolder, path);
  if (!verdict.takes_effect) return verdict.status;
  MS_ASSIGN_OR_RETURN(const NodePtr folder, FindFolder(path));
  folder->durable_names = folder->names;
  folder->changes.clear();
  return verdict.status;
}

Result<std::vector<FolderEntry>> SimFileSystem::List(const std::string& path) {
  const MutexLock lock(mutex_);
  MS_RETURN_IF_ERROR(Begin(Operation::kList, path).status);
  MS_ASSIGN_OR_RETURN(const NodePtr folder, FindFolder(path));
  std::vector<FolderEntry> entries;
  for (const auto& [name, node] : folder->names) entries.push_back({name, node->is_folder});
  return entries;
}

Result<bool> SimFileSystem::Exists(const std::string& path) {
  const MutexLock lock(mutex_);
  MS_RETURN_IF_ERROR(Begin(Operation::kStat, path).status);
  const auto place = Find(path);
  if (!place.ok() && place.status().code() == StatusCode::kNotFound) return false;
  if (!place.ok()) return place.status();
  return place->node != nullptr;
}

Result<uint64_t> SimFileSystem::FileSize(const std::string& path) {
  const MutexLock lock(mutex_);
  MS_RETURN_IF_ERROR(Begin(Operation::kStat, path).status);
  MS_ASSIGN_OR_RETURN(const NodePtr node, FindFile(path));
  return uint64_t{node->current.size()};
}

Result<uint64_t> SimFileSystem::FreeBytes(const std::string& path) {
  const MutexLock lock(mutex_);
  MS_RETURN_IF_ERROR(Begin(Operation::kStat, path).status);
  const uint64_t used = UsedBytes();
  return used >= capacity_bytes_ ? uint64_t{0} : capacity_bytes_ - used;
}

Result<std::unique_ptr<FolderLock>> SimFileSystem::LockFolder(const std::string& path) {
  const MutexLock lock(mutex_);
  MS_RETURN_IF_ERROR(Begin(Operation::kLock, path).status);
  MS_ASSIGN_OR_RETURN(const NodePtr folder, FindFolder(path));
  if (folder->locked) return FailedPrecondition("{} is open in another process", path);
  folder->locked = true;
  return std::make_unique<Lock>(this, folder, generation_);
}

std::string SimFileSystem::BootId() {
  const MutexLock lock(mutex_);
  return fmt::format("simulated-boot-{}", boot_);
}

// --- the faults ---

uint64_t SimFileSystem::operations() const {
  const MutexLock lock(mutex_);
  return operations_;
}

uint64_t SimFileSystem::operations(Operation kind) const {
  const MutexLock lock(mutex_);
  return operations_of_[static_cast<size_t>(kind)];
}

void SimFileSystem::CrashAt(uint64_t operation) {
  const MutexLock lock(mutex_);
  crash_at_ = operation;
}

bool SimFileSystem::crashed() const {
  const MutexLock lock(mutex_);
  return down_;
}

SimFileSystem::Operation SimFileSystem::crashed_in() const {
  const MutexLock lock(mutex_);
  return crashed_in_;
}

void SimFileSystem::FailAt(uint64_t operation, Status status) {
  MS_CHECK(!status.ok());
  const MutexLock lock(mutex_);
  fail_at_ = operation;
  fail_at_status_ = std::move(status);
}

void SimFileSystem::FailNext(Operation kind, Status status, uint64_t times) {
  MS_CHECK(!status.ok());
  const MutexLock lock(mutex_);
  fail_next_[static_cast<size_t>(kind)] = times;
  fail_next_status_[static_cast<size_t>(kind)] = std::move(status);
}

void SimFileSystem::SetCapacity(uint64_t bytes) {
  const MutexLock lock(mutex_);
  capacity_bytes_ = bytes;
}

uint64_t SimFileSystem::used_bytes() const {
  const MutexLock lock(mutex_);
  return UsedBytes();
}

uint64_t SimFileSystem::UsedBytes() const {
  uint64_t bytes = 0;
  std::vector<const Node*> folders = {root_.get()};
  while (!folders.empty()) {
    const Node* folder = folders.back();
    folders.pop_back();
    for (const auto& [name, node] : folder->names) {
      if (node->is_folder) {
        folders.push_back(node.get());
      } else {
        bytes += node->current.size();
      }
    }
  }
  return bytes;
}

void SimFileSystem::Restart() {
  ++generation_;
  down_ = false;
  crash_at_ = 0;
  fail_at_ = 0;
  fail_next_.fill(0);
  std::vector<Node*> folders = {root_.get()};
  while (!folders.empty()) {
    Node* folder = folders.back();
    folders.pop_back();
    folder->locked = false;
    for (const auto& [name, node] : folder->names) {
      if (node->is_folder) folders.push_back(node.get());
    }
  }
}

void SimFileSystem::ProcessDeath() {
  const MutexLock lock(mutex_);
  Restart();
}

void SimFileSystem::PowerCut() {
  const MutexLock lock(mutex_);
  CutFolder(*root_, 0);
  ++boot_;
  Restart();
}

void SimFileSystem::CutFile(Node& file) {
  const uint64_t old_size = file.durable.size();
  const uint64_t new_size = file.current.size();
  uint64_t size = old_size;
  if (file.size_dirty) {
    const uint64_t low = std::min(old_size, new_size);
    const uint64_t high = std::max(old_size, new_size);
    switch (random_.Below(3)) {
      case 0:
        break;
      case 1:
        size = new_size;
        break;
      default:
        size = low + random_.Below(high - low + 1);
    }
  }
  std::string after = file.durable;
  after.resize(size, '\0');
  for (const uint64_t sector : file.dirty_sectors) {
    switch (random_.Below(3)) {
      case 0:
        CopySector(file.current, after, sector);
        break;
      case 1:
        break;
      default: {
        const uint64_t end = std::min<uint64_t>((sector + 1) * kSectorBytes, size);
        for (uint64_t i = sector * kSectorBytes; i < end; ++i) after[i] = static_cast<char>(random_.Below(256));
      }
    }
  }
  file.durable = after;
  file.current = std::move(after);
  file.dirty_sectors.clear();
  file.size_dirty = false;
}

void SimFileSystem::CutFolder(Node& folder, int depth) {
  MS_CHECK(depth <= kFolderDepthMax);
  for (const NameChange& change : folder.changes) {
    if (random_.Below(2) == 0) continue;
    if (!change.removed.empty()) folder.durable_names.erase(change.removed);
    if (!change.added.empty()) folder.durable_names[change.added] = change.node;
  }
  folder.changes.clear();
  folder.names = folder.durable_names;
  for (const auto& [name, node] : folder.names) {
    if (node->is_folder) {
      CutFolder(*node, depth + 1);
    } else {
      CutFile(*node);
    }
  }
}

Result<std::string> SimFileSystem::Contents(const std::string& path) const {
  const MutexLock lock(mutex_);
  MS_ASSIGN_OR_RETURN(const NodePtr node, FindFile(path));
  return node->current;
}

Status SimFileSystem::Overwrite(const std::string& path, std::string_view bytes) {
  const MutexLock lock(mutex_);
  MS_ASSIGN_OR_RETURN(const Place place, Find(path));
  if (place.node != nullptr && place.node->is_folder) return FailedPrecondition("{} is a folder", path);
  const NodePtr node = place.node != nullptr ? place.node : std::make_shared<Node>();
  node->current = bytes;
  node->durable = bytes;
  node->dirty_sectors.clear();
  node->size_dirty = false;
  place.folder->names[place.name] = node;
  place.folder->durable_names[place.name] = node;
  return Status::Ok();
}

}  // namespace millstream::env

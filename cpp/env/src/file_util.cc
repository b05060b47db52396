#include "millstream/env/file_util.h"

#include <memory>
#include <span>
#include <utility>

namespace millstream::env {
namespace {

Status RemoveTreeBelow(FileSystem& files, const std::string& path, int depth) {
  if (depth > kFolderDepthMax) {
    return ResourceExhausted("folders below {} are nested more than {} deep", path, kFolderDepthMax);
  }
  auto entries = files.List(path);
  if (!entries.ok()) {
    // Not a folder: a file goes by itself.
    if (entries.status().code() == StatusCode::kFailedPrecondition) return files.Remove(path);
    return std::move(entries).status();
  }
  for (const FolderEntry& entry : *entries) {
    const std::string child = JoinPath(path, entry.name);
    MS_RETURN_IF_ERROR(entry.is_folder ? RemoveTreeBelow(files, child, depth + 1) : files.Remove(child));
  }
  return files.Remove(path);
}

}  // namespace

std::string JoinPath(std::string_view folder, std::string_view name) {
  std::string path(folder);
  if (!path.empty() && path.back() != '/') path.push_back('/');
  path += name;
  return path;
}

std::string ParentFolder(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return slash == 0 ? "/" : std::string(path.substr(0, slash));
}

Result<std::string> ReadFile(FileSystem& files, const std::string& path, uint64_t bytes_max) {
  MS_ASSIGN_OR_RETURN(const std::unique_ptr<ReadableFile> file, files.OpenForRead(path));
  MS_ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  if (size > bytes_max) {
    return ResourceExhausted("{} holds {} bytes; at most {} are read at once", path, size, bytes_max);
  }
  std::string bytes(size, '\0');
  MS_ASSIGN_OR_RETURN(const size_t read, file->Read(0, bytes));
  bytes.resize(read);
  return bytes;
}

Status WriteFileAtomically(FileSystem& files, const std::string& path, std::string_view bytes) {
  const std::string temporary = path + ".tmp";
  {
    MS_ASSIGN_OR_RETURN(const std::unique_ptr<WritableFile> file, files.OpenForWrite(temporary, OpenMode::kTruncate));
    MS_RETURN_IF_ERROR(file->Append(bytes));
    MS_RETURN_IF_ERROR(file->Sync());
  }
  MS_RETURN_IF_ERROR(files.Rename(temporary, path));
  return files.SyncFolder(ParentFolder(path));
}

Status MakeFolders(FileSystem& files, const std::string& path) {
  std::vector<std::string> missing;
  std::string at = path;
  while (true) {
    MS_ASSIGN_OR_RETURN(const bool exists, files.Exists(at));
    if (exists) break;
    if (missing.size() >= static_cast<size_t>(kFolderDepthMax)) {
      return ResourceExhausted("{} has more than {} missing ancestors", path, kFolderDepthMax);
    }
    missing.push_back(at);
    at = ParentFolder(at);
  }
  for (auto folder = missing.rbegin(); folder != missing.rend(); ++folder) {
    const Status made = files.MakeFolder(*folder);
    // Somebody else may have made it meanwhile.
    if (!made.ok() && made.code() != StatusCode::kAlreadyExists) return made;
    MS_RETURN_IF_ERROR(files.SyncFolder(ParentFolder(*folder)));
  }
  return Status::Ok();
}

Status RemoveTree(FileSystem& files, const std::string& path) {
  MS_ASSIGN_OR_RETURN(const bool exists, files.Exists(path));
  return exists ? RemoveTreeBelow(files, path, 0) : Status::Ok();
}

}  // namespace millstream::env

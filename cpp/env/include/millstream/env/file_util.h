// What many modules do with a FileSystem.
//
// Errors      Those of FileSystem.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "millstream/env/file_system.h"

namespace millstream::env {

// How deep RemoveTree follows folders.
inline constexpr int kFolderDepthMax = 32;

// "folder/name"; `folder` may end in a slash.
std::string JoinPath(std::string_view folder, std::string_view name);

// The folder that holds `path`: "." for a bare name.
std::string ParentFolder(std::string_view path);

// The file's bytes; kResourceExhausted when it holds more than `bytes_max`.
Result<std::string> ReadFile(FileSystem& files, const std::string& path, uint64_t bytes_max);

// Makes `path` hold `bytes`: after a crash at any instant it holds either its old bytes or all the new ones, and after
// OK the new ones. Uses path + ".tmp".
Status WriteFileAtomically(FileSystem& files, const std::string& path, std::string_view bytes);

// Makes the folder and its missing ancestors, durably. OK when it is there already.
Status MakeFolders(FileSystem& files, const std::string& path);

// Removes a file, or a folder with all that is in it; OK when there is nothing. Not atomic: a crash may leave a part.
Status RemoveTree(FileSystem& files, const std::string& path);

}  // namespace millstream::env

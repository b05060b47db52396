// PageWriter and PageReader: files of pages, each with its own checksum, written once.
//
// Layout      Eight bytes of magic, then pages: length (u32), CRC32C (u32) of the page's position (u64) and payload,
//             then the payload; all little-endian. Whoever refers to a page keeps its position and its payload's
//             length. docs/formats/block.md draws it.
// Errors      Reading: kDataLoss naming file and position when the bytes are not what was written.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "millstream/base/result.h"
#include "millstream/env/file_system.h"

namespace millstream::tsdb {

inline constexpr size_t kMagicBytes = 8;
inline constexpr size_t kPageHeaderBytes = 8;
// What a page aims at, unless one item alone is larger.
inline constexpr size_t kPageBytesTarget = 64 * 1024;
inline constexpr uint64_t kPageBytesMax = uint64_t{256} << 20;

struct PageRef {
  uint64_t position = 0;
  uint32_t bytes = 0;  // of the payload
};

// Threads     One at a time.
class PageWriter {
 public:
  // Creates the file; it must not exist.
  static Result<std::unique_ptr<PageWriter>> Create(env::FileSystem& files, std::string path, std::string_view magic);

  Result<PageRef> Add(std::string_view payload);
  // Brings everything to the disk.
  Status Finish();
  uint64_t bytes() const { return file_->size() + buffer_.size(); }

 private:
  PageWriter(std::unique_ptr<env::WritableFile> file, std::string_view magic)
      : file_(std::move(file)), buffer_(magic) {}
  Status Flush();

  std::unique_ptr<env::WritableFile> file_;
  std::string buffer_;
};

// Threads     Any number.
class PageReader {
 public:
  static Result<std::unique_ptr<PageReader>> Open(env::FileSystem& files, std::string path, std::string_view magic);

  Result<std::string> Read(PageRef page) const;
  // The page at `position`, whatever its length; *next is where the page behind begins.
  Result<std::string> ReadNext(uint64_t position, uint64_t* next) const;

  const std::string& path() const { return path_; }
  uint64_t bytes() const { return bytes_; }

 private:
  PageReader(std::unique_ptr<env::ReadableFile> file, std::string path, uint64_t bytes)
      : file_(std::move(file)), path_(std::move(path)), bytes_(bytes) {}
  Status ReadExactly(uint64_t position, std::string* out) const;

  const std::unique_ptr<env::ReadableFile> file_;
  const std::string path_;
  const uint64_t bytes_;
};

}  // namespace millstream::tsdb

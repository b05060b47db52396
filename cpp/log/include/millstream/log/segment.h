// The bytes of a segment file: encoding, decoding, and walking through the batches.
//
// Source      docs/formats/log.md draws the layout; the comments here only name its parts.
// Threads     Functions are pure; a SegmentScanner belongs to one thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/base/strong_int.h"
#include "millstream/env/file_system.h"

namespace millstream::log {

inline constexpr uint64_t kSegmentHeaderBytes = 40;
inline constexpr uint64_t kBatchHeaderBytes = 48;
inline constexpr uint64_t kRecordLengthBytes = 4;
// At least what a disk or the kernel writes as a whole. Bytes that a sync has covered never share one with later bytes.
inline constexpr uint64_t kSectorBytes = 4096;

// The end of the sector that `position` is in; `position` itself where one begins.
constexpr uint64_t SectorEnd(uint64_t position) {
  return (position + kSectorBytes - 1) / kSectorBytes * kSectorBytes;
}

// "00000000000000001234.log"
std::string SegmentName(Offset first);
std::optional<Offset> ParseSegmentName(std::string_view name);
// "00000000000000001234.next": the segment's name until it and all before it are on the disk.
std::string NextSegmentName(Offset first);
std::optional<Offset> ParseNextSegmentName(std::string_view name);

// What the name of a rewritten segment says: it holds the records from `first` to before `end`, and stands for every
// segment of a lower generation that begins there.
struct RewrittenName {
  Offset first;
  Offset end;
  uint32_t generation = 0;  // from 1 on
  friend bool operator==(const RewrittenName&, const RewrittenName&) = default;
};
// "00000000000000001234-00000000000000005678.00000001.log"
std::string RewrittenSegmentName(const RewrittenName& name);
std::optional<RewrittenName> ParseRewrittenSegmentName(std::string_view name);

struct SegmentHeader {
  Offset first;
  uint64_t boot = 0;
  uint64_t salt = 0;
  friend bool operator==(const SegmentHeader&, const SegmentHeader&) = default;
};

enum class BatchKind : uint8_t {
  kRecords = 1,
  kMark = 2,  // no records: says what was on the disk and which boot of the machine it was
  kGap = 3,   // of a rewritten segment: `count` offsets whose records are gone
};

struct BatchHeader {
  BatchKind kind = BatchKind::kRecords;
  uint32_t body_bytes = 0;
  uint32_t count = 0;
  Offset first;       // of a mark: of the next record
  Offset synced;      // every record below was on the disk when this batch was written
  uint64_t boot = 0;  // which run of the machine wrote it
  uint32_t body_crc = 0;
  friend bool operator==(const BatchHeader&, const BatchHeader&) = default;
};

std::array<char, kSegmentHeaderBytes> EncodeSegmentHeader(const SegmentHeader& header);
// None when the bytes are no intact segment header.
std::optional<SegmentHeader> DecodeSegmentHeader(std::string_view bytes);

// `salt` is the segment's: bytes copied from another segment, or made up by a client, are no header here.
std::array<char, kBatchHeaderBytes> EncodeBatchHeader(const BatchHeader& header, uint64_t salt);
// None when the bytes are no intact batch header of this segment.
std::optional<BatchHeader> DecodeBatchHeader(std::string_view bytes, uint64_t salt);

void AppendRecordLength(std::string* out, uint32_t length);
// Takes the first record off an intact body.
std::string_view TakeRecord(std::string_view* body);

// A file seen through a buffer that moves along with its reader.
class FileWindow {
 public:
  explicit FileWindow(const env::ReadableFile* file) : file_(file) {}

  // The `count` bytes at `position`, which with all up to `limit` are in the file; valid until the next call.
  Result<std::string_view> View(uint64_t position, uint64_t count, uint64_t limit);

 private:
  const env::ReadableFile* file_;
  std::unique_ptr<char[]> buffer_;
  uint64_t room_ = 0;   // of buffer_
  uint64_t bytes_ = 0;  // in it
  uint64_t begin_ = 0;  // where these are in the file
};

// Where a reader may start inside a segment, instead of at its beginning.
struct IndexEntry {
  Offset offset;
  uint64_t position = 0;
};

// How far apart index entries are at least.
inline constexpr uint64_t kIndexBytes = 1 << 20;

// What the log knows of one of its files.
struct Segment {
  Offset first;
  std::string path;
  std::string next_path;  // where the file is until it is renamed to `path`; empty afterwards
  uint64_t bytes = 0;     // of the last segment: when it was opened
  uint64_t salt = 0;
  uint32_t generation = 0;        // 0: as it was appended
  Offset rewritten_end;           // of a rewritten one
  std::vector<IndexEntry> index;  // ascending; of what was scanned or written since the log was opened

  void NoteBatch(Offset offset, uint64_t position);
};

// Walks through the batches of one segment and checks every byte.
class SegmentScanner {
 public:
  enum class What {
    kBatch,  // an intact batch
    kEnd,    // the limit, after a whole batch
    kShort,  // the limit, in the middle of what is intact so far
    kBad,    // bytes that were not written so
  };
  struct Item {
    What what = What::kEnd;
    uint64_t position = 0;  // where the batch, or what is wrong, begins
    BatchHeader header;     // of kBatch; of kBad when the header is intact and the body is not
    bool has_header = false;
    std::string_view body;  // of kBatch; valid until the next call
    std::string reason;     // of kShort and kBad
  };

  // Starts at the batch at `position`, whose first record must be `expected`.
  SegmentScanner(const env::ReadableFile* file, uint64_t salt, uint64_t position, Offset expected)
      : window_(file), salt_(salt), position_(position), expected_(expected) {}

  // The next batch among the first `limit` bytes. After kShort, kBad or an error it stays where it is. Allocates only
  // for bytes that are there.
  Result<Item> Next(uint64_t limit);

  uint64_t position() const { return position_; }
  // The offset of the next record.
  Offset expected() const { return expected_; }

 private:
  FileWindow window_;
  uint64_t salt_;
  uint64_t position_;
  Offset expected_;
};

}  // namespace millstream::log

// An id run: which ids clients gave to the events of a range of offsets, as a file in which one is found by a few
// reads.
//
// It holds a hash of each id and the offset of its event, ascending, in blocks with a checksum each. Hashes are spread
// evenly, so that the place of one is guessed; where they are not, the search bisects.
//
// Threads     Pure functions and immutable objects.
// Invariants  (1) What is answered comes from blocks whose checksums are right.
// Cost        Find: two or three reads of a block of 4 KiB, at most some 30.
// Errors      kDataLoss for bytes that EncodeIdRun does not make; those of the file.
// Source      docs/formats/events.md draws the file.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/env/file_system.h"

namespace millstream::events {

struct IdEntry {
  uint64_t hash = 0;
  uint64_t offset = 0;
  friend auto operator<=>(const IdEntry&, const IdEntry&) = default;
};

// The most entries of one run.
inline constexpr uint64_t kIdRunEntriesMax = 1 << 20;

// `entries` ascend; offsets are from `first` to before `end`.
std::string EncodeIdRun(uint64_t first, uint64_t end, std::span<const IdEntry> entries);

// How many entries a file of this size has; none when no run has it.
std::optional<uint64_t> IdRunEntriesIn(uint64_t file_bytes);

class IdRunFile {
 public:
  static Result<IdRunFile> Open(std::unique_ptr<env::ReadableFile> file);

  uint64_t first() const { return first_; }
  uint64_t end() const { return end_; }
  uint64_t count() const { return count_; }

  // The offsets of this hash, ascending.
  Result<std::vector<uint64_t>> Find(uint64_t hash) const;
  Result<std::vector<IdEntry>> ReadAll() const;

 private:
  IdRunFile() = default;
  uint64_t blocks() const;
  Result<std::vector<IdEntry>> ReadBlock(uint64_t index) const;
  // A block that the hash is in, if any has it; `entries` are that block's.
  Result<std::optional<uint64_t>> FindBlock(uint64_t hash, std::vector<IdEntry>* entries) const;

  std::unique_ptr<env::ReadableFile> file_;
  uint64_t first_ = 0;
  uint64_t end_ = 0;
  uint64_t count_ = 0;
  uint32_t seed_ = 0;  // the header's checksum, which those of the blocks go on from
};

}  // namespace millstream::events

#include "id_run.h"

#include <algorithm>
#include <utility>

#include "millstream/base/check.h"
#include "millstream/codec/byte_io.h"
#include "millstream/codec/crc32c.h"

namespace millstream::events {
namespace {

constexpr std::string_view kIdRunMagic = "MSEVIDS1";
constexpr uint64_t kIdHeaderBytes = 36;
constexpr uint64_t kIdEntryBytes = 16;
constexpr uint64_t kIdBlockEntries = 255;
constexpr uint64_t kIdCrcBytes = 4;
constexpr uint64_t kIdBlockBytes = kIdBlockEntries * kIdEntryBytes + kIdCrcBytes;
// So many guesses by the hash's value; then it is bisected.
constexpr int kIdGuessesMax = 8;

uint32_t IdBlockCrc(uint32_t seed, uint64_t index, std::string_view entries) {
  std::string number;
  codec::ByteWriter(&number).U64(index);
  return codec::Crc32cExtend(codec::Crc32cExtend(seed, number), entries);
}

// Fills `out` from `position` on, or kDataLoss.
Status ReadWhole(const env::ReadableFile& file, uint64_t position, std::span<char> out) {
  MS_ASSIGN_OR_RETURN(const size_t read, file.Read(position, out));
  return read == out.size() ? Status::Ok() : DataLoss("a run of ids ends at byte {}", position + read);
}

uint64_t IdBlockSize(uint64_t index, uint64_t count) {
  return std::min(kIdBlockEntries, count - index * kIdBlockEntries);
}

}  // namespace

std::string EncodeIdRun(uint64_t first, uint64_t end, std::span<const IdEntry> entries) {
  MS_CHECK(entries.size() <= kIdRunEntriesMax);
  std::string out;
  const uint64_t blocks = (entries.size() + kIdBlockEntries - 1) / kIdBlockEntries;
  out.reserve(kIdHeaderBytes + entries.size() * kIdEntryBytes + blocks * kIdCrcBytes);
  codec::ByteWriter writer(&out);
  writer.Raw(kIdRunMagic);
  writer.U64(first);
  writer.U64(end);
  writer.U64(entries.size());
  const uint32_t seed = codec::Crc32c(out);
  writer.U32(seed);
  for (uint64_t index = 0; index < blocks; ++index) {
    const size_t begin = out.size();
    for (const IdEntry& entry : entries.subspan(index * kIdBlockEntries, IdBlockSize(index, entries.size()))) {
      writer.U64(entry.hash);
      writer.U64(entry.offset);
    }
    writer.U32(IdBlockCrc(seed, index, std::string_view(out).substr(begin)));
  }
  return out;
}

std::optional<uint64_t> IdRunEntriesIn(uint64_t file_bytes) {
  if (file_bytes < kIdHeaderBytes) return std::nullopt;
  const uint64_t body = file_bytes - kIdHeaderBytes;
  const uint64_t rest = body % kIdBlockBytes;
  if (rest != 0 && (rest <= kIdCrcBytes || (rest - kIdCrcBytes) % kIdEntryBytes != 0)) return std::nullopt;
  const uint64_t count =
      body / kIdBlockBytes * kIdBlockEntries + (rest == 0 ? 0 : (rest - kIdCrcBytes) / kIdEntryBytes);
  return count <= kIdRunEntriesMax ? std::optional(count) : std::nullopt;
}

Result<IdRunFile> IdRunFile::Open(std::unique_ptr<env::ReadableFile> file) {
  std::string header(kIdHeaderBytes, '\0');
  MS_RETURN_IF_ERROR(ReadWhole(*file, 0, header));
  if (!header.starts_with(kIdRunMagic)) return DataLoss("this is no run of ids");
  IdRunFile run;
  codec::ByteReader reader(std::string_view(header).substr(kIdRunMagic.size()));
  MS_CHECK(reader.U64(&run.first_) && reader.U64(&run.end_) && reader.U64(&run.count_) && reader.U32(&run.seed_));
  MS_ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  if (run.seed_ != codec::Crc32c(std::string_view(header).substr(0, kIdHeaderBytes - kIdCrcBytes)) ||
      run.first_ > run.end_ || IdRunEntriesIn(size) != run.count_) {
    return DataLoss("the head of a run of ids is broken");
  }
  run.file_ = std::move(file);
  return run;
}

uint64_t IdRunFile::blocks() const {
  return (count_ + kIdBlockEntries - 1) / kIdBlockEntries;
}

Result<std::vector<IdEntry>> IdRunFile::ReadBlock(uint64_t index) const {
  const uint64_t entries_bytes = IdBlockSize(index, count_) * kIdEntryBytes;
  std::string bytes(entries_bytes + kIdCrcBytes, '\0');
  MS_RETURN_IF_ERROR(ReadWhole(*file_, kIdHeaderBytes + index * kIdBlockBytes, bytes));
  codec::ByteReader reader(bytes);
  std::vector<IdEntry> entries(IdBlockSize(index, count_));
  for (IdEntry& entry : entries) MS_CHECK(reader.U64(&entry.hash) && reader.U64(&entry.offset));
  uint32_t crc = 0;
  MS_CHECK(reader.U32(&crc));
  if (crc != IdBlockCrc(seed_, index, std::string_view(bytes).substr(0, entries_bytes)) ||
      !std::ranges::is_sorted(entries)) {
    return DataLoss("block {} of a run of ids is broken", index);
  }
  return entries;
}

Result<std::optional<uint64_t>> IdRunFile::FindBlock(uint64_t hash, std::vector<IdEntry>* entries) const {
  uint64_t low = 0;
  uint64_t high = blocks();
  double low_hash = 0;
  double high_hash = 0x1p64;
  for (int guesses = 0; low < high; ++guesses) {
    uint64_t middle = low + (high - low) / 2;
    if (guesses < kIdGuessesMax && high_hash > low_hash) {
      const double part = (static_cast<double>(hash) - low_hash) / (high_hash - low_hash);
      const auto guess = static_cast<uint64_t>(std::clamp(part, 0.0, 1.0) * static_cast<double>(high - low));
      middle = std::min(low + guess, high - 1);
    }
    MS_ASSIGN_OR_RETURN(*entries, ReadBlock(middle));
    if (hash < entries->front().hash) {
      high = middle;
      high_hash = static_cast<double>(entries->front().hash);
    } else if (hash > entries->back().hash) {
      low = middle + 1;
      low_hash = static_cast<double>(entries->back().hash);
    } else {
      return std::optional(middle);
    }
  }
  return std::optional<uint64_t>();
}

Result<std::vector<uint64_t>> IdRunFile::Find(uint64_t hash) const {
  std::vector<uint64_t> offsets;
  std::vector<IdEntry> entries;
  MS_ASSIGN_OR_RETURN(const std::optional<uint64_t> found, FindBlock(hash, &entries));
  if (!found.has_value()) return offsets;
  const auto take = [&] {
    for (const IdEntry& entry : std::ranges::equal_range(entries, hash, {}, &IdEntry::hash)) {
      offsets.push_back(entry.offset);
    }
  };
  take();
  // Others of the same hash may be in the blocks before and behind.
  const bool goes_on = entries.back().hash == hash;
  bool came_before = entries.front().hash == hash;
  for (uint64_t index = *found; came_before && index > 0; --index) {
    MS_ASSIGN_OR_RETURN(entries, ReadBlock(index - 1));
    take();
    came_before = entries.front().hash == hash;
  }
  bool comes_behind = goes_on;
  for (uint64_t index = *found + 1; comes_behind && index < blocks(); ++index) {
    MS_ASSIGN_OR_RETURN(entries, ReadBlock(index));
    take();
    comes_behind = entries.back().hash == hash;
  }
  std::ranges::sort(offsets);
  return offsets;
}

Result<std::vector<IdEntry>> IdRunFile::ReadAll() const {
  std::vector<IdEntry> all;
  all.reserve(count_);
  for (uint64_t index = 0; index < blocks(); ++index) {
    MS_ASSIGN_OR_RETURN(const std::vector<IdEntry> entries, ReadBlock(index));
    if (!all.empty() && entries.front() < all.back()) return DataLoss("block {} of a run of ids is broken", index);
    all.insert(all.end(), entries.begin(), entries.end());
  }
  return all;
}

}  // namespace millstream::events

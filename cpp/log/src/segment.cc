#include "millstream/log/segment.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

#include "millstream/base/check.h"
#include "millstream/codec/crc32c.h"
#include "millstream/storage/log.h"

namespace millstream::log {
namespace {

static_assert(std::endian::native == std::endian::little, "integers are stored as they are in memory");

constexpr std::string_view kSegmentMagic = "MSLOGSEG";
constexpr uint32_t kVersion = 1;
constexpr uint32_t kBatchMagic = 0x4342534D;  // "MSBC"
constexpr std::string_view kSuffix = ".log";
constexpr std::string_view kNextSuffix = ".next";
constexpr size_t kNameDigits = 20;
constexpr uint64_t kReadAheadBytes = 256 << 10;

template <typename T>
void Put(char* at, T value) {
  std::memcpy(at, &value, sizeof(value));
}

template <typename T>
T Get(std::string_view bytes, size_t at) {
  T value{};
  MS_CHECK(at + sizeof(value) <= bytes.size());
  std::memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

uint32_t BatchHeaderCrc(std::string_view bytes, uint64_t salt) {
  std::array<char, sizeof(salt)> salted{};
  Put(salted.data(), salt);
  return codec::Crc32cExtend(codec::Crc32c({salted.data(), salted.size()}), bytes.substr(0, 44));
}

// Whether the body is exactly `count` records.
bool IsWellFormed(std::string_view body, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    if (body.size() < kRecordLengthBytes) return false;
    const auto length = Get<uint32_t>(body, 0);
    if (body.size() - kRecordLengthBytes < length) return false;
    body.remove_prefix(kRecordLengthBytes + length);
  }
  return body.empty();
}

bool IsZero(std::string_view bytes) {
  return bytes.find_first_not_of('\0') == std::string_view::npos;
}

std::optional<Offset> ParseName(std::string_view name, std::string_view suffix) {
  if (name.size() != kNameDigits + suffix.size() || !name.ends_with(suffix)) return std::nullopt;
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + kNameDigits, value);
  if (error != std::errc() || end != name.data() + kNameDigits) return std::nullopt;
  return Offset(value);
}

}  // namespace

std::string SegmentName(Offset first) {
  return fmt::format("{:020}{}", first.value(), kSuffix);
}

std::optional<Offset> ParseSegmentName(std::string_view name) {
  return ParseName(name, kSuffix);
}

std::string NextSegmentName(Offset first) {
  return fmt::format("{:020}{}", first.value(), kNextSuffix);
}

std::optional<Offset> ParseNextSegmentName(std::string_view name) {
  return ParseName(name, kNextSuffix);
}

std::string RewrittenSegmentName(const RewrittenName& name) {
  return fmt::format("{:020}-{:020}.{:08}{}", name.first.value(), name.end.value(), name.generation, kSuffix);
}

std::optional<RewrittenName> ParseRewrittenSegmentName(std::string_view name) {
  constexpr size_t kGenerationDigits = 8;
  constexpr size_t kBytes = 2 * kNameDigits + kGenerationDigits + 2 + kSuffix.size();
  if (name.size() != kBytes || !name.ends_with(kSuffix)) return std::nullopt;
  if (name[kNameDigits] != '-' || name[2 * kNameDigits + 1] != '.') return std::nullopt;
  const auto number = [&](size_t at, size_t digits, uint64_t* value) {
    const char* begin = name.data() + at;
    const auto [end, error] = std::from_chars(begin, begin + digits, *value);
    return error == std::errc() && end == begin + digits;
  };
  uint64_t first = 0;
  uint64_t end = 0;
  uint64_t generation = 0;
  if (!number(0, kNameDigits, &first) || !number(kNameDigits + 1, kNameDigits, &end) ||
      !number(2 * kNameDigits + 2, kGenerationDigits, &generation) || first >= end || generation == 0) {
    return std::nullopt;
  }
  return RewrittenName{Offset(first), Offset(end), static_cast<uint32_t>(generation)};
}

std::array<char, kSegmentHeaderBytes> EncodeSegmentHeader(const SegmentHeader& header) {
  std::array<char, kSegmentHeaderBytes> bytes{};
  std::memcpy(bytes.data(), kSegmentMagic.data(), kSegmentMagic.size());
  Put(bytes.data() + 8, header.first.value());
  Put(bytes.data() + 16, header.boot);
  Put(bytes.data() + 24, header.salt);
  Put(bytes.data() + 32, kVersion);
  Put(bytes.data() + 36, codec::Crc32c({bytes.data(), 36}));
  return bytes;
}

std::optional<SegmentHeader> DecodeSegmentHeader(std::string_view bytes) {
  if (bytes.size() < kSegmentHeaderBytes || !bytes.starts_with(kSegmentMagic)) return std::nullopt;
  if (Get<uint32_t>(bytes, 36) != codec::Crc32c(bytes.substr(0, 36))) return std::nullopt;
  if (Get<uint32_t>(bytes, 32) != kVersion) return std::nullopt;
  return SegmentHeader{Offset(Get<uint64_t>(bytes, 8)), Get<uint64_t>(bytes, 16), Get<uint64_t>(bytes, 24)};
}

std::array<char, kBatchHeaderBytes> EncodeBatchHeader(const BatchHeader& header, uint64_t salt) {
  std::array<char, kBatchHeaderBytes> bytes{};
  Put(bytes.data(), kBatchMagic);
  Put(bytes.data() + 4, static_cast<uint32_t>(header.kind));
  Put(bytes.data() + 8, header.body_bytes);
  Put(bytes.data() + 12, header.count);
  Put(bytes.data() + 16, header.first.value());
  Put(bytes.data() + 24, header.synced.value());
  Put(bytes.data() + 32, header.boot);
  Put(bytes.data() + 40, header.body_crc);
  Put(bytes.data() + 44, BatchHeaderCrc({bytes.data(), bytes.size()}, salt));
  return bytes;
}

std::optional<BatchHeader> DecodeBatchHeader(std::string_view bytes, uint64_t salt) {
  if (bytes.size() < kBatchHeaderBytes || Get<uint32_t>(bytes, 0) != kBatchMagic) return std::nullopt;
  if (Get<uint32_t>(bytes, 44) != BatchHeaderCrc(bytes, salt)) return std::nullopt;
  const auto kind = Get<uint32_t>(bytes, 4);
  BatchHeader header{static_cast<BatchKind>(kind),     Get<uint32_t>(bytes, 8),          Get<uint32_t>(bytes, 12),
                     Offset(Get<uint64_t>(bytes, 16)), Offset(Get<uint64_t>(bytes, 24)), Get<uint64_t>(bytes, 32),
                     Get<uint32_t>(bytes, 40)};
  const bool is_mark = kind == static_cast<uint32_t>(BatchKind::kMark) && header.count == 0 && header.body_bytes == 0;
  const bool is_records = kind == static_cast<uint32_t>(BatchKind::kRecords) && header.count > 0 &&
                          header.count <= storage::kLogRecordsPerAppendMax &&
                          header.body_bytes >= header.count * kRecordLengthBytes;
  const bool is_gap = kind == static_cast<uint32_t>(BatchKind::kGap) && header.count > 0 && header.body_bytes == 0;
  if (!is_mark && !is_records && !is_gap) return std::nullopt;
  return header;
}

void AppendRecordLength(std::string* out, uint32_t length) {
  std::array<char, kRecordLengthBytes> bytes{};
  Put(bytes.data(), length);
  out->append(bytes.data(), bytes.size());
}

std::string_view TakeRecord(std::string_view* body) {
  const auto length = Get<uint32_t>(*body, 0);
  MS_CHECK(body->size() - kRecordLengthBytes >= length);
  const std::string_view record = body->substr(kRecordLengthBytes, length);
  body->remove_prefix(kRecordLengthBytes + length);
  return record;
}

void Segment::NoteBatch(Offset offset, uint64_t position) {
  const uint64_t last = index.empty() ? kSegmentHeaderBytes : index.back().position;
  if (position >= last + kIndexBytes) index.push_back({offset, position});
}

Result<std::string_view> FileWindow::View(uint64_t position, uint64_t count, uint64_t limit) {
  MS_CHECK(position + count <= limit);
  if (position < begin_ || position + count > begin_ + bytes_) {
    const uint64_t wanted = std::min(std::max(count, kReadAheadBytes), limit - position);
    // What of it is there already stays.
    const uint64_t end = begin_ + bytes_;
    const uint64_t kept = position >= begin_ && position < end ? end - position : 0;
    const char* const from = buffer_.get() + (bytes_ - kept);
    if (wanted > room_) {
      auto larger = std::make_unique_for_overwrite<char[]>(wanted);
      std::copy_n(from, kept, larger.get());
      buffer_ = std::move(larger);
      room_ = wanted;
    } else if (kept > 0) {
      std::memmove(buffer_.get(), from, kept);
    }
    begin_ = position;
    bytes_ = 0;
    auto read = file_->Read(position + kept, std::span(buffer_.get() + kept, wanted - kept));
    if (!read.ok()) return std::move(read).status();
    bytes_ = kept + *read;
    if (bytes_ < count) {
      return DataLoss("the file ends at byte {} where {} were expected", position + bytes_, limit);
    }
  }
  return std::string_view(buffer_.get() + (position - begin_), count);
}

Result<SegmentScanner::Item> SegmentScanner::Next(uint64_t limit) {
  Item item;
  uint64_t at = position_;
  item.position = at;
  // A limit that has gone back: what was read beyond it stays read.
  if (at > limit) return item;
  // Zeros up to the sector's end, where a sync has covered what stands before them.
  if (at < limit && at % kSectorBytes != 0) {
    const uint64_t sector_end = SectorEnd(at);
    MS_ASSIGN_OR_RETURN(const std::string_view rest, window_.View(at, std::min(sector_end, limit) - at, limit));
    if (rest.front() == '\0') {
      if (!IsZero(rest)) {
        item.what = What::kBad;
        item.reason = "the padding is not zero";
        return item;
      }
      if (limit < sector_end) {
        item.what = What::kShort;
        item.reason = "the padding is cut short";
        return item;
      }
      at = sector_end;
    }
  }
  item.position = at;
  if (at == limit) {
    item.what = What::kEnd;
    position_ = at;
    return item;
  }
  if (limit - at < kBatchHeaderBytes) {
    item.what = What::kShort;
    item.reason = fmt::format("{} bytes are too few for a batch header", limit - at);
    return item;
  }
  MS_ASSIGN_OR_RETURN(const std::string_view header_bytes, window_.View(at, kBatchHeaderBytes, limit));
  const std::optional<BatchHeader> header = DecodeBatchHeader(header_bytes, salt_);
  if (!header.has_value()) {
    item.what = What::kBad;
    item.reason = "the batch header does not match its checksum";
    return item;
  }
  item.header = *header;
  item.has_header = true;
  if (header->first != expected_) {
    item.what = What::kBad;
    item.reason =
        fmt::format("the batch begins with offset {} where {} was expected", header->first.value(), expected_.value());
    return item;
  }
  if (limit - at - kBatchHeaderBytes < header->body_bytes) {
    item.what = What::kShort;
    item.reason = fmt::format("a batch of {} bytes ends after {}", kBatchHeaderBytes + header->body_bytes, limit - at);
    return item;
  }
  MS_ASSIGN_OR_RETURN(item.body, window_.View(at + kBatchHeaderBytes, header->body_bytes, limit));
  // The places of a gap have no bytes.
  const uint32_t records = header->kind == BatchKind::kGap ? 0 : header->count;
  if (codec::Crc32c(item.body) != header->body_crc || !IsWellFormed(item.body, records)) {
    item.what = What::kBad;
    item.reason = "the records do not match their checksum";
    return item;
  }
  item.what = What::kBatch;
  position_ = at + kBatchHeaderBytes + header->body_bytes;
  expected_ += header->count;
  return item;
}

}  // namespace millstream::log

#include "millstream/events/event_id.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "millstream/events/limits.h"

namespace millstream::events {
namespace {

constexpr uint64_t kTimeMask = (uint64_t{1} << 48) - 1;

// The eight digits of `value`, the first of them in the lowest byte.
uint64_t HexDigits(uint32_t value) {
  // A byte in each 16 bits, that of the first two digits lowest; then a digit in each byte.
  uint64_t spread = __builtin_bswap32(value);
  spread = (spread | spread << 16) & 0x0000FFFF0000FFFF;
  spread = (spread | spread << 8) & 0x00FF00FF00FF00FF;
  const uint64_t digits = (spread >> 4 & 0x000F000F000F000F) | (spread & 0x000F000F000F000F) << 8;
  const uint64_t letters = (digits + 0x0606060606060606) >> 4 & 0x0101010101010101;
  return digits + 0x3030303030303030 + letters * ('a' - '0' - 10);
}

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool IsIdByte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
         c == ':' || c == '-';
}

}  // namespace

std::string FormatEventId(const EventId& id) {
  const EventIdText text = FormatEventIdText(id);
  return {text.data(), text.size()};
}

EventIdText FormatEventIdText(const EventId& id) {
  // 74 bits: 12 in the first half behind the version, 62 in the second behind the variant.
  const uint64_t topic = id.topic;
  const uint64_t high =
      (static_cast<uint64_t>(id.taken_ms) & kTimeMask) << 16 | uint64_t{7} << 12 | (topic >> 20 & 0xFFF);
  const uint64_t low =
      uint64_t{2} << 62 | (topic & 0xFFFFF) << 42 | uint64_t{id.partition & 0x3FF} << 32 | id.offset_low;
  // By hand, eight characters at once: every event that is published or read has one.
  static_assert(std::endian::native == std::endian::little, "characters are written as they are in memory");
  constexpr uint64_t kHyphen = '-';
  const uint64_t middle = HexDigits(static_cast<uint32_t>(high));
  const uint64_t behind = HexDigits(static_cast<uint32_t>(low >> 32));
  const uint64_t last = HexDigits(static_cast<uint32_t>(low));
  const std::array<uint64_t, 5> words{
      HexDigits(static_cast<uint32_t>(high >> 32)),
      kHyphen | (middle & UINT32_MAX) << 8 | kHyphen << 40 | middle >> 32 << 48,
      middle >> 48 | kHyphen << 16 | (behind & UINT32_MAX) << 24 | kHyphen << 56,
      behind >> 32 | last << 32,
      last >> 32,
  };
  EventIdText out;
  std::memcpy(out.data(), words.data(), out.size());
  return out;
}

std::string_view IdOf(std::string_view client_id, const EventId& id, EventIdText* room) {
  if (!client_id.empty()) return client_id;
  *room = FormatEventIdText(id);
  return {room->data(), room->size()};
}

std::optional<EventId> ParseEventId(std::string_view text) {
  if (text.size() != kEventIdBytes) return std::nullopt;
  uint64_t halves[2] = {0, 0};
  int digits = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (i == 8 || i == 13 || i == 18 || i == 23) {
      if (text[i] != '-') return std::nullopt;
      continue;
    }
    const int value = HexValue(text[i]);
    if (value < 0) return std::nullopt;
    uint64_t& half = halves[digits++ / 16];
    half = half << 4 | static_cast<uint64_t>(value);
  }
  if ((halves[0] >> 12 & 0xF) != 7 || halves[1] >> 62 != 2) return std::nullopt;
  EventId id;
  id.taken_ms = static_cast<TimestampMs>(halves[0] >> 16);
  id.topic = static_cast<uint32_t>((halves[0] & 0xFFF) << 20 | (halves[1] >> 42 & 0xFFFFF));
  id.partition = static_cast<uint32_t>(halves[1] >> 32 & 0x3FF);
  id.offset_low = static_cast<uint32_t>(halves[1]);
  return id;
}

Status CheckClientId(std::string_view id) {
  if (id.empty() || id.size() > kClientIdBytesMax || !std::ranges::all_of(id, IsIdByte)) {
    return InvalidArgument("an event's id has 1 to {} letters, digits and \"_.:-\"", kClientIdBytesMax);
  }
  return Status::Ok();
}

}  // namespace millstream::events

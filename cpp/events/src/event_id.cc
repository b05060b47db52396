#include "millstream/events/event_id.h"

#include <algorithm>

#include "millstream/events/limits.h"

namespace millstream::events {
namespace {

constexpr uint64_t kTimeMask = (uint64_t{1} << 48) - 1;

// "00" to "ff", one after the other.
constexpr auto kHexPairs = [] {
  std::array<char, 512> pairs{};
  constexpr std::string_view kHex = "0123456789abcdef";
  for (size_t value = 0; value < 256; ++value) {
    pairs[2 * value] = kHex[value / 16];
    pairs[2 * value + 1] = kHex[value % 16];
  }
  return pairs;
}();

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
  // By hand: every event that is published or read has one.
  EventIdText out;
  char* at = out.data();
  for (int byte = 0; byte < 16; ++byte) {
    if (byte == 4 || byte == 6 || byte == 8 || byte == 10) *at++ = '-';
    const uint64_t value = (byte < 8 ? high : low) >> (56 - byte % 8 * 8) & 0xFF;
    at = std::copy_n(&kHexPairs[2 * value], 2, at);
  }
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

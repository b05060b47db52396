// The id that the engine gives an event: a UUIDv7 that says where the event is.
//
// Its 48 bits of time are when the event was taken; its 74 other bits, random in most UUIDv7s, are topic number (32),
// partition (10) and the low 32 bits of the offset. So ids sort by time, then by place, and an event is found by its id
// without an index. Whoever looks one up compares the event that is there, since anybody can make up an id.
//
// Threads     Pure functions.
// Source      RFC 9562, section 5.7; docs/formats/events.md draws the bits.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "millstream/base/result.h"
#include "millstream/base/strong_int.h"

namespace millstream::events {

struct EventId {
  TimestampMs taken_ms = 0;  // 0 to 2^48 - 1
  uint32_t topic = 0;        // the topic's number
  uint32_t partition = 0;
  uint32_t offset_low = 0;  // low 32 bits
  friend bool operator==(const EventId&, const EventId&) = default;
};

inline constexpr size_t kEventIdBytes = 36;

// "0192f0c1-8f3e-7000-8000-0400000000a1"
std::string FormatEventId(const EventId& id);
using EventIdText = std::array<char, kEventIdBytes>;
EventIdText FormatEventIdText(const EventId& id);
// What an event is called: what its client named it, and the engine's id, written into `room`, when that is empty.
std::string_view IdOf(std::string_view client_id, const EventId& id, EventIdText* room);
// None when the text is no UUIDv7 in lower or upper case.
std::optional<EventId> ParseEventId(std::string_view text);

// What a client may name an event itself: 1 to 128 of letters, digits and "_.:-". It may look like an id of the engine.
Status CheckClientId(std::string_view id);

}  // namespace millstream::events

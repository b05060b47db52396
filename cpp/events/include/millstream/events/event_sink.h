// EventSink: takes events that are read where they lie, one by one, without an object that outlives the call.
//
// For readers that turn events into something else at once, as a server does that sends them on: what is read from a
// log is looked at in the reader's buffer, and copied no more often than its taker does.
//
// Threads     That of the read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "millstream/events/event.h"
#include "millstream/events/event_id.h"

namespace millstream::events {

// An event and where it is. Views borrow for the call.
struct PlacedEvent {
  const EventView& view;
  size_t record_bytes = 0;
  uint32_t topic = 0;  // its number
  uint32_t partition = 0;
  uint64_t offset = 0;

  static PlacedEvent Of(const StoredEvent& event) {
    return {event.view(), event.record().size(), event.topic(), event.partition(), event.offset()};
  }

  // As those of StoredEvent.
  std::string_view Id(EventIdText* room) const {
    return IdOf(view.client_id,
                {.taken_ms = view.taken_ms,
                 .topic = topic,
                 .partition = partition,
                 .offset_low = static_cast<uint32_t>(offset)},
                room);
  }
  uint64_t bytes() const { return StoredEvent::BytesOf(record_bytes, view); }
};

class EventSink {
 public:
  virtual ~EventSink() = default;
  // False: there is no room for this one; it and all behind it come with the next read. The first of a read is taken.
  virtual bool Take(const std::shared_ptr<const std::string>& topic, const PlacedEvent& event) = 0;
};

}  // namespace millstream::events

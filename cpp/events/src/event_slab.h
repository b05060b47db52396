// EventSlab: events that are read from a log together, or published together, kept side by side: one allocation for
// many.
//
// What came in one go is mostly let go in one go, too. Whoever keeps one of them for long copies it: it would keep all
// of its slab (StoredEvent::is_in_large_slab for what was read, is_in_slab for what was published, too).
//
// Threads     Made and filled by one; its events as StoredEvent says.
// Ownership   Each event shares the whole slab.
// Cost        Of what is read, room for twice as many as the slab before had, up to kEventsMax and kBytesMax; of what
//             is published, for as many as are to come, up to kMadeEventsMax and kMadeBytesMax. A record that is longer
//             has a slab to itself.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "millstream/base/result.h"
#include "millstream/events/event.h"

namespace millstream::events {

class EventSlab {
 public:
  static constexpr size_t kEventsMax = 256;
  static constexpr size_t kBytesMax = 64 << 10;
  static constexpr size_t kMadeEventsMax = 64;
  static constexpr size_t kMadeBytesMax = 20 << 10;

  // The event of `record`, which is copied into `*slab`, or into a new one when there is none or it is full.
  static Result<std::shared_ptr<StoredEvent>> Add(std::shared_ptr<EventSlab>* slab, std::string_view record);

  // An event that has no place yet, with its record behind the record's length (StoredEvent::framed), and right behind
  // the event that was made before if that is in the same slab. `to_come`: so many will follow, this one included.
  static std::shared_ptr<StoredEvent> Make(std::shared_ptr<EventSlab>* slab, const EventView& event,
                                           bool timestamp_given, size_t to_come);

  EventSlab(size_t events, size_t bytes);
  EventSlab(const EventSlab&) = delete;
  EventSlab& operator=(const EventSlab&) = delete;
  ~EventSlab();

 private:
  bool HasRoom(size_t bytes) const { return used_ < events_max_ && bytes <= bytes_max_ - bytes_used_; }
  StoredEvent& NewEvent();
  char* bytes() const { return memory_.get() + events_max_ * sizeof(StoredEvent); }

  const size_t events_max_;
  const size_t bytes_max_;
  // The events, those that are used made, then the bytes.
  const std::unique_ptr<char[]> memory_;
  size_t used_ = 0;
  size_t bytes_used_ = 0;
};

}  // namespace millstream::events

// EventSlab: events that are read from a log together, kept side by side: one allocation for many.
//
// What is read in one go is mostly let go in one go, too. Whoever keeps one of them for long copies it
// (StoredEvent::is_in_slab): it would keep all of its slab.
//
// Threads     Made and filled by one; its events as StoredEvent says.
// Ownership   Each event shares the whole slab.
// Cost        Room for twice as many as the slab before had, up to kEventsMax and kBytesMax; a record that is longer
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

  // The event of `record`, which is copied into `*slab`, or into a new one when there is none or it is full.
  static Result<std::shared_ptr<StoredEvent>> Add(std::shared_ptr<EventSlab>* slab, std::string_view record);

  EventSlab(size_t events, size_t bytes);

 private:
  bool HasRoom(size_t bytes) const { return used_ < events_max_ && bytes <= bytes_max_ - bytes_used_; }

  const size_t events_max_;
  const size_t bytes_max_;
  const std::unique_ptr<char[]> bytes_;
  const std::unique_ptr<StoredEvent[]> events_;
  size_t used_ = 0;
  size_t bytes_used_ = 0;
};

}  // namespace millstream::events

#include "event_slab.h"

#include <algorithm>

namespace millstream::events {
namespace {

constexpr size_t kEventsFirst = 4;
constexpr size_t kBytesFirst = 1 << 10;

}  // namespace

EventSlab::EventSlab(size_t events, size_t bytes)
    : events_max_(events),
      bytes_max_(bytes),
      bytes_(std::make_unique_for_overwrite<char[]>(bytes)),
      events_(new StoredEvent[events]) {}

Result<std::shared_ptr<StoredEvent>> EventSlab::Add(std::shared_ptr<EventSlab>* slab, std::string_view record) {
  if (record.size() > kBytesMax) return StoredEvent::Make(std::string(record));
  if (*slab == nullptr || !(*slab)->HasRoom(record.size())) {
    const size_t events = *slab == nullptr ? kEventsFirst : std::min(2 * (*slab)->events_max_, kEventsMax);
    const size_t bytes = *slab == nullptr ? kBytesFirst : std::min(2 * (*slab)->bytes_max_, kBytesMax);
    *slab = std::make_shared<EventSlab>(events, std::max(bytes, record.size()));
  }
  EventSlab& in = **slab;
  const std::span<char> copy(&in.bytes_[in.bytes_used_], record.size());
  std::ranges::copy(record, copy.begin());
  StoredEvent& event = in.events_[in.used_];
  MS_RETURN_IF_ERROR(event.SetRecord(copy));
  event.in_slab_ = true;
  in.bytes_used_ += record.size();
  ++in.used_;
  return std::shared_ptr<StoredEvent>(*slab, &event);
}

}  // namespace millstream::events

#include "event_slab.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace millstream::events {
namespace {

constexpr size_t kEventsFirst = 4;
constexpr size_t kBytesFirst = 1 << 10;

}  // namespace

EventSlab::EventSlab(size_t events, size_t bytes)
    : events_max_(events),
      bytes_max_(bytes),
      memory_(std::make_unique_for_overwrite<char[]>(events * sizeof(StoredEvent) + bytes)) {
  static_assert(alignof(StoredEvent) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);
}

EventSlab::~EventSlab() {
  auto* const events = std::launder(reinterpret_cast<StoredEvent*>(memory_.get()));
  for (size_t i = 0; i < used_; ++i) events[i].~StoredEvent();
}

StoredEvent& EventSlab::NewEvent() {
  return *new (memory_.get() + used_++ * sizeof(StoredEvent)) StoredEvent;
}

Result<std::shared_ptr<StoredEvent>> EventSlab::Add(std::shared_ptr<EventSlab>* slab, std::string_view record) {
  if (record.size() > kBytesMax) return StoredEvent::Make(std::string(record));
  if (*slab == nullptr || !(*slab)->HasRoom(record.size())) {
    const size_t events = *slab == nullptr ? kEventsFirst : std::min(2 * (*slab)->events_max_, kEventsMax);
    const size_t bytes = *slab == nullptr ? kBytesFirst : std::min(2 * (*slab)->bytes_max_, kBytesMax);
    *slab = std::make_shared<EventSlab>(events, std::max(bytes, record.size()));
  }
  EventSlab& in = **slab;
  const std::span<char> copy(in.bytes() + in.bytes_used_, record.size());
  std::ranges::copy(record, copy.begin());
  StoredEvent& event = in.NewEvent();
  if (Status status = event.SetRecord(copy); !status.ok()) {
    event.~StoredEvent();
    --in.used_;
    return status;
  }
  event.sharing_ = StoredEvent::Sharing::kMany;
  in.bytes_used_ += record.size();
  return std::shared_ptr<StoredEvent>(*slab, &event);
}

std::shared_ptr<StoredEvent> EventSlab::Make(std::shared_ptr<EventSlab>* slab, const EventView& event,
                                             bool timestamp_given, size_t to_come) {
  const size_t record_bytes = EventRecordBytes(event, timestamp_given);
  const size_t bytes = sizeof(uint32_t) + record_bytes;
  if (*slab == nullptr || !(*slab)->HasRoom(bytes)) {
    // Those to come are about as long as this one.
    const size_t events = std::clamp<size_t>(std::min(to_come, kMadeBytesMax / bytes), 1, kMadeEventsMax);
    *slab = std::make_shared<EventSlab>(events, events * bytes);
  }
  EventSlab& in = **slab;
  char* const at = in.bytes() + in.bytes_used_;
  const auto length = static_cast<uint32_t>(record_bytes);
  std::memcpy(at, &length, sizeof(length));
  StoredEvent& made = in.NewEvent();
  made.record_ = std::span(at + sizeof(length), record_bytes);
  EncodeEventInto(event, timestamp_given, made.record_, &made.view_);
  if (in.events_max_ > 1) made.sharing_ = StoredEvent::Sharing::kFew;
  in.bytes_used_ += bytes;
  return std::shared_ptr<StoredEvent>(*slab, &made);
}

}  // namespace millstream::events

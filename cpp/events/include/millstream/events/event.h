// An event: what a publisher hands over, how it is stored, and what a reader gets.
//
// docs/formats/events.md draws the record. Decoding checks every length before it allocates.
//
// Threads     A StoredEvent is written by whoever makes it and then by its partition's writer, until that shows it to
//             readers; from then on it never changes, and any thread may read it.
// Cost        One allocation for the record, or a share of one (event_slab.h); a reader gets views into it. What many
//             readers get as JSON is written once and kept beside it (event_json.h).
// Errors      kDataLoss for bytes that no publisher's event is encoded as.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/base/strong_int.h"
#include "millstream/events/event_id.h"

namespace millstream::events {

using HeaderView = std::pair<std::string_view, std::string_view>;

// Names one event of one producer: publishing it again stores nothing.
struct ProducerStamp {
  std::string_view id;
  uint32_t epoch = 0;     // a producer that starts anew takes a higher one; older ones are refused then
  uint64_t sequence = 0;  // counts up by one in each partition
  friend bool operator==(const ProducerStamp&, const ProducerStamp&) = default;
};

// What stands in a record. Views borrow from it.
struct EventView {
  TimestampMs taken_ms = 0;   // when the engine took it; never decreases within a partition
  TimestampMs timestamp = 0;  // what the publisher says, else taken_ms
  bool is_json = false;
  std::string_view client_id;  // empty: the engine's id
  std::optional<ProducerStamp> producer;
  std::optional<std::string_view> key;
  std::vector<HeaderView> headers;
  std::string_view payload;
  // Compaction has taken key, headers and payload; what is left is known when it is published again, and no reader sees
  // it.
  bool is_gone = false;
  friend bool operator==(const EventView&, const EventView&) = default;
};

// Whether the event says that its key is gone: it has a key, and its payload is JSON's null or no bytes at all.
bool IsTombstone(const EventView& event);

std::string EncodeEvent(const EventView& event);
// The record that takes the place of an event that compaction removes, while it may be published again.
std::string EncodeGone(const EventView& event);
// `timestamp_given` false: SetTaken gives both times.
std::string EncodeEvent(const EventView& event, bool timestamp_given);
// The same into memory of the caller's: so many bytes, and `*view` is then the record's.
size_t EventRecordBytes(const EventView& event, bool timestamp_given);
void EncodeEventInto(const EventView& event, bool timestamp_given, std::span<char> record, EventView* view);
Result<EventView> DecodeEvent(std::string_view record);
// The same into a view that keeps its room for headers; after an error it is any event.
Status DecodeEventInto(std::string_view record, EventView* event);

class StoredEvent {
 public:
  // The record of an event that has no place yet.
  static Result<std::shared_ptr<StoredEvent>> Make(std::string record);
  ~StoredEvent();
  StoredEvent(const StoredEvent&) = delete;
  StoredEvent& operator=(const StoredEvent&) = delete;

  std::string_view record() const { return {record_.data(), record_.size()}; }
  const EventView& view() const { return view_; }
  uint32_t topic() const { return topic_; }
  uint32_t partition() const { return partition_; }
  uint64_t offset() const { return offset_; }
  // The client's, or the engine's own.
  std::string Id() const;
  // The same without an allocation: the engine's own is written into `room`.
  std::string_view Id(EventIdText* room) const;
  // What it counts for in the limits of memory.
  uint64_t bytes() const { return BytesOf(record_.size(), view_); }
  static uint64_t BytesOf(size_t record_bytes, const EventView& view) {
    return record_bytes + sizeof(StoredEvent) + view.headers.size() * sizeof(HeaderView);
  }

  void SetPlace(uint32_t topic, uint32_t partition, uint64_t offset) {
    topic_ = topic;
    partition_ = partition;
    offset_ = offset;
  }
  // Writes the times into the record: `taken_ms`, and as the timestamp where the publisher gave none.
  void SetTaken(TimestampMs taken_ms);

  // A text that was kept, or null; and keeps one, if none is. What is kept stays as long as the event.
  const std::string* kept_text() const { return text_.load(std::memory_order_acquire); }  // its bytes come with it
  const std::string& KeepText(std::string text) const;

  // Whether others stay in memory as long as this one, and whether these may be many (event_slab.h).
  bool is_in_slab() const { return sharing_ != Sharing::kNone; }
  bool is_in_large_slab() const { return sharing_ == Sharing::kMany; }
  // Of an event that was made to be stored (EventSlab::Make): its record behind the record's length, as a log keeps it.
  std::string_view framed() const { return {record_.data() - sizeof(uint32_t), sizeof(uint32_t) + record_.size()}; }
  // The same event by itself.
  std::shared_ptr<const StoredEvent> Copy() const;

 private:
  friend class EventSlab;
  StoredEvent() = default;
  enum class Sharing : uint8_t { kNone, kFew, kMany };
  Status SetRecord(std::span<char> record);

  std::span<char> record_;  // of who made it
  EventView view_;          // into record_
  Sharing sharing_ = Sharing::kNone;
  uint32_t topic_ = 0;
  uint32_t partition_ = 0;
  uint64_t offset_ = 0;
  mutable std::atomic<const std::string*> text_{nullptr};  // whichever reader is first writes it
};

using EventPtr = std::shared_ptr<const StoredEvent>;

}  // namespace millstream::events

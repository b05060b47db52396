#include <algorithm>

#include "millstream/base/utf8.h"
#include "millstream/codec/byte_io.h"
#include "millstream/events/limits.h"
#include "submit_wire.h"
#include "wire_tag.h"

namespace millstream::node {
namespace {

using codec::ByteReader;

bool ReadText(ByteReader& in, std::string_view* text) {
  return in.Bytes(text) && IsValidUtf8(*text);
}

bool ReadHeader(std::string_view bytes, events::HeaderView* header) {
  ByteReader in(bytes);
  while (!in.empty()) {
    uint64_t tag = 0;
    if (!in.Varint(&tag)) return false;
    const bool read = tag == BytesTag(1)   ? ReadText(in, &header->first)
                      : tag == BytesTag(2) ? in.Bytes(&header->second)
                                           : false;
    if (!read) return false;
  }
  return true;
}

bool ReadProducer(std::string_view bytes, events::ProducerStamp* producer) {
  ByteReader in(bytes);
  while (!in.empty()) {
    uint64_t tag = 0;
    uint64_t value = 0;
    if (!in.Varint(&tag)) return false;
    switch (tag) {
      case BytesTag(1):
        if (!ReadText(in, &producer->id)) return false;
        break;
      case VarintTag(2):
        if (!in.Varint(&value)) return false;
        producer->epoch = static_cast<uint32_t>(value);
        break;
      case VarintTag(3):
        if (!in.Varint(&producer->sequence)) return false;
        break;
      default:
        return false;
    }
  }
  return true;
}

// `topic` is the one of the event before, which has been looked at.
bool ReadEvent(std::string_view bytes, std::string_view topic, events::PublishEvent* event) {
  ByteReader in(bytes);
  std::string_view part;
  uint64_t value = 0;
  while (!in.empty()) {
    uint64_t tag = 0;
    if (!in.Varint(&tag)) return false;
    switch (tag) {
      case BytesTag(1):
        if (!in.Bytes(&event->topic) || (event->topic != topic && !IsValidUtf8(event->topic))) return false;
        break;
      case BytesTag(2):
        if (!in.Bytes(&event->event.payload)) return false;
        break;
      case VarintTag(3):
        if (!in.Varint(&value)) return false;
        event->event.is_json = value != 0;
        break;
      case BytesTag(4):
        if (!in.Bytes(&part)) return false;
        event->event.key = part;
        break;
      case BytesTag(5):
        if (!in.Bytes(&part) || !ReadHeader(part, &event->event.headers.emplace_back())) return false;
        break;
      case VarintTag(6):
        if (!in.Varint(&value)) return false;
        event->event.timestamp = static_cast<TimestampMs>(value);
        event->has_timestamp = true;
        break;
      case BytesTag(7):
        if (!ReadText(in, &event->event.client_id)) return false;
        break;
      case VarintTag(8):
        if (!in.Varint(&value)) return false;
        event->partition = static_cast<uint32_t>(value);
        break;
      case VarintTag(9):
      case VarintTag(11):
        // Of an event that was read: not the publisher's to say.
        if (!in.Varint(&value)) return false;
        break;
      case BytesTag(10):
        if (event->event.producer.has_value()) return false;
        if (!in.Bytes(&part) || !ReadProducer(part, &event->event.producer.emplace())) return false;
        break;
      default:
        return false;
    }
  }
  return true;
}

bool ReadBatch(std::string_view bytes, SubmitView* view) {
  ByteReader in(bytes);
  std::string_view topic;
  while (!in.empty()) {
    uint64_t tag = 0;
    uint64_t value = 0;
    std::string_view part;
    if (!in.Varint(&tag)) return false;
    switch (tag) {
      case VarintTag(1):
        if (!in.Varint(&value)) return false;
        view->tenant = static_cast<uint32_t>(value);
        break;
      case BytesTag(2):
        if (view->events.size() == events::kPublishEventsMax || !in.Bytes(&part)) return false;
        // Events of a batch are about as long as its first.
        if (view->events.empty()) {
          view->events.reserve(std::min(1 + in.remaining() / (part.size() + 1), events::kPublishEventsMax));
        }
        if (!ReadEvent(part, topic, &view->events.emplace_back())) return false;
        topic = view->events.back().topic;
        break;
      default:
        return false;
    }
  }
  return true;
}

}  // namespace

std::optional<SubmitView> ReadSubmit(std::string_view message) {
  ByteReader in(message);
  SubmitView view;
  bool is_submit = false;
  while (!in.empty()) {
    uint64_t tag = 0;
    if (!in.Varint(&tag)) return std::nullopt;
    if (tag == VarintTag(1)) {
      if (!in.Varint(&view.id)) return std::nullopt;
    } else if (tag == BytesTag(2) && !is_submit) {
      std::string_view batch;
      if (!in.Bytes(&batch) || !ReadBatch(batch, &view)) return std::nullopt;
      is_submit = true;
    } else {
      return std::nullopt;
    }
  }
  if (!is_submit) return std::nullopt;
  return view;
}

}  // namespace millstream::node

#include "submit_wire.h"

#include <algorithm>

#include "event_convert.h"
#include "millstream/base/utf8.h"
#include "millstream/codec/byte_io.h"
#include "millstream/events/limits.h"

namespace millstream::node {
namespace {

using codec::ByteReader;
using codec::ByteWriter;

// A field's number and how it is encoded.
constexpr uint64_t Varint(uint64_t field) {
  return field << 3;
}
constexpr uint64_t Bytes(uint64_t field) {
  return field << 3 | 2;
}

bool ReadText(ByteReader& in, std::string_view* text) {
  return in.Bytes(text) && IsValidUtf8(*text);
}

bool ReadHeader(std::string_view bytes, events::HeaderView* header) {
  ByteReader in(bytes);
  while (!in.empty()) {
    uint64_t tag = 0;
    if (!in.Varint(&tag)) return false;
    const bool read = tag == Bytes(1)   ? ReadText(in, &header->first)
                      : tag == Bytes(2) ? in.Bytes(&header->second)
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
      case Bytes(1):
        if (!ReadText(in, &producer->id)) return false;
        break;
      case Varint(2):
        if (!in.Varint(&value)) return false;
        producer->epoch = static_cast<uint32_t>(value);
        break;
      case Varint(3):
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
      case Bytes(1):
        if (!in.Bytes(&event->topic) || (event->topic != topic && !IsValidUtf8(event->topic))) return false;
        break;
      case Bytes(2):
        if (!in.Bytes(&event->event.payload)) return false;
        break;
      case Varint(3):
        if (!in.Varint(&value)) return false;
        event->event.is_json = value != 0;
        break;
      case Bytes(4):
        if (!in.Bytes(&part)) return false;
        event->event.key = part;
        break;
      case Bytes(5):
        if (!in.Bytes(&part) || !ReadHeader(part, &event->event.headers.emplace_back())) return false;
        break;
      case Varint(6):
        if (!in.Varint(&value)) return false;
        event->event.timestamp = static_cast<TimestampMs>(value);
        event->has_timestamp = true;
        break;
      case Bytes(7):
        if (!ReadText(in, &event->event.client_id)) return false;
        break;
      case Varint(8):
        if (!in.Varint(&value)) return false;
        event->partition = static_cast<uint32_t>(value);
        break;
      case Varint(9):
      case Varint(11):
        // Of an event that was read: not the publisher's to say.
        if (!in.Varint(&value)) return false;
        break;
      case Bytes(10):
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
      case Varint(1):
        if (!in.Varint(&value)) return false;
        view->tenant = static_cast<uint32_t>(value);
        break;
      case Bytes(2):
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

size_t VarintBytes(uint64_t value) {
  size_t bytes = 1;
  for (; value >= 0x80; value >>= 7) ++bytes;
  return bytes;
}

void WritePlace(std::string_view topic, const events::Published& place, ByteWriter& out) {
  const auto number = [&out](uint64_t field, uint64_t value) {
    if (value == 0) return;
    out.Varint(Varint(field));
    out.Varint(value);
  };
  out.Varint(Bytes(1));
  out.Bytes(place.id);
  out.Varint(Bytes(2));
  out.Bytes(topic);
  number(3, place.partition);
  number(4, place.offset);
  number(5, static_cast<uint64_t>(ToProto(place.status)));
  number(6, static_cast<uint64_t>(place.timestamp));
}

}  // namespace

std::optional<SubmitView> ReadSubmit(std::string_view message) {
  ByteReader in(message);
  SubmitView view;
  bool is_submit = false;
  while (!in.empty()) {
    uint64_t tag = 0;
    if (!in.Varint(&tag)) return std::nullopt;
    if (tag == Varint(1)) {
      if (!in.Varint(&view.id)) return std::nullopt;
    } else if (tag == Bytes(2) && !is_submit) {
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

std::string WriteSubmitted(uint64_t id, std::span<const events::PublishEvent> events,
                           std::span<const Result<events::Published>> answers) {
  std::string submitted;
  submitted.reserve(answers.size() * 96);
  ByteWriter out(&submitted);
  std::string one;
  for (size_t i = 0; i < answers.size(); ++i) {
    one.clear();
    uint64_t outcome = Bytes(1);
    if (answers[i].ok()) {
      ByteWriter place(&one);
      WritePlace(events[i].topic, *answers[i], place);
    } else {
      v1::EventRefusal refusal;
      ToProto(answers[i].status(), &refusal);
      one = refusal.SerializeAsString();
      outcome = Bytes(2);
    }
    out.Varint(Bytes(1));
    out.Varint(VarintBytes(outcome) + VarintBytes(one.size()) + one.size());
    out.Varint(outcome);
    out.Bytes(one);
  }
  std::string message;
  message.reserve(submitted.size() + 24);
  ByteWriter response(&message);
  if (id != 0) {
    response.Varint(Varint(1));
    response.Varint(id);
  }
  response.Varint(Bytes(2));
  response.Bytes(submitted);
  return message;
}

}  // namespace millstream::node

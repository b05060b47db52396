#include "millstream/events/event.h"

#include "millstream/base/check.h"
#include "millstream/codec/byte_io.h"
#include "millstream/codec/span_writer.h"
#include "millstream/events/event_id.h"
#include "millstream/events/event_sink.h"
#include "millstream/events/limits.h"

namespace millstream::events {
namespace {

constexpr uint8_t kVersion = 1;
// Flags, one bit each.
constexpr uint8_t kIsJson = 1;
constexpr uint8_t kHasKey = 2;
constexpr uint8_t kHasClientId = 4;
constexpr uint8_t kHasProducer = 8;
constexpr uint8_t kHasTimestamp = 16;  // of the publisher; else it is taken_ms
constexpr uint8_t kIsGone = 32;
constexpr uint8_t kFlagsMax = 63;
constexpr size_t kTakenAt = 2;  // bytes 2 to 9

Status MalformedEvent(const char* what) {
  return DataLoss("an event's record is malformed: {}", what);
}

}  // namespace

bool IsTombstone(const EventView& event) {
  if (!event.key.has_value()) return false;
  if (!event.is_json) return event.payload.empty();
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = event.payload.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return false;
  return event.payload.substr(begin, event.payload.find_last_not_of(kSpace) + 1 - begin) == "null";
}

std::string EncodeEvent(const EventView& event) {
  return EncodeEvent(event, true);
}

std::string EncodeGone(const EventView& event) {
  return EncodeEvent({.taken_ms = event.taken_ms,
                      .timestamp = event.timestamp,
                      .is_json = false,
                      .client_id = event.client_id,
                      .producer = event.producer,
                      .key = std::nullopt,
                      .headers = {},
                      .payload = {},
                      .is_gone = true});
}

std::string EncodeEvent(const EventView& event, bool timestamp_given) {
  std::string out(EventRecordBytes(event, timestamp_given), '\0');
  EventView unused;
  EncodeEventInto(event, timestamp_given, out, &unused);
  return out;
}

size_t EventRecordBytes(const EventView& event, bool timestamp_given) {
  const auto counted = [](std::string_view bytes) { return codec::VarintBytes(bytes.size()) + bytes.size(); };
  size_t bytes = kTakenAt + sizeof(uint64_t) + (timestamp_given ? sizeof(uint64_t) : 0);
  if (!event.client_id.empty()) bytes += counted(event.client_id);
  if (event.producer.has_value()) {
    bytes += counted(event.producer->id) + codec::VarintBytes(event.producer->epoch) +
             codec::VarintBytes(event.producer->sequence);
  }
  if (event.key.has_value()) bytes += counted(*event.key);
  bytes += codec::VarintBytes(event.headers.size());
  for (const auto& [name, value] : event.headers) bytes += counted(name) + counted(value);
  return bytes + event.payload.size();
}

void EncodeEventInto(const EventView& event, bool timestamp_given, std::span<char> record, EventView* view) {
  uint8_t flags = event.is_json ? kIsJson : 0;
  if (event.key.has_value()) flags |= kHasKey;
  if (!event.client_id.empty()) flags |= kHasClientId;
  if (event.producer.has_value()) flags |= kHasProducer;
  if (timestamp_given) flags |= kHasTimestamp;
  if (event.is_gone) flags |= kIsGone;
  codec::SpanWriter writer(record);
  writer.U8(kVersion);
  writer.U8(flags);
  writer.U64(static_cast<uint64_t>(event.taken_ms));
  if (timestamp_given) writer.U64(static_cast<uint64_t>(event.timestamp));
  view->taken_ms = event.taken_ms;
  view->timestamp = timestamp_given ? event.timestamp : event.taken_ms;
  view->is_json = event.is_json;
  view->is_gone = event.is_gone;
  if (!event.client_id.empty()) view->client_id = writer.Bytes(event.client_id);
  if (event.producer.has_value()) {
    view->producer = event.producer;
    view->producer->id = writer.Bytes(event.producer->id);
    writer.Varint(event.producer->epoch);
    writer.Varint(event.producer->sequence);
  }
  if (event.key.has_value()) view->key = writer.Bytes(*event.key);
  writer.Varint(event.headers.size());
  view->headers.reserve(event.headers.size());
  for (const auto& [name, value] : event.headers) {
    const std::string_view own_name = writer.Bytes(name);
    view->headers.emplace_back(own_name, writer.Bytes(value));
  }
  view->payload = writer.Raw(event.payload);
  MS_CHECK(writer.is_full());
}

Result<EventView> DecodeEvent(std::string_view record) {
  EventView event;
  MS_RETURN_IF_ERROR(DecodeEventInto(record, &event));
  return event;
}

Status DecodeEventInto(std::string_view record, EventView* into) {
  EventView& event = *into;
  codec::ByteReader reader(record);
  uint8_t version = 0;
  uint8_t flags = 0;
  uint64_t taken = 0;
  if (!reader.U8(&version) || !reader.U8(&flags) || !reader.U64(&taken)) return MalformedEvent("it is too short");
  if (version != kVersion) return DataLoss("an event's record is of version {}; this is version {}", version, kVersion);
  if (flags > kFlagsMax) return MalformedEvent("unknown flags");
  event.taken_ms = static_cast<TimestampMs>(taken);
  event.timestamp = event.taken_ms;
  event.is_json = (flags & kIsJson) != 0;
  event.is_gone = (flags & kIsGone) != 0;
  if ((flags & kHasTimestamp) != 0) {
    uint64_t timestamp = 0;
    if (!reader.U64(&timestamp)) return MalformedEvent("the timestamp is cut off");
    event.timestamp = static_cast<TimestampMs>(timestamp);
  }
  event.client_id = {};
  if ((flags & kHasClientId) != 0) {
    if (!reader.Bytes(&event.client_id) || event.client_id.empty() || event.client_id.size() > kClientIdBytesMax) {
      return MalformedEvent("the id");
    }
  }
  event.producer.reset();
  if ((flags & kHasProducer) != 0) {
    ProducerStamp producer;
    uint64_t epoch = 0;
    if (!reader.Bytes(&producer.id) || producer.id.size() > kProducerIdBytesMax || !reader.Count(&epoch, UINT32_MAX) ||
        !reader.Varint(&producer.sequence)) {
      return MalformedEvent("the producer");
    }
    producer.epoch = static_cast<uint32_t>(epoch);
    event.producer = producer;
  }
  event.key.reset();
  if ((flags & kHasKey) != 0) {
    std::string_view key;
    if (!reader.Bytes(&key) || key.size() > kKeyBytesMax) return MalformedEvent("the key");
    event.key = key;
  }
  uint64_t headers = 0;
  if (!reader.Count(&headers, kHeadersMax)) return MalformedEvent("the number of headers");
  event.headers.clear();
  event.headers.reserve(headers);
  for (uint64_t i = 0; i < headers; ++i) {
    HeaderView header;
    if (!reader.Bytes(&header.first) || !reader.Bytes(&header.second)) return MalformedEvent("a header");
    event.headers.push_back(header);
  }
  event.payload = reader.rest();
  if (event.is_gone && (event.is_json || event.key.has_value() || headers > 0 || !event.payload.empty())) {
    return MalformedEvent("an event that is gone has no key, headers or payload");
  }
  return Status::Ok();
}

Result<std::shared_ptr<StoredEvent>> StoredEvent::Make(std::string record) {
  // In one piece with its count.
  struct Made : StoredEvent {
    explicit Made(std::string its) : bytes(std::move(its)) {}
    std::string bytes;
  };
  const auto event = std::make_shared<Made>(std::move(record));
  MS_RETURN_IF_ERROR(event->SetRecord(event->bytes));
  return std::shared_ptr<StoredEvent>(event);
}

Status StoredEvent::SetRecord(std::span<char> record) {
  record_ = record;
  return DecodeEventInto(this->record(), &view_);
}

std::shared_ptr<const StoredEvent> StoredEvent::Copy() const {
  const Result<std::shared_ptr<StoredEvent>> copy = Make(std::string(record()));
  MS_CHECK(copy.ok());  // the record was decoded before
  (*copy)->SetPlace(topic_, partition_, offset_);
  return *copy;
}

StoredEvent::~StoredEvent() {
  delete text_.load(std::memory_order_acquire);  // nobody else has it any more
}

const std::string& StoredEvent::KeepText(std::string text) const {
  auto made = std::make_unique<const std::string>(std::move(text));
  const std::string* kept = nullptr;
  // Release: who finds it sees its bytes. Acquire: as kept_text.
  if (!text_.compare_exchange_strong(kept, made.get(), std::memory_order_acq_rel)) return *kept;
  return *made.release();
}

std::string StoredEvent::Id() const {
  EventIdText room;
  return std::string(Id(&room));
}

std::string_view StoredEvent::Id(EventIdText* room) const {
  return PlacedEvent::Of(*this).Id(room);
}

void StoredEvent::SetTaken(TimestampMs taken_ms) {
  for (size_t i = 0; i < sizeof(uint64_t); ++i) {
    record_[kTakenAt + i] = static_cast<char>(static_cast<uint64_t>(taken_ms) >> (8 * i));
  }
  view_.taken_ms = taken_ms;
  if ((static_cast<uint8_t>(record_[1]) & kHasTimestamp) == 0) view_.timestamp = taken_ms;
}

}  // namespace millstream::events

#include "millstream/wire/native_events.h"

#include <algorithm>

#include "millstream/codec/byte_io.h"
#include "millstream/codec/span_writer.h"
#include "native_text.h"

namespace millstream::wire {
namespace {

using codec::ByteReader;
using codec::ByteWriter;
using codec::SpanWriter;

constexpr std::string_view kEventsDatagramMagic = "MSE1";

// Of an event's flags.
constexpr uint8_t kIsJson = 1;
constexpr uint8_t kHasKey = 2;
constexpr uint8_t kHasTimestamp = 4;
constexpr uint8_t kHasId = 8;
constexpr uint8_t kHasPartition = 16;
constexpr uint8_t kHasNumber = 32;
constexpr uint8_t kEventFlags = 63;
// Of a publish and of its answer.
constexpr uint8_t kWithIds = 1;
// Topic, flags, headers and payload.
constexpr size_t kEventBytesMin = 4;
constexpr size_t kHeaderBytesMin = 2;
// Count, code and reason.
constexpr size_t kRunBytesMin = 3;
constexpr size_t kStartBytesMin = 3;

bool ReadU32(ByteReader& in, uint32_t* value) {
  uint64_t wide = 0;
  if (!in.Count(&wide, UINT32_MAX)) return false;
  *value = static_cast<uint32_t>(wide);
  return true;
}

bool ReadFrom(ByteReader& in, NativeFrom* from) {
  uint8_t number = 0;
  if (!in.U8(&number) || number > static_cast<uint8_t>(NativeFrom::kOffset)) return false;
  *from = static_cast<NativeFrom>(number);
  return true;
}

void WriteTopics(const std::vector<std::string_view>& topics, ByteWriter* out) {
  out->Varint(topics.size());
  for (const std::string_view topic : topics) out->Bytes(topic);
}

bool ReadTopics(ByteReader& in, std::vector<std::string_view>* topics) {
  uint64_t count = 0;
  if (!in.Count(&count, std::min(in.remaining(), kNativeEventTopicsMax))) return false;
  topics->resize(count);
  return std::all_of(topics->begin(), topics->end(),
                     [&in](std::string_view& topic) { return ReadNativeText(in, &topic); });
}

void WriteEvent(const NativeEvent& event, ByteWriter* out) {
  out->Varint(event.topic);
  out->U8(static_cast<uint8_t>((event.is_json ? kIsJson : 0) | (event.key ? kHasKey : 0) |
                               (event.timestamp ? kHasTimestamp : 0) | (event.id.empty() ? 0 : kHasId) |
                               (event.partition ? kHasPartition : 0) | (event.number ? kHasNumber : 0)));
  if (event.key) out->Bytes(*event.key);
  if (event.timestamp) out->U64(static_cast<uint64_t>(*event.timestamp));
  if (!event.id.empty()) out->Bytes(event.id);
  if (event.partition) out->Varint(*event.partition);
  if (event.number) out->Varint(*event.number);
  out->Varint(event.headers.size());
  for (const auto& [name, value] : event.headers) {
    out->Bytes(name);
    out->Bytes(value);
  }
  out->Bytes(event.payload);
}

bool ReadEvent(ByteReader& in, size_t topics, NativeEvent* event) {
  uint8_t flags = 0;
  if (!ReadU32(in, &event->topic) || event->topic >= topics || !in.U8(&flags) || (flags & ~kEventFlags) != 0) {
    return false;
  }
  event->is_json = (flags & kIsJson) != 0;
  event->key.reset();
  if ((flags & kHasKey) != 0 && !in.Bytes(&event->key.emplace())) return false;
  event->timestamp.reset();
  if ((flags & kHasTimestamp) != 0) {
    uint64_t timestamp = 0;
    if (!in.U64(&timestamp)) return false;
    event->timestamp = static_cast<TimestampMs>(timestamp);
  }
  event->id = {};
  if ((flags & kHasId) != 0 && (!in.Bytes(&event->id) || event->id.empty())) return false;
  event->partition.reset();
  if ((flags & kHasPartition) != 0 && !ReadU32(in, &event->partition.emplace())) return false;
  event->number.reset();
  if ((flags & kHasNumber) != 0 && !in.Varint(&event->number.emplace())) return false;
  uint64_t count = 0;
  if (!in.Count(&count, in.remaining() / kHeaderBytesMin)) return false;
  event->headers.resize(std::min<uint64_t>(count, kNativeHeadersKept));
  for (uint64_t i = 0; i < count; ++i) {
    std::pair<std::string_view, std::string_view> skipped;
    auto& [name, value] = i < kNativeHeadersKept ? event->headers[i] : skipped;
    if (!in.Bytes(&name) || !in.Bytes(&value)) return false;
  }
  return in.Bytes(&event->payload);
}

void WriteBatch(const NativeEventBatch& batch, ByteWriter* out) {
  WriteTopics(batch.topics, out);
  out->Varint(batch.events.size());
  for (const NativeEvent& event : batch.events) WriteEvent(event, out);
}

bool ReadBatch(ByteReader& in, NativeEventBatch* batch) {
  uint64_t count = 0;
  if (!ReadTopics(in, &batch->topics) ||
      !in.Count(&count, std::min(in.remaining() / kEventBytesMin, kNativeEventsMax))) {
    return false;
  }
  // No more than the bytes can hold: a count alone costs nothing.
  batch->events.resize(count);
  return std::ranges::all_of(batch->events,
                             [&](NativeEvent& event) { return ReadEvent(in, batch->topics.size(), &event); });
}

// `frame` was begun with BeginNativeFrame.
Result<std::string> Framed(NativeType type, std::string frame) {
  const size_t bytes = frame.size() - kNativeFrameHeaderBytes;
  if (bytes > kNativeFrameBytesMax) {
    return ResourceExhausted("a frame of {} bytes; the limit is {}", bytes, kNativeFrameBytesMax);
  }
  EndNativeFrame(type, &frame);
  return frame;
}

void WriteStarts(const std::vector<NativeStart>& starts, ByteWriter* out) {
  out->Varint(starts.size());
  for (const NativeStart& start : starts) {
    out->Varint(start.topic);
    out->Varint(start.partition);
    out->Varint(start.offset);
  }
}

bool ReadStarts(ByteReader& in, size_t topics, std::vector<NativeStart>* starts) {
  uint64_t count = 0;
  if (!in.Count(&count, in.remaining() / kStartBytesMin)) return false;
  starts->resize(count);
  return std::all_of(starts->begin(), starts->end(), [&](NativeStart& start) {
    return ReadU32(in, &start.topic) && start.topic < topics && ReadU32(in, &start.partition) &&
           in.Varint(&start.offset);
  });
}

template <typename T>
Result<T> Whole(bool read, const ByteReader& in, T value, std::string_view what) {
  if (!read || !in.empty()) return MalformedNative(what);
  return value;
}

bool ReadRun(ByteReader& in, bool has_ids, NativePublishedRun* run) {
  if (!in.Count(&run->count, kNativeEventsMax) || run->count == 0 || !ReadNativeCode(in, &run->code)) return false;
  if (run->code != StatusCode::kOk) return in.Bytes(&run->reason);
  if (!in.U8(&run->status) || run->status > 1 || !ReadU32(in, &run->partition) || !in.Varint(&run->offset)) {
    return false;
  }
  if (!has_ids) return true;
  if (run->count > in.remaining()) return false;
  run->ids.resize(run->count);
  return std::all_of(run->ids.begin(), run->ids.end(), [&in](std::string_view& id) { return in.Bytes(&id); });
}

}  // namespace

Result<std::string> EncodeNative(const NativePublish& publish) {
  std::string frame = BeginNativeFrame();
  ByteWriter out(&frame);
  out.U64(publish.sequence);
  out.U8(publish.wants_ids ? kWithIds : 0);
  out.Bytes(publish.producer);
  out.U32(publish.epoch);
  WriteBatch(publish.batch, &out);
  return Framed(NativeType::kPublish, std::move(frame));
}

Result<NativePublish> DecodeNativePublish(std::string_view payload) {
  ByteReader in(payload);
  NativePublish out;
  uint8_t flags = 0;
  const bool read = in.U64(&out.sequence) && in.U8(&flags) && (flags & ~kWithIds) == 0 &&
                    ReadNativeText(in, &out.producer) && in.U32(&out.epoch) && ReadBatch(in, &out.batch);
  out.wants_ids = flags == kWithIds;
  return Whole(read, in, std::move(out), "publish");
}

Result<std::string> EncodeNative(const NativePublished& published) {
  std::string frame = BeginNativeFrame();
  ByteWriter out(&frame);
  out.U64(published.sequence);
  out.U8(published.has_ids ? kWithIds : 0);
  out.Varint(published.runs.size());
  for (const NativePublishedRun& run : published.runs) {
    out.Varint(run.count);
    out.U8(static_cast<uint8_t>(run.code));
    if (run.code != StatusCode::kOk) {
      out.Bytes(run.reason.substr(0, kNativeTextBytesMax));
      continue;
    }
    out.U8(run.status);
    out.Varint(run.partition);
    out.Varint(run.offset);
    if (!published.has_ids) continue;
    for (const std::string_view id : run.ids) out.Bytes(id);
  }
  return Framed(NativeType::kPublished, std::move(frame));
}

Result<NativePublished> DecodeNativePublished(std::string_view payload) {
  ByteReader in(payload);
  NativePublished out;
  uint8_t flags = 0;
  uint64_t count = 0;
  bool read = in.U64(&out.sequence) && in.U8(&flags) && (flags & ~kWithIds) == 0 &&
              in.Count(&count, std::min(in.remaining() / kRunBytesMin, kNativeEventsMax));
  out.has_ids = flags == kWithIds;
  for (uint64_t i = 0; read && i < count; ++i) read = ReadRun(in, out.has_ids, &out.runs.emplace_back());
  return Whole(read, in, std::move(out), "published");
}

std::string EncodeNative(const NativeFetch& fetch) {
  std::string payload;
  ByteWriter out(&payload);
  out.U64(fetch.sequence);
  out.Bytes(fetch.topic);
  out.Varint(fetch.partition);
  out.U8(static_cast<uint8_t>(fetch.from));
  out.U64(fetch.at);
  out.Varint(fetch.limit);
  out.Varint(fetch.bytes_max);
  return EncodeNativeFrame(NativeType::kFetch, payload);
}

Result<NativeFetch> DecodeNativeFetch(std::string_view payload) {
  ByteReader in(payload);
  NativeFetch out;
  const bool read = in.U64(&out.sequence) && ReadNativeText(in, &out.topic) && ReadU32(in, &out.partition) &&
                    ReadFrom(in, &out.from) && in.U64(&out.at) && in.Varint(&out.limit) && in.Varint(&out.bytes_max);
  return Whole(read, in, out, "fetch");
}

NativeEventsWriter::NativeEventsWriter(size_t head_bytes, size_t frame_bytes, std::string memory)
    : head_bytes_(head_bytes), frame_(std::move(memory)), end_(kNativeFrameHeaderBytes + head_bytes) {
  if (frame_.size() < std::max(end_, frame_bytes)) frame_.resize(std::max(end_, frame_bytes));
}

size_t NativeEventsWriter::DeliveredHeadBytes(std::string_view topic) {
  constexpr size_t kDropped = 1;
  constexpr size_t kTopics = 1;
  constexpr size_t kEvents = 2;
  return sizeof(uint64_t) + kDropped + kTopics + codec::VarintBytes(topic.size()) + topic.size() + kEvents;
}

void NativeEventsWriter::Add(const NativeReadEvent& event) {
  // At most; so only once it is seen whether there is room.
  constexpr size_t kVarint = 10;
  size_t bytes = sizeof(uint8_t) + sizeof(uint64_t) + 7 * kVarint + event.id.size() + event.payload.size();
  if (event.key) bytes += event.key->size();
  for (const auto& [name, value] : event.headers) bytes += 2 * kVarint + name.size() + value.size();
  if (frame_.size() - end_ < bytes) frame_.resize(end_ + bytes + frame_.size() / 8);
  SpanWriter out(std::span<char>(frame_).subspan(end_));
  out.Varint(event.topic);
  out.U8(static_cast<uint8_t>((event.is_json ? kIsJson : 0) | (event.key ? kHasKey : 0) | kHasTimestamp | kHasId |
                              kHasPartition | kHasNumber));
  if (event.key) out.Bytes(*event.key);
  out.U64(static_cast<uint64_t>(event.timestamp));
  out.Bytes(event.id);
  out.Varint(event.partition);
  out.Varint(event.offset);
  out.Varint(event.headers.size());
  for (const auto& [name, value] : event.headers) {
    out.Bytes(name);
    out.Bytes(value);
  }
  out.Bytes(event.payload);
  end_ = frame_.size() - out.left();
  ++events_;
}

Result<std::string> NativeEventsWriter::Finish(const NativeDelivered& head) && {
  std::string bytes;
  ByteWriter out(&bytes);
  out.U64(head.subscription);
  out.Varint(head.dropped);
  WriteTopics(head.batch.topics, &out);
  out.Varint(events_);
  return std::move(*this).Finish(NativeType::kDelivered, bytes);
}

Result<std::string> NativeEventsWriter::Finish(const NativeFetched& head) && {
  std::string bytes;
  ByteWriter out(&bytes);
  out.U64(head.sequence);
  out.Varint(head.next_offset);
  out.Varint(head.end_offset);
  WriteTopics(head.batch.topics, &out);
  out.Varint(events_);
  return std::move(*this).Finish(NativeType::kFetched, bytes);
}

Result<std::string> NativeEventsWriter::Finish(NativeType type, std::string_view head) && {
  frame_.resize(end_);
  frame_.replace(kNativeFrameHeaderBytes, head_bytes_, head);
  return Framed(type, std::move(frame_));
}

Result<std::string> EncodeNative(const NativeFetched& fetched) {
  std::string frame = BeginNativeFrame();
  ByteWriter out(&frame);
  out.U64(fetched.sequence);
  out.Varint(fetched.next_offset);
  out.Varint(fetched.end_offset);
  WriteBatch(fetched.batch, &out);
  return Framed(NativeType::kFetched, std::move(frame));
}

Result<NativeFetched> DecodeNativeFetched(std::string_view payload) {
  ByteReader in(payload);
  NativeFetched out;
  const bool read =
      in.U64(&out.sequence) && in.Varint(&out.next_offset) && in.Varint(&out.end_offset) && ReadBatch(in, &out.batch);
  return Whole(read, in, std::move(out), "fetched");
}

Result<std::string> EncodeNative(const NativeSubscribe& subscribe) {
  std::string frame = BeginNativeFrame();
  ByteWriter out(&frame);
  out.U64(subscribe.subscription);
  WriteTopics(subscribe.topics, &out);
  out.U8(static_cast<uint8_t>(subscribe.from));
  if (subscribe.from == NativeFrom::kTimestamp) out.U64(static_cast<uint64_t>(subscribe.timestamp));
  if (subscribe.from == NativeFrom::kOffset) WriteStarts(subscribe.offsets, &out);
  out.U8(subscribe.on_slow);
  out.Varint(subscribe.lag_max);
  out.Bytes(subscribe.filter);
  out.Varint(subscribe.credit);
  return Framed(NativeType::kSubscribe, std::move(frame));
}

Result<NativeSubscribe> DecodeNativeSubscribe(std::string_view payload) {
  ByteReader in(payload);
  NativeSubscribe out;
  bool read = in.U64(&out.subscription) && ReadTopics(in, &out.topics) && ReadFrom(in, &out.from);
  if (read && out.from == NativeFrom::kTimestamp) {
    uint64_t timestamp = 0;
    read = in.U64(&timestamp);
    out.timestamp = static_cast<TimestampMs>(timestamp);
  }
  if (read && out.from == NativeFrom::kOffset) read = ReadStarts(in, out.topics.size(), &out.offsets);
  read = read && in.U8(&out.on_slow) && out.on_slow <= 2 && in.Varint(&out.lag_max) && in.Bytes(&out.filter) &&
         in.Varint(&out.credit);
  return Whole(read, in, std::move(out), "subscribe");
}

std::string EncodeNative(const NativeCredit& credit) {
  std::string payload;
  ByteWriter out(&payload);
  out.U64(credit.subscription);
  out.Varint(credit.events);
  return EncodeNativeFrame(NativeType::kCredit, payload);
}

Result<NativeCredit> DecodeNativeCredit(std::string_view payload) {
  ByteReader in(payload);
  NativeCredit out;
  return Whole(in.U64(&out.subscription) && in.Varint(&out.events), in, out, "credit");
}

std::string EncodeNative(const NativeUnsubscribe& unsubscribe) {
  std::string payload;
  ByteWriter(&payload).U64(unsubscribe.subscription);
  return EncodeNativeFrame(NativeType::kUnsubscribe, payload);
}

Result<NativeUnsubscribe> DecodeNativeUnsubscribe(std::string_view payload) {
  ByteReader in(payload);
  NativeUnsubscribe out;
  return Whole(in.U64(&out.subscription), in, out, "unsubscribe");
}

Result<std::string> EncodeNative(const NativeSubscribed& subscribed) {
  std::string frame = BeginNativeFrame();
  ByteWriter out(&frame);
  out.U64(subscribed.subscription);
  WriteTopics(subscribed.topics, &out);
  WriteStarts(subscribed.offsets, &out);
  return Framed(NativeType::kSubscribed, std::move(frame));
}

Result<NativeSubscribed> DecodeNativeSubscribed(std::string_view payload) {
  ByteReader in(payload);
  NativeSubscribed out;
  const bool read =
      in.U64(&out.subscription) && ReadTopics(in, &out.topics) && ReadStarts(in, out.topics.size(), &out.offsets);
  return Whole(read, in, std::move(out), "subscribed");
}

Result<std::string> EncodeNative(const NativeDelivered& delivered) {
  std::string frame = BeginNativeFrame();
  ByteWriter out(&frame);
  out.U64(delivered.subscription);
  out.Varint(delivered.dropped);
  WriteBatch(delivered.batch, &out);
  return Framed(NativeType::kDelivered, std::move(frame));
}

Result<NativeDelivered> DecodeNativeDelivered(std::string_view payload) {
  NativeDelivered out;
  MS_RETURN_IF_ERROR(DecodeNativeDeliveredInto(payload, &out));
  return out;
}

Status DecodeNativeDeliveredInto(std::string_view payload, NativeDelivered* delivered) {
  ByteReader in(payload);
  const bool read =
      in.U64(&delivered->subscription) && in.Varint(&delivered->dropped) && ReadBatch(in, &delivered->batch);
  return read && in.empty() ? Status::Ok() : MalformedNative("delivered");
}

std::string EncodeNative(const NativeEnded& ended) {
  std::string payload;
  ByteWriter out(&payload);
  out.U64(ended.subscription);
  out.U8(static_cast<uint8_t>(ended.code));
  out.Bytes(ended.reason.substr(0, kNativeTextBytesMax));
  return EncodeNativeFrame(NativeType::kEnded, payload);
}

Result<NativeEnded> DecodeNativeEnded(std::string_view payload) {
  ByteReader in(payload);
  NativeEnded out;
  return Whole(in.U64(&out.subscription) && ReadNativeCode(in, &out.code) && in.Bytes(&out.reason), in, out, "ended");
}

bool IsNativeEventDatagram(std::string_view bytes) {
  return bytes.starts_with(kEventsDatagramMagic);
}

Result<std::string> EncodeNativeEventDatagram(const NativeEventDatagram& datagram) {
  return EncodeNativeEnvelope(kEventsDatagramMagic, {.client = datagram.client,
                                                     .sequence = datagram.sequence,
                                                     .key = datagram.key,
                                                     .tenant = datagram.tenant,
                                                     .rest = datagram.publish});
}

Result<NativeEventDatagram> DecodeNativeEventDatagram(std::string_view bytes) {
  MS_ASSIGN_OR_RETURN(const NativeEnvelope envelope,
                      DecodeNativeEnvelope(kEventsDatagramMagic, "native datagram of events", bytes));
  return NativeEventDatagram{.client = envelope.client,
                             .sequence = envelope.sequence,
                             .key = envelope.key,
                             .tenant = envelope.tenant,
                             .publish = envelope.rest};
}

}  // namespace millstream::wire

// Native frames that carry events: what stands in them, as bytes. No sockets and no topics here.
//
// Layout      docs/formats/native.md.
// Ownership   Decoded values are views into the payload.
// Errors      kInvalidArgument for a payload that is cut off or malformed; kDataLoss where a checksum does not match.
// Limits      kNativeEventsMax events and kNativeEventTopicsMax topics in one frame; every count is checked against the
//             bytes that are left before anything is allocated for it. Of an event's headers kNativeHeadersKept are
//             decoded, and the others skipped.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/base/status.h"
#include "millstream/base/strong_int.h"
#include "millstream/wire/native_frame.h"

namespace millstream::wire {

inline constexpr size_t kNativeEventsMax = 10'000;
inline constexpr size_t kNativeEventTopicsMax = 1'000;
// One more than an event may have: whoever takes it refuses it, and a frame of empty headers costs no memory.
inline constexpr size_t kNativeHeadersKept = 65;

// One event, as it is published or as it is read.
struct NativeEvent {
  uint32_t topic = 0;  // index in the frame's topics
  bool is_json = false;
  std::optional<std::string_view> key;
  std::optional<TimestampMs> timestamp;
  std::string_view id;  // empty: none
  std::optional<uint32_t> partition;
  std::optional<uint64_t> number;  // the producer's sequence, or the offset of an event that is read
  std::vector<std::pair<std::string_view, std::string_view>> headers;
  std::string_view payload;
  friend bool operator==(const NativeEvent&, const NativeEvent&) = default;
};

struct NativeEventBatch {
  std::vector<std::string_view> topics;
  std::vector<NativeEvent> events;
  friend bool operator==(const NativeEventBatch&, const NativeEventBatch&) = default;
};

struct NativePublish {
  uint64_t sequence = 0;
  bool wants_ids = false;
  std::string_view producer;  // empty: none; else each event has a number
  uint32_t epoch = 0;
  NativeEventBatch batch;
  friend bool operator==(const NativePublish&, const NativePublish&) = default;
};

// What became of `count` events, one after the other: stored at consecutive offsets of one partition, or all refused
// for one reason.
struct NativePublishedRun {
  uint64_t count = 1;
  StatusCode code = StatusCode::kOk;
  std::string_view reason;
  uint8_t status = 0;  // 0 accepted, 1 durable
  uint32_t partition = 0;
  uint64_t offset = 0;                // of the first
  std::vector<std::string_view> ids;  // when wanted: of each
  friend bool operator==(const NativePublishedRun&, const NativePublishedRun&) = default;
};
struct NativePublished {
  uint64_t sequence = 0;
  bool has_ids = false;
  std::vector<NativePublishedRun> runs;
  friend bool operator==(const NativePublished&, const NativePublished&) = default;
};

enum class NativeFrom : uint8_t { kLatest = 0, kEarliest = 1, kTimestamp = 2, kOffset = 3 };

struct NativeFetch {
  uint64_t sequence = 0;
  std::string_view topic;
  uint32_t partition = 0;
  NativeFrom from = NativeFrom::kEarliest;
  uint64_t at = 0;  // the offset, or the timestamp
  uint64_t limit = 100;
  uint64_t bytes_max = 1 << 20;
  friend bool operator==(const NativeFetch&, const NativeFetch&) = default;
};
struct NativeFetched {
  uint64_t sequence = 0;
  uint64_t next_offset = 0;
  uint64_t end_offset = 0;
  NativeEventBatch batch;
  friend bool operator==(const NativeFetched&, const NativeFetched&) = default;
};

struct NativeStart {
  uint32_t topic = 0;  // index in the topics
  uint32_t partition = 0;
  uint64_t offset = 0;
  friend bool operator==(const NativeStart&, const NativeStart&) = default;
};
struct NativeSubscribe {
  uint64_t subscription = 0;  // the client's number for it
  std::vector<std::string_view> topics;
  NativeFrom from = NativeFrom::kLatest;
  TimestampMs timestamp = 0;         // for kTimestamp
  std::vector<NativeStart> offsets;  // for kOffset
  uint8_t on_slow = 0;               // 0 block, 1 drop_oldest, 2 disconnect
  uint64_t lag_max = 0;              // 0: the server's own
  std::string_view filter;
  uint64_t credit = 0;  // events that the server may send
  friend bool operator==(const NativeSubscribe&, const NativeSubscribe&) = default;
};
struct NativeCredit {
  uint64_t subscription = 0;
  uint64_t events = 0;  // more of them
  friend bool operator==(const NativeCredit&, const NativeCredit&) = default;
};
struct NativeUnsubscribe {
  uint64_t subscription = 0;
  friend bool operator==(const NativeUnsubscribe&, const NativeUnsubscribe&) = default;
};

// Where it begins, for a client that has to begin again where it was. Nothing of very many partitions.
struct NativeSubscribed {
  uint64_t subscription = 0;
  std::vector<std::string_view> topics;
  std::vector<NativeStart> offsets;
  friend bool operator==(const NativeSubscribed&, const NativeSubscribed&) = default;
};
struct NativeDelivered {
  uint64_t subscription = 0;
  uint64_t dropped = 0;  // events before these that it will not see
  NativeEventBatch batch;
  friend bool operator==(const NativeDelivered&, const NativeDelivered&) = default;
};
// The subscription's last. Code kOk: the client ended it.
struct NativeEnded {
  uint64_t subscription = 0;
  StatusCode code = StatusCode::kOk;
  std::string_view reason;
  friend bool operator==(const NativeEnded&, const NativeEnded&) = default;
};

// Each a whole frame; kResourceExhausted when it does not fit into one.
Result<std::string> EncodeNative(const NativePublish& publish);
Result<std::string> EncodeNative(const NativeFetched& fetched);
Result<std::string> EncodeNative(const NativeDelivered& delivered);
Result<std::string> EncodeNative(const NativeSubscribe& subscribe);
Result<std::string> EncodeNative(const NativePublished& published);
Result<std::string> EncodeNative(const NativeSubscribed& subscribed);
std::string EncodeNative(const NativeFetch& fetch);
std::string EncodeNative(const NativeCredit& credit);
std::string EncodeNative(const NativeUnsubscribe& unsubscribe);
std::string EncodeNative(const NativeEnded& ended);

// One event that was read. Views borrow for the call.
struct NativeReadEvent {
  uint32_t topic = 0;  // index in the frame's topics
  bool is_json = false;
  std::optional<std::string_view> key;
  TimestampMs timestamp = 0;
  std::string_view id;
  uint32_t partition = 0;
  uint64_t offset = 0;
  std::span<const std::pair<std::string_view, std::string_view>> headers;
  std::string_view payload;
};

// A frame of events that were read, written one by one before it is known what stands before them.
//
// Cost        Each event is copied once. Behind a head that is not as long as was expected they are moved.
class NativeEventsWriter {
 public:
  // The head will be about so long, and so will the frame, which is written over `memory`.
  NativeEventsWriter(size_t head_bytes, size_t frame_bytes, std::string memory = {});
  // Of a frame of one topic, of which nothing was dropped, and of 128 to 16383 events.
  static size_t DeliveredHeadBytes(std::string_view topic);

  void Add(const NativeReadEvent& event);
  size_t events() const { return events_; }
  // Of the head's batch only the topics count. kResourceExhausted when it does not fit.
  Result<std::string> Finish(const NativeDelivered& head) &&;
  Result<std::string> Finish(const NativeFetched& head) &&;

 private:
  Result<std::string> Finish(NativeType type, std::string_view head) &&;

  size_t head_bytes_;
  std::string frame_;  // its end is room
  size_t end_;
  size_t events_ = 0;
};

// Of a frame's payload.
Result<NativePublish> DecodeNativePublish(std::string_view payload);
Result<NativeFetch> DecodeNativeFetch(std::string_view payload);
Result<NativeSubscribe> DecodeNativeSubscribe(std::string_view payload);
Result<NativeCredit> DecodeNativeCredit(std::string_view payload);
Result<NativeUnsubscribe> DecodeNativeUnsubscribe(std::string_view payload);
Result<NativePublished> DecodeNativePublished(std::string_view payload);
Result<NativeFetched> DecodeNativeFetched(std::string_view payload);
Result<NativeSubscribed> DecodeNativeSubscribed(std::string_view payload);
Result<NativeDelivered> DecodeNativeDelivered(std::string_view payload);
// The same into what was decoded before, whose memory is used again; after an error it is anything.
Status DecodeNativeDeliveredInto(std::string_view payload, NativeDelivered* delivered);
Result<NativeEnded> DecodeNativeEnded(std::string_view payload);

// One datagram of events: a publish frame's payload by itself, best effort.
struct NativeEventDatagram {
  uint64_t client = 0;    // chosen at random by each sender
  uint64_t sequence = 0;  // counts its datagrams
  std::string_view key;
  std::string_view tenant;
  std::string_view publish;  // a publish frame's payload
};
bool IsNativeEventDatagram(std::string_view bytes);
// kResourceExhausted when it does not fit.
Result<std::string> EncodeNativeEventDatagram(const NativeEventDatagram& datagram);
Result<NativeEventDatagram> DecodeNativeEventDatagram(std::string_view bytes);

}  // namespace millstream::wire

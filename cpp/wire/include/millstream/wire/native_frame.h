// Native frames: Millstream's own binary protocol, as bytes. No sockets here.
//
// Layout      docs/formats/native.md.
// Threads     None of this is shared; one connection has one of each.
// Errors      kDataLoss: a checksum does not match. kInvalidArgument: a frame breaks the layout or comes out of turn.
//             kResourceExhausted: a limit. kUnimplemented: a type or a version of another time. After an error the
//             stream has no next frame: answer with an error frame and close.
// Limits      A frame's payload has at most kNativeFrameBytesMax bytes, a hello kNativeHelloBytesMax, which its length
//             says before it comes; every count is checked against the bytes that are left.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/base/strong_int.h"
#include "millstream/model/labels.h"
#include "millstream/wire/decoded_write.h"

namespace millstream::wire {

inline constexpr uint8_t kNativeVersion = 1;
inline constexpr size_t kNativeFrameBytesMax = 4 << 20;
inline constexpr size_t kNativeFrameHeaderBytes = 12;
inline constexpr size_t kNativeDatagramBytesMax = 65'507;  // what UDP over IPv4 carries
inline constexpr size_t kNativeTextBytesMax = 1024;        // of a key, a tenant or a client's name
inline constexpr size_t kNativeHelloBytesMax = 4096;       // nobody knows yet who sends it

enum class NativeType : uint8_t {
  kHello = 0x01,
  kSeries = 0x02,
  kWrite = 0x03,
  kPing = 0x04,
  // Events: native_events.h.
  kPublish = 0x10,
  kFetch = 0x11,
  kSubscribe = 0x12,
  kCredit = 0x13,
  kUnsubscribe = 0x14,
  kWelcome = 0x81,
  kAck = 0x82,
  kRefused = 0x83,
  kPong = 0x84,
  kError = 0x85,
  kPublished = 0x90,
  kFetched = 0x91,
  kSubscribed = 0x92,
  kDelivered = 0x93,
  kEnded = 0x94,
};

struct NativeFrame {
  NativeType type;
  std::string_view payload;
};

// Cuts a stream of bytes into frames whose checksums hold.
class NativeFrameReader {
 public:
  void Feed(std::string_view bytes);
  // The same without a copy: room for `bytes`, and how many of them came. Between the two nothing else is called.
  std::span<char> Room(size_t bytes);
  void Came(size_t bytes);
  // None until a frame is whole. What it views is good until the next Feed or Room.
  Result<std::optional<NativeFrame>> Next();
  // What type the next frame says to be, once enough of it is there.
  std::optional<NativeType> PeekType() const;
  size_t buffered() const { return end_ - begin_; }
  // Of the payloads from here on.
  void set_bytes_max(size_t bytes_max) { bytes_max_ = bytes_max; }

 private:
  std::string buffer_;  // behind end_ room
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t bytes_max_ = kNativeFrameBytesMax;
};

// What a client says.
struct NativeHello {
  uint8_t version = kNativeVersion;
  std::string_view key;
  std::string_view tenant;
  std::string_view client;
};
// Labels as pairs (LabelEncoding::kPairs), for the references from `first` on.
struct NativeSeries {
  uint32_t first = 0;
  std::vector<std::string_view> labels;
};
struct NativePing {
  uint64_t token = 0;
};

// What a server says.
struct NativeWelcome {
  uint8_t version = kNativeVersion;
  uint32_t window = 0;  // write frames that may be unanswered
  uint32_t frame_bytes_max = 0;
  uint32_t series_max = 0;
};
struct NativeItemError {
  uint32_t item = 0;
  StatusCode code = StatusCode::kUnknown;
  std::string_view reason;
};
struct NativeAck {
  uint64_t sequence = 0;
  uint64_t samples = 0;
  uint64_t rejected = 0;
  std::vector<NativeItemError> errors;
};
// The frame was not stored, or in part; to send it again may help after a while.
struct NativeRefused {
  uint64_t sequence = 0;
  StatusCode code = StatusCode::kUnknown;
  uint32_t retry_after_ms = 0;
  std::string_view reason;
};
struct NativePong {
  uint64_t token = 0;
};
// The last that a server says.
struct NativeError {
  StatusCode code = StatusCode::kUnknown;
  std::string_view reason;
};

// A whole frame of any type; the payload is not longer than a frame may be.
std::string EncodeNativeFrame(NativeType type, std::string_view payload);
// The same for a payload that is written where it stays: it is appended to what Begin gives, and End fills in the head.
std::string BeginNativeFrame();
void EndNativeFrame(NativeType type, std::string* frame);

// Each a whole frame.
std::string EncodeNative(const NativeHello& hello);
std::string EncodeNative(const NativeSeries& series);
std::string EncodeNative(const NativePing& ping);
std::string EncodeNative(const NativeWelcome& welcome);
std::string EncodeNative(const NativeAck& ack);
std::string EncodeNative(const NativeRefused& refused);
std::string EncodeNative(const NativePong& pong);
std::string EncodeNative(const NativeError& error);
// Columns of equal length.
std::string EncodeNativeWrite(uint64_t sequence, std::span<const uint32_t> refs,
                              std::span<const TimestampMs> timestamps, std::span<const double> values);

// What a client reads; views into the frame.
using NativeAnswer = std::variant<NativeWelcome, NativeAck, NativeRefused, NativePong, NativeError>;
Result<NativeAnswer> DecodeNativeAnswer(const NativeFrame& frame);

struct NativeLimits {
  size_t series_max = 100'000;
  size_t label_bytes_max = 32 << 20;
};

// The server's side of one connection: remembers the series that the client defined.
//
// Invariants  A hello comes first and once; series are defined in order, from 0; sequences of writes,
//             publishes and fetches ascend.
class NativeSession {
 public:
  explicit NativeSession(NativeLimits limits = {}) : limits_(limits) { reader_.set_bytes_max(kNativeHelloBytesMax); }

  struct Hello {
    std::string key;
    std::string tenant;
    std::string client;
  };
  struct Write {
    uint64_t sequence = 0;
    DecodedWrite samples;  // each series once; its item is the index of its first sample
  };
  // A frame about events; its payload is still to be decoded (native_events.h), and good until the next Feed or Room.
  struct EventFrame {
    NativeType type = NativeType::kPublish;
    std::string_view payload;
  };
  using Event = std::variant<Hello, Write, NativePing, EventFrame>;

  void Feed(std::string_view bytes) { reader_.Feed(bytes); }
  // As those of NativeFrameReader.
  std::span<char> Room(size_t bytes) { return reader_.Room(bytes); }
  void Came(size_t bytes) { reader_.Came(bytes); }
  // The next thing to do, none until more bytes come.
  Result<std::optional<Event>> Next();
  // As Next, but only when that is a publish: so that those that came together are stored together.
  Result<std::optional<EventFrame>> NextPublish();
  size_t buffered() const { return reader_.buffered(); }

 private:
  Result<Hello> TakeHello(std::string_view payload);
  Status TakeSeries(std::string_view payload);
  Result<Write> TakeWrite(std::string_view payload);
  Status TakeSequence(uint64_t sequence);

  const NativeLimits limits_;
  NativeFrameReader reader_;
  bool greeted_ = false;
  std::optional<uint64_t> sequence_;
  std::vector<std::string> series_;
  std::vector<uint32_t> place_;  // of each series in the frame that is read
  size_t label_bytes_ = 0;
};

// One datagram: a batch by itself, best effort.
struct NativeDatagram {
  uint64_t client = 0;    // chosen at random by each sender
  uint64_t sequence = 0;  // counts its datagrams
  std::string_view key;
  std::string_view tenant;
  std::string_view batch;  // a column batch
};
// kResourceExhausted when it does not fit.
Result<std::string> EncodeNativeDatagram(const NativeDatagram& datagram);
Result<NativeDatagram> DecodeNativeDatagram(std::string_view bytes);

}  // namespace millstream::wire

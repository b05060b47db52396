#include "millstream/wire/native_frame.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "millstream/base/check.h"
#include "millstream/codec/byte_io.h"
#include "millstream/codec/crc32c.h"
#include "native_text.h"

namespace millstream::wire {
namespace {

using codec::ByteReader;
using codec::ByteWriter;

// length u32, type u8, three zero bytes, crc32c u32
constexpr size_t kCheckedHeaderBytes = 8;
constexpr size_t kErrorsMax = 100;
constexpr size_t kItemErrorBytesMin = 3;

}  // namespace

std::string EncodeNativeFrame(NativeType type, std::string_view payload) {
  std::string frame = BeginNativeFrame();
  frame.append(payload);
  EndNativeFrame(type, &frame);
  return frame;
}

std::string BeginNativeFrame() {
  return std::string(kNativeFrameHeaderBytes, '\0');
}

void EndNativeFrame(NativeType type, std::string* frame) {
  const std::string_view payload = std::string_view(*frame).substr(kNativeFrameHeaderBytes);
  MS_CHECK(payload.size() <= kNativeFrameBytesMax);
  std::string head;
  ByteWriter writer(&head);
  writer.U32(static_cast<uint32_t>(payload.size()));
  writer.U8(static_cast<uint8_t>(type));
  for (int i = 0; i < 3; ++i) writer.U8(0);
  writer.U32(codec::Crc32cExtend(codec::Crc32c(head), payload));
  frame->replace(0, kNativeFrameHeaderBytes, head);
}

namespace {

uint32_t U32At(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value |= uint32_t{static_cast<uint8_t>(bytes[at + i])} << (8 * i);
  return value;
}

bool IsNativeType(uint8_t type) {
  switch (static_cast<NativeType>(type)) {
    case NativeType::kHello:
    case NativeType::kSeries:
    case NativeType::kWrite:
    case NativeType::kPing:
    case NativeType::kPublish:
    case NativeType::kFetch:
    case NativeType::kSubscribe:
    case NativeType::kCredit:
    case NativeType::kUnsubscribe:
    case NativeType::kWelcome:
    case NativeType::kAck:
    case NativeType::kRefused:
    case NativeType::kPong:
    case NativeType::kError:
    case NativeType::kPublished:
    case NativeType::kFetched:
    case NativeType::kSubscribed:
    case NativeType::kDelivered:
    case NativeType::kEnded:
      return true;
  }
  return false;
}

std::string_view Cut(std::string_view text) {
  return text.substr(0, kNativeTextBytesMax);
}

bool ReadWelcome(ByteReader& in, NativeWelcome* out) {
  return in.U8(&out->version) && in.U32(&out->window) && in.U32(&out->frame_bytes_max) && in.U32(&out->series_max);
}

bool ReadAck(ByteReader& in, NativeAck* out) {
  uint64_t count = 0;
  if (!in.U64(&out->sequence) || !in.Varint(&out->samples) || !in.Varint(&out->rejected) ||
      !in.Count(&count, in.remaining() / kItemErrorBytesMin)) {
    return false;
  }
  out->errors.resize(count);
  for (NativeItemError& error : out->errors) {
    uint64_t item = 0;
    if (!in.Count(&item, UINT32_MAX) || !ReadNativeCode(in, &error.code) || !in.Bytes(&error.reason)) return false;
    error.item = static_cast<uint32_t>(item);
  }
  return true;
}

template <typename T>
Result<NativeAnswer> WholeAnswer(bool read, const ByteReader& in, T&& value, std::string_view what) {
  if (!read || !in.empty()) return MalformedNative(what);
  return NativeAnswer(std::forward<T>(value));
}

}  // namespace

void NativeFrameReader::Feed(std::string_view bytes) {
  const std::span<char> room = Room(bytes.size());
  std::ranges::copy(bytes, room.begin());
  Came(bytes.size());
}

std::span<char> NativeFrameReader::Room(size_t bytes) {
  // What is left of a frame goes to the front.
  if (begin_ > 0) std::memmove(buffer_.data(), buffer_.data() + begin_, buffered());
  end_ = buffered();
  begin_ = 0;
  if (buffer_.size() - end_ < bytes) buffer_.resize(end_ + bytes);
  return std::span(buffer_).subspan(end_, bytes);
}

void NativeFrameReader::Came(size_t bytes) {
  end_ += bytes;
}

std::optional<NativeType> NativeFrameReader::PeekType() const {
  if (buffered() < kCheckedHeaderBytes) return std::nullopt;
  return static_cast<NativeType>(buffer_[begin_ + 4]);
}

Result<std::optional<NativeFrame>> NativeFrameReader::Next() {
  const std::string_view rest(buffer_.data() + begin_, buffered());
  if (rest.size() < kCheckedHeaderBytes) return std::optional<NativeFrame>();
  const uint32_t size = U32At(rest, 0);
  // Before anything is waited for: what is no frame at all mostly says a length that is none.
  if (size > bytes_max_) return ResourceExhausted("a frame of {} bytes; the limit is {}", size, bytes_max_);
  const auto type = static_cast<uint8_t>(rest[4]);
  if (type == 0 || rest[5] != 0 || rest[6] != 0 || rest[7] != 0) {
    return InvalidArgument("these are no native frames");
  }
  if (!IsNativeType(type)) return Unimplemented("frames of type {} are unknown here", type);
  if (rest.size() < kNativeFrameHeaderBytes + size) return std::optional<NativeFrame>();
  const std::string_view payload = rest.substr(kNativeFrameHeaderBytes, size);
  if (codec::Crc32cExtend(codec::Crc32c(rest.substr(0, kCheckedHeaderBytes)), payload) != U32At(rest, 8)) {
    return DataLoss("the checksum of a frame does not match");
  }
  begin_ += kNativeFrameHeaderBytes + size;
  return std::optional<NativeFrame>({static_cast<NativeType>(type), payload});
}

std::string EncodeNative(const NativeHello& hello) {
  std::string payload(kNativeHelloMagic);
  ByteWriter out(&payload);
  out.U8(hello.version);
  out.Bytes(hello.key);
  out.Bytes(hello.tenant);
  out.Bytes(hello.client);
  return EncodeNativeFrame(NativeType::kHello, payload);
}

std::string EncodeNative(const NativeSeries& series) {
  std::string payload;
  ByteWriter out(&payload);
  out.Varint(series.first);
  out.Varint(series.labels.size());
  for (const std::string_view labels : series.labels) out.Bytes(labels);
  return EncodeNativeFrame(NativeType::kSeries, payload);
}

std::string EncodeNative(const NativePing& ping) {
  std::string payload;
  ByteWriter(&payload).U64(ping.token);
  return EncodeNativeFrame(NativeType::kPing, payload);
}

std::string EncodeNative(const NativeWelcome& welcome) {
  std::string payload;
  ByteWriter out(&payload);
  out.U8(welcome.version);
  out.U32(welcome.window);
  out.U32(welcome.frame_bytes_max);
  out.U32(welcome.series_max);
  return EncodeNativeFrame(NativeType::kWelcome, payload);
}

std::string EncodeNative(const NativeAck& ack) {
  std::string payload;
  ByteWriter out(&payload);
  out.U64(ack.sequence);
  out.Varint(ack.samples);
  out.Varint(ack.rejected);
  const size_t count = std::min(ack.errors.size(), kErrorsMax);
  out.Varint(count);
  for (const NativeItemError& error : std::span(ack.errors).first(count)) {
    out.Varint(error.item);
    out.U8(static_cast<uint8_t>(error.code));
    out.Bytes(Cut(error.reason));
  }
  return EncodeNativeFrame(NativeType::kAck, payload);
}

std::string EncodeNative(const NativeRefused& refused) {
  std::string payload;
  ByteWriter out(&payload);
  out.U64(refused.sequence);
  out.U8(static_cast<uint8_t>(refused.code));
  out.U32(refused.retry_after_ms);
  out.Bytes(Cut(refused.reason));
  return EncodeNativeFrame(NativeType::kRefused, payload);
}

std::string EncodeNative(const NativePong& pong) {
  std::string payload;
  ByteWriter(&payload).U64(pong.token);
  return EncodeNativeFrame(NativeType::kPong, payload);
}

std::string EncodeNative(const NativeError& error) {
  std::string payload;
  ByteWriter out(&payload);
  out.U8(static_cast<uint8_t>(error.code));
  out.Bytes(Cut(error.reason));
  return EncodeNativeFrame(NativeType::kError, payload);
}

std::string EncodeNativeWrite(uint64_t sequence, std::span<const uint32_t> refs,
                              std::span<const TimestampMs> timestamps, std::span<const double> values) {
  MS_CHECK(refs.size() == timestamps.size() && refs.size() == values.size());
  std::string payload;
  payload.reserve(12 + 20 * refs.size());
  ByteWriter out(&payload);
  out.U64(sequence);
  out.U32(static_cast<uint32_t>(refs.size()));
  for (const uint32_t ref : refs) out.U32(ref);
  for (const TimestampMs timestamp : timestamps) out.U64(static_cast<uint64_t>(timestamp));
  for (const double value : values) out.Double(value);
  return EncodeNativeFrame(NativeType::kWrite, payload);
}

Result<NativeAnswer> DecodeNativeAnswer(const NativeFrame& frame) {
  ByteReader in(frame.payload);
  switch (frame.type) {
    case NativeType::kWelcome: {
      NativeWelcome welcome;
      return WholeAnswer(ReadWelcome(in, &welcome), in, welcome, "welcome");
    }
    case NativeType::kAck: {
      NativeAck ack;
      return WholeAnswer(ReadAck(in, &ack), in, std::move(ack), "ack");
    }
    case NativeType::kRefused: {
      NativeRefused refused;
      const bool read = in.U64(&refused.sequence) && ReadNativeCode(in, &refused.code) &&
                        in.U32(&refused.retry_after_ms) && in.Bytes(&refused.reason);
      return WholeAnswer(read, in, refused, "refused");
    }
    case NativeType::kPong: {
      NativePong pong;
      return WholeAnswer(in.U64(&pong.token), in, pong, "pong");
    }
    case NativeType::kError: {
      NativeError error;
      return WholeAnswer(ReadNativeCode(in, &error.code) && in.Bytes(&error.reason), in, error, "error");
    }
    case NativeType::kHello:
    case NativeType::kSeries:
    case NativeType::kWrite:
    case NativeType::kPing:
    case NativeType::kPublish:
    case NativeType::kFetch:
    case NativeType::kSubscribe:
    case NativeType::kCredit:
    case NativeType::kUnsubscribe:
      return InvalidArgument("a frame of a client came from a server");
    case NativeType::kPublished:
    case NativeType::kFetched:
    case NativeType::kSubscribed:
    case NativeType::kDelivered:
    case NativeType::kEnded:
      break;
  }
  return InvalidArgument("a frame about events came to who asked for none");
}

}  // namespace millstream::wire

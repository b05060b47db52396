#include <utility>

#include "millstream/codec/byte_io.h"
#include "millstream/wire/labels_decoder.h"
#include "millstream/wire/native_frame.h"
#include "native_text.h"
#include "pairs_batch.h"

namespace millstream::wire {
namespace {

using codec::ByteReader;

constexpr std::string_view kDatagramMagic = "MSU1";
// A reference, a timestamp and a value.
constexpr size_t kNativeSampleBytes = 20;
constexpr size_t kReferenceOverheadBytes = 32;
constexpr uint32_t kNowhere = UINT32_MAX;

uint32_t RefAt(std::string_view refs, uint32_t index) {
  uint32_t ref = 0;
  ByteReader in(refs.substr(4 * size_t{index}));
  return in.U32(&ref) ? ref : 0;
}

}  // namespace

Result<std::optional<NativeSession::Event>> NativeSession::Next() {
  while (true) {
    MS_ASSIGN_OR_RETURN(const std::optional<NativeFrame> frame, reader_.Next());
    if (!frame) return std::optional<Event>();
    if (!greeted_ && frame->type != NativeType::kHello) return FailedPrecondition("the first frame must be a hello");
    switch (frame->type) {
      case NativeType::kHello: {
        if (greeted_) return FailedPrecondition("a second hello");
        MS_ASSIGN_OR_RETURN(Hello hello, TakeHello(frame->payload));
        greeted_ = true;
        reader_.set_bytes_max(kNativeFrameBytesMax);
        return std::optional<Event>(std::move(hello));
      }
      case NativeType::kSeries:
        MS_RETURN_IF_ERROR(TakeSeries(frame->payload));
        break;
      case NativeType::kWrite: {
        MS_ASSIGN_OR_RETURN(Write write, TakeWrite(frame->payload));
        return std::optional<Event>(std::move(write));
      }
      case NativeType::kPing: {
        ByteReader in(frame->payload);
        NativePing ping;
        if (!in.U64(&ping.token) || !in.empty()) return InvalidArgument("the ping frame is cut off or malformed");
        return std::optional<Event>(ping);
      }
      case NativeType::kPublish:
      case NativeType::kFetch: {
        ByteReader in(frame->payload);
        uint64_t sequence = 0;
        if (!in.U64(&sequence)) return InvalidArgument("the frame is cut off");
        MS_RETURN_IF_ERROR(TakeSequence(sequence));
        return std::optional<Event>(EventFrame{frame->type, frame->payload});
      }
      case NativeType::kSubscribe:
      case NativeType::kCredit:
      case NativeType::kUnsubscribe:
        return std::optional<Event>(EventFrame{frame->type, frame->payload});
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
        return InvalidArgument("a frame of a server came from a client");
    }
  }
}

Result<std::optional<NativeSession::EventFrame>> NativeSession::NextPublish() {
  if (!greeted_ || reader_.PeekType() != NativeType::kPublish) return std::optional<EventFrame>();
  MS_ASSIGN_OR_RETURN(std::optional<Event> event, Next());
  if (!event) return std::optional<EventFrame>();
  return std::optional<EventFrame>(std::get<EventFrame>(std::move(*event)));
}

Status NativeSession::TakeSequence(uint64_t sequence) {
  if (sequence_ && sequence <= *sequence_) {
    return InvalidArgument("frame {} comes after frame {}", sequence, *sequence_);
  }
  sequence_ = sequence;
  return Status::Ok();
}

Result<NativeSession::Hello> NativeSession::TakeHello(std::string_view payload) {
  ByteReader in(payload);
  std::string_view magic;
  NativeHello hello;
  if (!in.Raw(kNativeHelloMagic.size(), &magic) || magic != kNativeHelloMagic || !in.U8(&hello.version) ||
      !ReadNativeText(in, &hello.key) || !ReadNativeText(in, &hello.tenant) || !ReadNativeText(in, &hello.client) ||
      !in.empty()) {
    return InvalidArgument("the hello frame is cut off or malformed");
  }
  if (hello.version != kNativeVersion) return Unimplemented("version {} of native frames is unknown", hello.version);
  return Hello{std::string(hello.key), std::string(hello.tenant), std::string(hello.client)};
}

Status NativeSession::TakeSeries(std::string_view payload) {
  ByteReader in(payload);
  uint64_t first = 0;
  uint64_t count = 0;
  if (!in.Varint(&first) || !in.Count(&count, in.remaining())) {
    return InvalidArgument("the series frame is cut off or malformed");
  }
  if (first != series_.size()) return InvalidArgument("series from {} on; the next is {}", first, series_.size());
  if (series_.size() + count > limits_.series_max) {
    return ResourceExhausted("more than {} series on one connection", limits_.series_max);
  }
  for (uint64_t i = 0; i < count; ++i) {
    std::string_view labels;
    if (!in.Bytes(&labels)) return InvalidArgument("the series frame is cut off or malformed");
    label_bytes_ += labels.size() + kReferenceOverheadBytes;
    if (label_bytes_ > limits_.label_bytes_max) {
      return ResourceExhausted("more than {} bytes of labels on one connection", limits_.label_bytes_max);
    }
    series_.emplace_back(labels);
  }
  if (!in.empty()) return InvalidArgument("{} bytes follow the series", in.remaining());
  return Status::Ok();
}

Result<NativeSession::Write> NativeSession::TakeWrite(std::string_view payload) {
  ByteReader in(payload);
  Write write;
  uint32_t count = 0;
  if (!in.U64(&write.sequence) || !in.U32(&count) || in.remaining() != kNativeSampleBytes * size_t{count}) {
    return InvalidArgument("the write frame is cut off or malformed");
  }
  MS_RETURN_IF_ERROR(TakeSequence(write.sequence));
  std::string_view ref_bytes;
  std::string_view timestamp_bytes;
  if (!in.Raw(4 * size_t{count}, &ref_bytes) || !in.Raw(8 * size_t{count}, &timestamp_bytes)) {
    return InvalidArgument("the write frame is cut off or malformed");
  }
  // Each series once, however its samples are strewn over the frame: a reference of four bytes must not cost a copy of
  // its labels every time. A stable counting sort by series, in the order in which they come first.
  std::vector<uint32_t> slots(count);
  std::vector<uint32_t> first;  // sample of each slot
  std::vector<uint32_t> counts;
  place_.resize(series_.size(), kNowhere);
  ByteReader refs(ref_bytes);
  for (uint32_t i = 0; i < count; ++i) {
    uint32_t ref = 0;
    if (!refs.U32(&ref) || ref >= series_.size()) {
      for (const uint32_t sample : first) place_[RefAt(ref_bytes, sample)] = kNowhere;
      return InvalidArgument("series {} is not defined; {} are", ref, series_.size());
    }
    if (place_[ref] == kNowhere) {
      place_[ref] = static_cast<uint32_t>(first.size());
      first.push_back(i);
      counts.push_back(0);
    }
    slots[i] = place_[ref];
    ++counts[slots[i]];
  }
  std::vector<uint32_t> next(first.size());
  for (size_t slot = 1; slot < first.size(); ++slot) next[slot] = next[slot - 1] + counts[slot - 1];
  std::vector<TimestampMs> sorted_timestamps(count);
  std::vector<double> sorted_values(count);
  ByteReader timestamps(timestamp_bytes);
  for (uint32_t i = 0; i < count; ++i) {
    uint64_t timestamp = 0;
    double value = 0;
    if (!timestamps.U64(&timestamp) || !in.Double(&value)) return InvalidArgument("the write frame is cut off");
    const uint32_t at = next[slots[i]]++;
    sorted_timestamps[at] = static_cast<TimestampMs>(timestamp);
    sorted_values[at] = value;
  }
  PairsBatch batch;
  uint32_t sample = 0;
  for (size_t slot = 0; slot < first.size(); ++slot) {
    const uint32_t ref = RefAt(ref_bytes, first[slot]);
    place_[ref] = kNowhere;
    batch.Begin(first[slot], series_[ref]);
    for (uint32_t end = sample + counts[slot]; sample < end; ++sample) {
      batch.AddFloat(sorted_timestamps[sample], sorted_values[sample]);
    }
  }
  write.samples = batch.Take();
  return write;
}

Result<std::string> EncodeNativeDatagram(const NativeDatagram& datagram) {
  return EncodeNativeEnvelope(kDatagramMagic, {.client = datagram.client,
                                               .sequence = datagram.sequence,
                                               .key = datagram.key,
                                               .tenant = datagram.tenant,
                                               .rest = datagram.batch});
}

Result<NativeDatagram> DecodeNativeDatagram(std::string_view bytes) {
  MS_ASSIGN_OR_RETURN(const NativeEnvelope envelope, DecodeNativeEnvelope(kDatagramMagic, "native datagram", bytes));
  return NativeDatagram{.client = envelope.client,
                        .sequence = envelope.sequence,
                        .key = envelope.key,
                        .tenant = envelope.tenant,
                        .batch = envelope.rest};
}

}  // namespace millstream::wire

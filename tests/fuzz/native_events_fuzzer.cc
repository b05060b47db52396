// Every decoder of native frames that carry events: the first byte chooses one. What decodes is encoded and decoded
// again, and must be the same.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "millstream/base/check.h"
#include "millstream/wire/native_events.h"
#include "millstream/wire/native_frame.h"

namespace {

using namespace millstream::wire;  // NOLINT(google-build-using-namespace)

std::string Payload(const std::string& frame) {
  return frame.substr(kNativeFrameHeaderBytes);
}
std::string Payload(const millstream::Result<std::string>& frame) {
  MS_CHECK(frame.ok());  // its payload was no longer than this one
  return Payload(*frame);
}

template <typename Decode>
void Check(std::string_view bytes, Decode decode) {
  const auto first = decode(bytes);
  if (!first.ok()) return;
  const std::string again = Payload(EncodeNative(*first));
  const auto second = decode(again);
  MS_CHECK(second.ok() && *second == *first);
}

// Over what was decoded before it is the same.
void CheckReused(std::string_view bytes) {
  static NativeDelivered* const reused = new NativeDelivered;
  static std::string* const kept = new std::string;  // that `reused` points into
  const std::string now(bytes);
  const auto fresh = DecodeNativeDelivered(now);
  MS_CHECK(DecodeNativeDeliveredInto(now, reused).ok() == fresh.ok());
  if (!fresh.ok()) return;
  MS_CHECK(*reused == *fresh);
  *kept = now;
  MS_CHECK(DecodeNativeDeliveredInto(*kept, reused).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 11) {
    case 0:
      Check(bytes, DecodeNativePublish);
      break;
    case 1:
      Check(bytes, DecodeNativePublished);
      break;
    case 2:
      Check(bytes, DecodeNativeFetch);
      break;
    case 3:
      Check(bytes, DecodeNativeFetched);
      break;
    case 4:
      Check(bytes, DecodeNativeSubscribe);
      break;
    case 5:
      Check(bytes, DecodeNativeCredit);
      break;
    case 6:
      Check(bytes, DecodeNativeUnsubscribe);
      break;
    case 7:
      Check(bytes, DecodeNativeSubscribed);
      break;
    case 8:
      Check(bytes, DecodeNativeDelivered);
      CheckReused(bytes);
      break;
    case 9:
      if (const auto ended = DecodeNativeEnded(bytes); ended.ok() && ended->reason.size() <= kNativeTextBytesMax) {
        Check(bytes, DecodeNativeEnded);
      }
      break;
    default:
      if (const auto datagram = DecodeNativeEventDatagram(bytes); datagram.ok()) {
        (void)DecodeNativePublish(datagram->publish).ok();
      }
  }
  return 0;
}

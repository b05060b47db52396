#include "millstream/storage/future_limit.h"

namespace millstream::storage {

FutureLimit::FutureLimit(TimestampMs now, int64_t window_ms) : window_ms_(window_ms) {
  if (window_ms <= 0 || __builtin_add_overflow(now, window_ms, &newest_)) newest_ = INT64_MAX;
}

Status FutureLimit::Refusal(std::string_view kind, TimestampMs timestamp) const {
  // Unsigned: the difference has room for a clock that stands before 1970.
  const uint64_t ahead = static_cast<uint64_t>(timestamp) - static_cast<uint64_t>(newest_ - window_ms_);
  return OutOfRange(
      "{} too far in the future: timestamp {} (read as ms) is {} ms ahead of the clock, and storage.future_window "
      "allows "
      "{} ms; is its unit right, and the sender's clock?",
      kind, timestamp, ahead, window_ms_);
}

}  // namespace millstream::storage

// Records of events: what decodes is encoded to the same meaning again, and as JSON when its payload is JSON.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "millstream/base/check.h"
#include "millstream/events/event.h"
#include "millstream/events/event_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using millstream::events::StoredEvent;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto decoded = millstream::events::DecodeEvent(bytes);
  // Over any other event it is the same.
  millstream::events::EventView reused{
      .taken_ms = 1,
      .timestamp = 2,
      .is_json = true,
      .client_id = "id",
      .producer = millstream::events::ProducerStamp{.id = "p", .epoch = 3, .sequence = 4},
      .key = "key",
      .headers = {{"a", "b"}, {"c", "d"}},
      .payload = "payload",
      .is_gone = true};
  MS_CHECK(millstream::events::DecodeEventInto(bytes, &reused).ok() == decoded.ok());
  if (!decoded.ok()) return 0;
  MS_CHECK(reused == *decoded);
  const std::string again = millstream::events::EncodeEvent(*decoded);
  const auto twice = millstream::events::DecodeEvent(again);
  MS_CHECK(twice.ok() && *twice == *decoded);
  auto stored = StoredEvent::Make(std::string(bytes));
  MS_CHECK(stored.ok());
  if (decoded->is_json && !millstream::events::CheckJson(decoded->payload).ok()) return 0;
  // An id is checked when it is published, not when it is read.
  if (!decoded->client_id.empty()) return 0;
  std::string json;
  millstream::events::AppendEventJson("topic", **stored, &json);
  MS_CHECK(millstream::events::CheckJson(json).ok());
  return 0;
}

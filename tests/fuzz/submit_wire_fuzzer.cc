// A submit of StreamEvents as it is read by hand: what is read lies within the bytes. That it is what protobuf reads is
// for tests/cpp/node/submit_wire_test.cc to say.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "millstream/base/check.h"
#include "millstream/events/limits.h"
#include "submit_wire.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto within = [bytes](std::string_view part) {
    MS_CHECK(part.empty() || (part.data() >= bytes.data() && part.data() + part.size() <= bytes.data() + bytes.size()));
  };
  const auto read = millstream::node::ReadSubmit(bytes);
  if (!read.has_value()) return 0;
  MS_CHECK(read->events.size() <= millstream::events::kPublishEventsMax);
  for (const auto& [topic, event, has_timestamp, partition] : read->events) {
    within(topic);
    within(event.payload);
    within(event.client_id);
    if (event.key.has_value()) within(*event.key);
    if (event.producer.has_value()) within(event.producer->id);
    for (const auto& [name, value] : event.headers) {
      within(name);
      within(value);
    }
  }
  return 0;
}

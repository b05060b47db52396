// A submit of StreamEvents as it is read by hand: whatever is read must be what protobuf reads in the same bytes.
#include <cstddef>
#include <cstdint>
#include <string>

#include "event_convert.h"
#include "millstream/base/check.h"
#include "submit_wire.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millstream::node;  // NOLINT(google-build-using-namespace)
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const auto read = ReadSubmit(bytes);
  if (!read.has_value()) return 0;
  millstream::v1::StreamEventsRequest request;
  MS_CHECK(request.ParseFromString(bytes) && request.has_submit());
  MS_CHECK(read->id == request.id() && read->tenant == request.submit().tenant());
  const auto wanted = EventsOf(request.submit());
  MS_CHECK(wanted.ok() && wanted->size() == read->events.size());
  for (size_t i = 0; i < wanted->size(); ++i) {
    const auto& one = read->events[i];
    const auto& other = (*wanted)[i];
    MS_CHECK(one.topic == other.topic && one.event == other.event);
    MS_CHECK(one.has_timestamp == other.has_timestamp && one.partition == other.partition);
  }
  return 0;
}

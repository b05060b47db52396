// An event as the JSON object that fetch answers and a stream sends.
//
// Cost        Appends. A JSON payload goes out as it came in, since it was checked then.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "millstream/base/status.h"
#include "millstream/events/event.h"

namespace millstream::events {

// {"type":"event","id":…,"topic":…,"partition":…,"offset":…,"timestamp":…,"key":…,"headers":{…},"payload":…}: without
// a key it is null, and one that is no UTF-8 is "key_base64" in its place; bytes are "payload_base64". With an
// `attempt` that is not 0 there is "attempt", too.
void AppendEventJson(std::string_view topic, const StoredEvent& event, std::string* out, uint32_t attempt = 0);

// Appends a WebSocket's text frame (RFC 6455, section 5.2), not masked, whose text is `head` and then the object above
// without its first brace. `head` is the beginning of a JSON object up to a comma, such as {"subscription":"s", with
// the brace. The object is written once for all readers of an event, and kept with it unless it is out of proportion.
void AppendEventFrame(std::string_view head, std::string_view topic, const StoredEvent& event, std::string* out);

// kInvalidArgument unless the payload is one JSON value in UTF-8.
Status CheckJson(std::string_view payload);

}  // namespace millstream::events

#include "millstream/events/event_json.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <iterator>

#include "millstream/base/utf8.h"
#include "millstream/wire/json_writer.h"

namespace millstream::events {
namespace {

void AppendBase64(std::string_view bytes, std::string* out) {
  static constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto byte = [&](size_t i) { return i < bytes.size() ? static_cast<uint8_t>(bytes[i]) : 0U; };
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const uint32_t word = byte(i) << 16 | byte(i + 1) << 8 | byte(i + 2);
    out->push_back(kAlphabet[word >> 18]);
    out->push_back(kAlphabet[word >> 12 & 63]);
    out->push_back(i + 1 < bytes.size() ? kAlphabet[word >> 6 & 63] : '=');
    out->push_back(i + 2 < bytes.size() ? kAlphabet[word & 63] : '=');
  }
}

}  // namespace

void AppendEventJson(std::string_view topic, const StoredEvent& event, std::string* out) {
  const EventView& view = event.view();
  *out += R"({"type":"event","id":")";
  *out += event.Id();
  *out += R"(","topic":")";
  *out += topic;
  fmt::format_to(std::back_inserter(*out), R"(","partition":{},"offset":{},"timestamp":{},)", event.partition(),
                 event.offset(), view.timestamp);
  if (!view.key.has_value()) {
    *out += R"("key":null,)";
  } else if (IsValidUtf8(*view.key)) {
    *out += R"("key":)";
    wire::AppendJsonString(*view.key, out);
    *out += ',';
  } else {
    *out += R"("key_base64":")";
    AppendBase64(*view.key, out);
    *out += R"(",)";
  }
  *out += R"("headers":{)";
  for (size_t i = 0; i < view.headers.size(); ++i) {
    if (i > 0) *out += ',';
    wire::AppendJsonString(view.headers[i].first, out);
    *out += ':';
    wire::AppendJsonString(view.headers[i].second, out);
  }
  *out += "},";
  if (view.is_json) {
    *out += R"("payload":)";
    *out += view.payload;
  } else {
    *out += R"("payload_base64":")";
    AppendBase64(view.payload, out);
    *out += '"';
  }
  *out += '}';
}

Status CheckJson(std::string_view payload) {
  // One for each thread: it keeps its buffers, which are bounded by the largest event.
  thread_local simdjson::dom::parser parser;
  const simdjson::error_code error = parser.parse(payload.data(), payload.size(), true).error();
  if (error == simdjson::SUCCESS) return Status::Ok();
  return InvalidArgument("the payload is not JSON: {}", simdjson::error_message(error));
}

}  // namespace millstream::events

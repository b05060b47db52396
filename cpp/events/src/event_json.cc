#include "millstream/events/event_json.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <iterator>

#include "millstream/base/check.h"
#include "millstream/base/utf8.h"
#include "millstream/events/limits.h"
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

// Escapes and base64 make a text longer than its record, and it counts in no limit of memory of its own.
constexpr size_t kKeptTextBytes = 512;

constexpr size_t kJsonBytesAtFirst = 4096;  // it grows

void AppendFrameHeader(size_t size, std::string* out) {
  *out += '\x81';
  if (size < 126) {
    *out += static_cast<char>(size);
    return;
  }
  const int bytes = size < (1U << 16) ? 2 : 8;
  *out += static_cast<char>(bytes == 2 ? 126 : 127);
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) *out += static_cast<char>(size >> shift & 0xFF);
}

}  // namespace

void AppendEventFrame(std::string_view head, std::string_view topic, const StoredEvent& event, std::string* out) {
  const std::string* text = event.kept_text();
  std::string made;
  if (text == nullptr) {
    made.reserve(event.record().size() + 256);
    AppendEventJson(topic, event, &made);
    text = &made;
    if (made.size() <= kKeptTextBytes + 2 * event.record().size()) {
      made.shrink_to_fit();
      text = &event.KeepText(std::move(made));
    }
  }
  const std::string_view rest = std::string_view(*text).substr(1);
  AppendFrameHeader(head.size() + rest.size(), out);
  *out += head;
  *out += rest;
}

void AppendEventJson(std::string_view topic, const StoredEvent& event, std::string* out, uint32_t attempt) {
  const EventView& view = event.view();
  *out += R"({"type":"event","id":")";
  *out += event.Id();
  *out += R"(","topic":")";
  *out += topic;
  fmt::format_to(std::back_inserter(*out), R"(","partition":{},"offset":{},"timestamp":{},)", event.partition(),
                 event.offset(), view.timestamp);
  if (attempt > 0) fmt::format_to(std::back_inserter(*out), R"("attempt":{},)", attempt);
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
  // One for each thread: it keeps its buffers, which are bounded by the largest event. It counts what is innermost,
  // too.
  thread_local simdjson::dom::parser parser = [] {
    simdjson::dom::parser bounded;
    MS_CHECK(bounded.allocate(kJsonBytesAtFirst, kPayloadDepthMax + 1) == simdjson::SUCCESS);
    return bounded;
  }();
  const simdjson::error_code error = parser.parse(payload.data(), payload.size(), true).error();
  if (error == simdjson::SUCCESS) return Status::Ok();
  if (error == simdjson::DEPTH_ERROR) {
    return InvalidArgument("the payload is nested more than {} levels deep", kPayloadDepthMax);
  }
  return InvalidArgument("the payload is not JSON: {}", simdjson::error_message(error));
}

}  // namespace millstream::events

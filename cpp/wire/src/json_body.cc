#include "json_body.h"

#include <algorithm>

#include "millstream/wire/json_metrics.h"

namespace millstream::wire {

JsonBody::JsonBody() : parser_(kJsonBytesMax) {}

Status JsonBody::Open(std::string_view text) {
  if (text.size() > kJsonBytesMax) {
    return ResourceExhausted("the body has {} bytes; the limit is {}", text.size(), kJsonBytesMax);
  }
  if (parser_.allocate(std::max<size_t>(text.size(), 1), kJsonDepthMax) != simdjson::SUCCESS) {
    return ResourceExhausted("no memory to parse a body of {} bytes", text.size());
  }
  padded_ = simdjson::padded_string(text);
  if (const auto error = parser_.iterate(padded_).get(document_)) return NotJson(error);
  return Status::Ok();
}

Status JsonBody::CheckEnd() {
  if (document_.current_location().error() == simdjson::OUT_OF_BOUNDS) return Status::Ok();
  return InvalidArgument("the body is not JSON: something follows its end");
}

}  // namespace millstream::wire

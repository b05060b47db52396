// A schema, and behind the first zero byte a payload: whatever they are, checking ends, and a second time alike.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "millstream/base/check.h"
#include "millstream/events/topic_schema.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const size_t end = bytes.find('\0');
  const auto schema = millstream::events::TopicSchema::Compile(bytes.substr(0, end));
  if (!schema.ok() || end == std::string_view::npos) return 0;
  const std::string_view payload = bytes.substr(end + 1);
  const auto again = millstream::events::TopicSchema::Compile(schema->text());
  MS_CHECK(again.ok() && *again == *schema);
  MS_CHECK(schema->Check(payload) == again->Check(payload));
  return 0;
}

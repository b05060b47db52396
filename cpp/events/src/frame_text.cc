#include "frame_text.h"

#include <fmt/format.h>

#include <utility>

#include "millstream/events/event_json.h"

namespace millstream::events {

void FrameText::Add(std::string_view head, std::string_view topic, const StoredEvent& event, uint32_t attempt) {
  const bool is_first = text_.empty();
  if (attempt == 0) {
    AppendEventFrame(head, topic, event, &text_);
  } else {
    AppendEventFrame(fmt::format(R"({}"attempt":{},)", head, attempt), topic, event, &text_);
  }
  // The others will be about as long.
  if (is_first) text_.reserve(text_.size() * (events_ + 1));
}

std::shared_ptr<const std::string> FrameText::Take() {
  return std::make_shared<const std::string>(std::move(text_));
}

}  // namespace millstream::events

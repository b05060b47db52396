// FrameText: events as frames of a WebSocket, one behind the other.
//
// Threads     One.
// Cost        One allocation or two, when the events are about as long as the first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "millstream/events/event.h"

namespace millstream::events {

class FrameText {
 public:
  // So many events will come.
  explicit FrameText(size_t events) : events_(events) {}

  // As AppendEventFrame; an `attempt` that is not 0 stands behind the head.
  void Add(std::string_view head, std::string_view topic, const StoredEvent& event, uint32_t attempt = 0);

  // Once, at the end.
  std::shared_ptr<const std::string> Take();

 private:
  const size_t events_;
  std::string text_;
};

}  // namespace millstream::events

// The two messages of which StreamEvents carries thousands a second, read and written without protobuf's objects: a
// StreamEventsRequest that submits, and the StreamEventsResponse to it.
//
// Protobuf's objects cost a dozen allocations for each event. What is read here is a view into the message; what is
// written is the same as protobuf would write.
//
// Errors      None: what ReadSubmit does not read is for protobuf to read, or to refuse.
// Source      https://protobuf.dev/programming-guides/encoding; proto/millstream/v1/events.proto has the numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/events/broker.h"

namespace millstream::node {

struct SubmitView {
  uint64_t id = 0;
  uint32_t tenant = 0;
  std::vector<events::PublishEvent> events;  // views into the message
};

// None for any other message, for more events than one call takes, and where fields stand as no client of ours writes
// them.
std::optional<SubmitView> ReadSubmit(std::string_view message);

// An answer to each of `events`.
std::string WriteSubmitted(uint64_t id, std::span<const events::PublishEvent> events,
                           std::span<const Result<events::Published>> answers);

}  // namespace millstream::node

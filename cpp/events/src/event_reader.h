// EventReader: the operands of filters and rules, looked up in one event. Its payload is parsed at most once, and not
// at all when nobody asks for it.
//
// Threads     One. Of all readers of a thread only the newest may be asked: they share a parser, which keeps its
//             buffers; those are bounded by the largest event.
#pragma once

#include <simdjson.h>

#include <optional>
#include <string_view>
#include <variant>

#include "exact.h"
#include "filter.h"
#include "millstream/events/event.h"

namespace millstream::events {

class EventReader {
 public:
  struct Absent {};
  struct Null {};
  struct Other {};  // an array or an object: there, and equal to nothing
  using Value = std::variant<Absent, Null, Other, bool, Exact, std::string_view>;

  EventReader(std::string_view topic, const EventView& event) : topic_(topic), event_(event) {}
  const EventView& event() const { return event_; }

  Value ValueOf(const Filter::Operand& operand);

 private:
  Value FieldOf(const Filter::Field& field);

  const std::string_view topic_;
  const EventView& event_;
  bool parsed_ = false;
  std::optional<simdjson::dom::element> root_;
};

}  // namespace millstream::events

// Filter: which events a subscription wants, by a small expression on topic, key, headers and the fields of a JSON
// payload.
//
//   payload.amount > 10 && (key == "a" || headers["region"] != "eu") && !payload.items[0].gift
//
// Grammar     or:      and ("||" and)*
//             and:     unary ("&&" unary)*
//             unary:   "!" unary | "(" or ")" | operand (("==" | "!=" | "<" | "<=" | ">" | ">=") operand)?
//             operand: string | number | true | false | null | topic | key | headers PATH | payload PATH
//             PATH:    ("." name | "[" string "]" | "[" index "]")*
//             string: "…", with \" and \\ for a quote and a backslash; name: letters, figures, _, - and all that is
//             not ASCII
// Meaning     A field or header that is not there, or a payload that is no JSON, is absent; so is what is below it. The
//             key of an event without one is null. Values of different kinds are unequal, and none is above another;
//             strings compare by their bytes, and numbers exactly where they are whole and have 64 bits, else as
//             doubles. An absent value is unequal to everything, null included. An operand alone holds when it is there
//             and neither false nor null.
// Threads     Immutable; Matches from any thread.
// Cost        A payload is parsed at most once for each event, and not at all when nothing asks for it.
// Errors      kInvalidArgument with the byte where the text goes wrong, or for one beyond kFilterBytesMax,
//             kFilterNodesMax or kFilterDepthMax.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "exact.h"
#include "millstream/base/result.h"
#include "millstream/events/event.h"

namespace millstream::events {

inline constexpr size_t kFilterBytesMax = 4096;
inline constexpr size_t kFilterNodesMax = 256;
inline constexpr int kFilterDepthMax = 32;

class EventReader;

class Filter {
 public:
  struct Literal {
    std::variant<std::monostate, bool, Exact, std::string> value;  // the first is null
  };
  struct Topic {};
  struct Key {};
  struct Header {
    std::string name;
  };
  struct Field {
    std::vector<std::variant<std::string, size_t>> path;
  };
  using Operand = std::variant<Literal, Topic, Key, Header, Field>;

  static Result<std::unique_ptr<const Filter>> Parse(std::string_view text);
  // One operand by itself.
  static Result<Operand> ParseOperand(std::string_view text);
  bool Matches(std::string_view topic, const EventView& event) const;
  bool Matches(EventReader& reader) const;

 private:
  friend class FilterParser;
  friend class FilterRun;

  enum class Op : uint8_t { kOr, kAnd, kNot, kHolds, kEqual, kUnequal, kLess, kLessEqual, kGreater, kGreaterEqual };
  struct Node {
    Op op = Op::kHolds;
    size_t left = 0;   // of kOr, kAnd and kNot a node, else an operand
    size_t right = 0;  // likewise; not of kNot and kHolds
  };

  std::vector<Node> nodes_;
  std::vector<Operand> operands_;
  size_t root_ = 0;
};

}  // namespace millstream::events

// Script: a test script as commands.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "millstream/promql/parser.h"
#include "series.h"

namespace millstream::promqltest {

struct LoadedSeries {
  model::Labels labels;
  std::vector<SequenceValue> values;
  std::vector<std::optional<int64_t>> start_offsets;  // of each value; empty when there are none
};

struct LoadCommand {
  int line = 0;
  int64_t step_ms = 0;
  bool with_nhcb = false;
  std::vector<LoadedSeries> series;  // each label set once
};

struct ClearCommand {
  int line = 0;
};

// A condition on a message: nothing, the whole text, or a regular expression that must be found in it.
struct MessageMatcher {
  enum class Kind { kAny, kText, kRegex };
  Kind kind = Kind::kAny;
  std::string text;

  bool Matches(std::string_view message) const;
  std::string ToString() const;
};

struct ExpectedSeries {
  model::Labels labels;
  std::vector<SequenceValue> values;
  size_t position = 0;  // among the result lines
};

struct EvalCommand {
  int line = 0;
  std::string expression;
  Status malformed;  // not OK: this eval cannot be run, and says why
  bool range = false;
  // Of a range query. An instant query's time is `start`.
  TimestampMs start = 0;
  TimestampMs end = 0;
  int64_t step_ms = 0;

  bool ordered = false;
  std::optional<MessageMatcher> fail;
  std::vector<MessageMatcher> warnings;
  std::vector<MessageMatcher> infos;
  bool no_warnings = false;
  bool no_infos = false;
  // An instant query that yields a range vector: its expected times.
  bool expect_range_vector = false;
  std::optional<std::string> expected_string;
  std::optional<double> expected_scalar;
  std::vector<ExpectedSeries> expected;
};

using Command = std::variant<LoadCommand, ClearCommand, EvalCommand>;

struct Script {
  std::vector<Command> commands;
  Status broken;  // not OK: names the line from which on the script could not be read
  // Lines and expressions of the evals from there on.
  std::vector<std::pair<int, std::string>> unread_evals;
};

// An eval that is malformed, or whose expression does not parse with `options`, is a command that says so. What comes
// after any other line that means nothing is not read, since its data may be wrong.
Script ParseScript(std::string_view text, const promql::ParserOptions& options);

}  // namespace millstream::promqltest

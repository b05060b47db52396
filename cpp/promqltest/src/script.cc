#include "script.h"

#include <fmt/format.h>
#include <re2/re2.h>

#include <algorithm>

namespace millstream::promqltest {
namespace {

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  const size_t start = text.find_first_not_of(kSpace);
  if (start == std::string_view::npos) return {};
  return text.substr(start, text.find_last_not_of(kSpace) - start + 1);
}

// Trimmed lines; comments are empty lines and so end a block.
std::vector<std::string_view> SplitLines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (true) {
    const size_t end = text.find('\n');
    std::string_view line = Trim(text.substr(0, end));
    if (line.starts_with('#')) line = {};
    lines.push_back(line);
    if (end == std::string_view::npos) return lines;
    text.remove_prefix(end + 1);
  }
}

re2::StringPiece Piece(std::string_view text) {
  return {text.data(), text.size()};
}

const re2::RE2& LoadPattern() {
  static const re2::RE2 pattern(R"(^load(?:_(with_nhcb))?\s+(.+?)$)");
  return pattern;
}
const re2::RE2& InstantPattern() {
  static const re2::RE2 pattern(R"(^eval(?:_(fail|warn|ordered|info))?\s+instant\s+(?:at\s+(.+?))?\s+(.+)$)");
  return pattern;
}
const re2::RE2& RangePattern() {
  static const re2::RE2 pattern(
      R"(^eval(?:_(fail|warn|info))?\s+range\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+?)\s+(.+)$)");
  return pattern;
}
const re2::RE2& ExpectPattern() {
  static const re2::RE2 pattern(R"(^expect\s+(ordered|fail|warn|no_warn|info|no_info)(?:\s+(regex|msg):(.+))?$)");
  return pattern;
}
const re2::RE2& ExpectRangePattern() {
  static const re2::RE2 pattern(R"(^expect range vector\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+)$)");
  return pattern;
}
const re2::RE2& ExpectStringPattern() {
  static const re2::RE2 pattern(R"(^expect string\s+(.+)$)");
  return pattern;
}

Status AtLine(int line, const Status& status) {
  return Status(status.code(), fmt::format("line {}: {}", line, status.message()));
}

class Parser {
 public:
  Parser(std::string_view text, const promql::ParserOptions& options) : lines_(SplitLines(text)), options_(options) {}

  Script Run() {
    Script script;
    while (at_ < lines_.size()) {
      if (lines_[at_].empty()) {
        ++at_;
        continue;
      }
      const size_t first = at_++;
      line_ = static_cast<int>(at_);
      auto command = ParseCommand(lines_[first]);
      if (!command.ok()) {
        script.broken = AtLine(line_, command.status());
        script.unread_evals = ListEvals(first);
        return script;
      }
      script.commands.push_back(*std::move(command));
    }
    return script;
  }

 private:
  Result<Command> ParseCommand(std::string_view line) {
    const std::string word = LowerWord(line);
    if (word == "clear") return Command(ClearCommand{line_});
    if (word.starts_with("load")) return ParseLoad(line);
    if (word.starts_with("eval")) return ParseEval(line);
    return InvalidArgument("unknown command {}", model::Quote(word));
  }

  static std::string LowerWord(std::string_view line) {
    std::string word(line.substr(0, line.find_first_of(" \t")));
    for (char& c : word) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    return word;
  }

  // The next line of the current block; nothing at its end.
  std::optional<std::string_view> NextLine() {
    if (at_ >= lines_.size() || lines_[at_].empty()) return std::nullopt;
    line_ = static_cast<int>(at_) + 1;
    return lines_[at_++];
  }

  Result<Command> ParseLoad(std::string_view line) {
    std::string nhcb;
    std::string step;
    if (!re2::RE2::FullMatch(Piece(line), LoadPattern(), &nhcb, &step)) {
      return InvalidArgument("invalid load command; expected load[_with_nhcb] <duration>");
    }
    LoadCommand load;
    load.line = line_;
    load.with_nhcb = !nhcb.empty();
    MS_ASSIGN_OR_RETURN(load.step_ms, promql::ParseDuration(step));
    std::optional<LoadedSeries> pending;  // start timestamps that wait for their samples
    while (const auto text = NextLine()) {
      const size_t blank = text->find_first_of(" \t");
      const std::string_view metric = text->substr(0, blank);
      if (metric.ends_with("@st")) {
        if (pending) return InvalidArgument("start timestamps without samples");
        pending.emplace();
        MS_ASSIGN_OR_RETURN(pending->labels, ParseMetric(metric.substr(0, metric.size() - 3)));
        MS_ASSIGN_OR_RETURN(pending->start_offsets,
                            ParseStartOffsets(blank == std::string_view::npos ? "" : text->substr(blank)));
        continue;
      }
      MS_ASSIGN_OR_RETURN(SeriesDescription description, ParseSeries(*text));
      LoadedSeries series = {std::move(description.labels), std::move(description.values), {}};
      if (pending) {
        if (pending->labels != series.labels || pending->start_offsets.size() != series.values.size()) {
          return InvalidArgument("start timestamps must be followed by as many samples of the same series");
        }
        series.start_offsets = std::move(pending->start_offsets);
        pending.reset();
      }
      const auto same = std::find_if(load.series.begin(), load.series.end(),
                                     [&](const LoadedSeries& other) { return other.labels == series.labels; });
      if (same != load.series.end()) {
        *same = std::move(series);
      } else {
        load.series.push_back(std::move(series));
      }
    }
    if (pending) return InvalidArgument("start timestamps without samples");
    return Command(std::move(load));
  }

  Command ParseEval(std::string_view line) {
    EvalCommand eval;
    eval.line = line_;
    if (Status status = ReadEval(line, &eval); !status.ok()) {
      eval.malformed = AtLine(line_, status);
      while (NextLine()) {
      }
    }
    return Command(std::move(eval));
  }

  Status ReadEval(std::string_view line, EvalCommand* out) {
    EvalCommand& eval = *out;
    std::string mode;
    std::string start;
    std::string end;
    std::string step;
    if (re2::RE2::FullMatch(Piece(line), InstantPattern(), &mode, &start, &eval.expression)) {
      MS_ASSIGN_OR_RETURN(eval.start, promql::ParseDuration(start));
      eval.end = eval.start;
    } else if (re2::RE2::FullMatch(Piece(line), RangePattern(), &mode, &start, &end, &step, &eval.expression)) {
      eval.range = true;
      MS_ASSIGN_OR_RETURN(eval.start, promql::ParseDuration(Trim(start)));
      MS_ASSIGN_OR_RETURN(eval.end, promql::ParseDuration(Trim(end)));
      MS_ASSIGN_OR_RETURN(eval.step_ms, promql::ParseDuration(step));
      if (eval.end < eval.start) return InvalidArgument("the range ends before it starts");
    } else {
      eval.expression = line;
      return InvalidArgument("invalid eval command");
    }
    if (const auto parsed = promql::ParseExpr(eval.expression, options_); !parsed.ok()) return parsed.status();
    if (mode == "fail") eval.fail.emplace();
    if (mode == "warn") eval.warnings.emplace_back();
    if (mode == "info") eval.infos.emplace_back();
    eval.ordered = mode == "ordered";
    return ParseExpectations(mode == "fail", &eval);
  }

  std::vector<std::pair<int, std::string>> ListEvals(size_t from) const {
    std::vector<std::pair<int, std::string>> evals;
    for (size_t i = from; i < lines_.size(); ++i) {
      std::string expression;
      if (re2::RE2::FullMatch(Piece(lines_[i]), InstantPattern(), nullptr, nullptr, &expression) ||
          re2::RE2::FullMatch(Piece(lines_[i]), RangePattern(), nullptr, nullptr, nullptr, nullptr, &expression)) {
        evals.emplace_back(static_cast<int>(i) + 1, std::move(expression));
      }
    }
    return evals;
  }

  Status ParseExpectations(bool legacy_fail, EvalCommand* eval) {
    size_t position = 0;
    while (const auto text = NextLine()) {
      if (legacy_fail && text->starts_with("expected_fail_message")) {
        eval->fail = {MessageMatcher::Kind::kText, std::string(Trim(text->substr(21)))};
        return EndOfBlock();
      }
      if (legacy_fail && text->starts_with("expected_fail_regexp")) {
        MS_ASSIGN_OR_RETURN(eval->fail, RegexMatcher(Trim(text->substr(20))));
        return EndOfBlock();
      }
      if (LowerWord(*text) == "expect") {
        MS_RETURN_IF_ERROR(ParseExpect(*text, eval));
        continue;
      }
      if (const auto scalar = promql::ParseNumber(*text)) {
        eval->expected_scalar = *scalar;
        return EndOfBlock();
      }
      auto description = ParseSeries(*text);
      if (!description.ok()) return description.status();
      if (!eval->range && !eval->expect_range_vector && description->values.size() > 1) {
        return InvalidArgument("expecting multiple values in instant evaluation not allowed");
      }
      ExpectedSeries series = {std::move(description->labels), std::move(description->values), position++};
      const auto same = std::find_if(eval->expected.begin(), eval->expected.end(),
                                     [&](const ExpectedSeries& other) { return other.labels == series.labels; });
      if (same != eval->expected.end()) {
        *same = std::move(series);
      } else {
        eval->expected.push_back(std::move(series));
      }
    }
    return Status::Ok();
  }

  Status EndOfBlock() {
    if (NextLine()) return InvalidArgument("a line after the last expectation");
    return Status::Ok();
  }

  static Result<std::optional<MessageMatcher>> RegexMatcher(std::string_view text) {
    const re2::RE2 pattern(Piece(text), re2::RE2::Quiet);
    if (!pattern.ok()) return InvalidArgument("invalid regular expression: {}", pattern.error());
    return std::optional<MessageMatcher>({MessageMatcher::Kind::kRegex, std::string(text)});
  }

  Status ParseExpect(std::string_view text, EvalCommand* eval) {
    std::string start;
    std::string end;
    std::string step;
    if (re2::RE2::FullMatch(Piece(text), ExpectRangePattern(), &start, &end, &step)) {
      if (eval->range) return InvalidArgument("expect range vector is for instant queries");
      eval->expect_range_vector = true;
      MS_ASSIGN_OR_RETURN(eval->start, promql::ParseDuration(Trim(start)));
      MS_ASSIGN_OR_RETURN(eval->end, promql::ParseDuration(Trim(end)));
      MS_ASSIGN_OR_RETURN(eval->step_ms, promql::ParseDuration(Trim(step)));
      return Status::Ok();
    }
    std::string quoted;
    if (re2::RE2::FullMatch(Piece(text), ExpectStringPattern(), &quoted)) {
      const auto value = promql::Unquote(quoted);
      if (!value) return InvalidArgument("malformed string {}", quoted);
      eval->expected_string = *value;
      return Status::Ok();
    }
    std::string what;
    std::string kind;
    std::string message;
    if (!re2::RE2::FullMatch(Piece(text), ExpectPattern(), &what, &kind, &message)) {
      return InvalidArgument("invalid expect statement");
    }
    std::optional<MessageMatcher> matcher = MessageMatcher{};
    if (kind == "msg") matcher = {MessageMatcher::Kind::kText, std::string(Trim(message))};
    if (kind == "regex") {
      MS_ASSIGN_OR_RETURN(matcher, RegexMatcher(Trim(message)));
    }
    if (what == "ordered") eval->ordered = true;
    if (what == "no_warn") eval->no_warnings = true;
    if (what == "no_info") eval->no_infos = true;
    if (what == "warn") eval->warnings.push_back(*matcher);
    if (what == "info") eval->infos.push_back(*matcher);
    if (what == "fail") {
      if (eval->fail) return InvalidArgument("more than one fail expectation");
      eval->fail = matcher;
    }
    if (eval->no_warnings && !eval->warnings.empty()) return InvalidArgument("both warn and no_warn are expected");
    if (eval->no_infos && !eval->infos.empty()) return InvalidArgument("both info and no_info are expected");
    return Status::Ok();
  }

  std::vector<std::string_view> lines_;
  promql::ParserOptions options_;
  size_t at_ = 0;
  int line_ = 0;
};

}  // namespace

bool MessageMatcher::Matches(std::string_view message) const {
  switch (kind) {
    case Kind::kAny:
      return true;
    case Kind::kText:
      return message == text;
    case Kind::kRegex:
      return re2::RE2::PartialMatch(Piece(message), re2::RE2(text, re2::RE2::Quiet));
  }
  return false;
}

std::string MessageMatcher::ToString() const {
  switch (kind) {
    case Kind::kAny:
      return "any message";
    case Kind::kText:
      return fmt::format("the message {}", model::Quote(text));
    case Kind::kRegex:
      return fmt::format("a message like {}", model::Quote(text));
  }
  return {};
}

Script ParseScript(std::string_view text, const promql::ParserOptions& options) {
  return Parser(text, options).Run();
}

}  // namespace millstream::promqltest

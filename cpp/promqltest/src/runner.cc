#include <fmt/format.h>
#include <re2/re2.h>

#include <algorithm>

#include "compare.h"
#include "load.h"
#include "millstream/promqltest/promqltest.h"
#include "rewrite.h"

namespace millstream::promqltest {
namespace {

constexpr int64_t kMinuteMs = 60'000;

using Failure = std::optional<std::string>;

// Whether the text reads the query's own times, so that its result differs in a range query.
bool ReadsQueryTimes(const std::string& expression) {
  static const re2::RE2 pattern(R"((start|end|range|step)\(\))");
  return re2::RE2::PartialMatch(expression, pattern);
}

Failure CheckMessages(std::string_view kind, const std::vector<MessageMatcher>& expected, bool expect_none,
                      const std::vector<std::string>& got) {
  if (expect_none && !got.empty()) return fmt::format("unexpected {}: {}", kind, got.front());
  if (expected.empty()) return std::nullopt;
  for (const MessageMatcher& matcher : expected) {
    const bool matched =
        std::any_of(got.begin(), got.end(), [&](const std::string& message) { return matcher.Matches(message); });
    if (matched) continue;
    std::string all;
    for (const std::string& message : got) all += "\n  " + message;
    return fmt::format("expected {} with {}, got{}", kind, matcher.ToString(), all.empty() ? " none" : all);
  }
  for (const std::string& message : got) {
    const bool matched = std::any_of(expected.begin(), expected.end(),
                                     [&](const MessageMatcher& matcher) { return matcher.Matches(message); });
    if (!matched) return fmt::format("unexpected {}: {}", kind, message);
  }
  return std::nullopt;
}

Failure CheckAnnotations(const EvalCommand& eval, const promql::QueryResult& result) {
  auto wrong = CheckMessages("warning", eval.warnings, eval.no_warnings, result.warnings);
  if (!wrong) wrong = CheckMessages("info", eval.infos, eval.no_infos, result.infos);
  return wrong;
}

class EvalRunner {
 public:
  EvalRunner(const promql::Engine& engine, Store* store) : engine_(engine), store_(store) {}

  Failure Run(const EvalCommand& eval) {
    auto querier = store_->MakeQuerier();
    if (!querier.ok()) return fmt::format("cannot read the store: {}", querier.status().message());
    querier_ = *std::move(querier);
    if (eval.range) return RunRange(eval);
    const TimestampMs time = eval.expect_range_vector ? eval.end : eval.start;
    if (auto wrong = RunInstant(eval, eval.expression, time)) return wrong;
    return RunPinned(eval, time);
  }

 private:
  // The same with every selector pinned to `time`, at other evaluation times.
  Failure RunPinned(const EvalCommand& eval, TimestampMs time) {
    const auto pinned = PinSelectors(eval.expression, engine_.options().parser, time);
    if (!pinned) return std::nullopt;
    const std::vector<TimestampMs> times = time == 0
                                               ? std::vector<TimestampMs>{-1000, 0, 1000}
                                               : std::vector<TimestampMs>{-10 * time, 0, time / 5, time, 10 * time};
    for (const TimestampMs other : times) {
      if (auto wrong = RunInstant(eval, *pinned, other)) {
        return fmt::format("as {} at {} ms: {}", *pinned, other, *wrong);
      }
    }
    return std::nullopt;
  }

  // Nothing when the error is as expected.
  static Failure CheckError(const EvalCommand& eval, const Status& error) {
    if (!eval.fail) return fmt::format("error: {}", error.message());
    if (eval.fail->Matches(error.message())) return std::nullopt;
    return fmt::format("expected an error with {}, got: {}", eval.fail->ToString(), error.message());
  }

  Failure RunInstant(const EvalCommand& eval, const std::string& expression, TimestampMs time) {
    storage::QueryControl control;
    const auto result = engine_.QueryInstant(*querier_, expression, time, control);
    if (!result.ok()) return CheckError(eval, result.status());
    if (eval.fail) return fmt::format("expected an error with {}, got none", eval.fail->ToString());
    if (auto wrong = CheckAnnotations(eval, *result)) return wrong;
    if (auto wrong = CompareInstant(eval, *result)) return wrong;
    if (eval.expected_string || eval.expect_range_vector || ReadsQueryTimes(expression)) return std::nullopt;
    if (auto wrong = RunAsRange(eval, expression, time)) return fmt::format("as a range query: {}", *wrong);
    return std::nullopt;
  }

  static Failure CompareInstant(const EvalCommand& eval, const promql::QueryResult& result) {
    if (const auto* scalar = std::get_if<promql::Scalar>(&result.value)) {
      if (!eval.expected_scalar) return "unexpected scalar as result";
      return CompareScalar(*eval.expected_scalar, scalar->value);
    }
    if (const auto* text = std::get_if<promql::String>(&result.value)) {
      if (!eval.expected_string) return "unexpected string as result";
      if (*eval.expected_string == text->value) return std::nullopt;
      return fmt::format("expected string {}, got {}", model::Quote(*eval.expected_string), model::Quote(text->value));
    }
    if (const auto* vector = std::get_if<promql::Vector>(&result.value)) {
      if (eval.expect_range_vector) return "expected a range vector, got an instant vector";
      return CompareVector(eval, *vector, eval.ordered);
    }
    if (!eval.expect_range_vector) return "unexpected range vector as result";
    return CompareMatrix(eval, std::get<promql::Matrix>(result.value));
  }

  // A range query around `time` has to give the same at `time`.
  Failure RunAsRange(const EvalCommand& eval, const std::string& expression, TimestampMs time) {
    storage::QueryControl control;
    const auto result =
        engine_.QueryRange(*querier_, {expression, time - kMinuteMs, time + kMinuteMs, kMinuteMs}, control);
    if (!result.ok()) return fmt::format("error: {}", result.status().message());
    if (eval.ordered) return std::nullopt;
    const auto* matrix = std::get_if<promql::Matrix>(&result->value);
    if (matrix == nullptr) return "the result is no matrix";
    if (!std::is_sorted(matrix->begin(), matrix->end(),
                        [](const auto& a, const auto& b) { return a.labels < b.labels; })) {
      return "the matrix is not sorted by labels";
    }
    promql::Vector at_time;
    for (const promql::MatrixSeries& series : *matrix) {
      promql::VectorSample sample = {series.labels, time, 0, nullptr};
      const auto value = std::lower_bound(series.timestamps.begin(), series.timestamps.end(), time);
      const auto histogram =
          std::lower_bound(series.histogram_timestamps.begin(), series.histogram_timestamps.end(), time);
      if (value != series.timestamps.end() && *value == time) {
        sample.value = series.values[static_cast<size_t>(value - series.timestamps.begin())];
      } else if (histogram != series.histogram_timestamps.end() && *histogram == time) {
        sample.histogram = series.histograms[static_cast<size_t>(histogram - series.histogram_timestamps.begin())];
      } else {
        continue;
      }
      at_time.push_back(std::move(sample));
    }
    if (!eval.expected_scalar) return CompareVector(eval, at_time, false);
    if (at_time.size() != 1) return fmt::format("expected one value, got {}", at_time.size());
    return CompareScalar(*eval.expected_scalar, at_time.front().value);
  }

  Failure RunRange(const EvalCommand& eval) {
    storage::QueryControl control;
    const auto result = engine_.QueryRange(*querier_, {eval.expression, eval.start, eval.end, eval.step_ms}, control);
    if (!result.ok()) return CheckError(eval, result.status());
    if (eval.fail) return fmt::format("expected an error with {}, got none", eval.fail->ToString());
    if (auto wrong = CheckAnnotations(eval, *result)) return wrong;
    const auto* matrix = std::get_if<promql::Matrix>(&result->value);
    if (matrix == nullptr) return "the result is no matrix";
    return CompareMatrix(eval, *matrix);
  }

  const promql::Engine& engine_;
  Store* store_;
  std::unique_ptr<storage::Querier> querier_;
};

bool HasHistogram(const std::vector<SequenceValue>& values) {
  return std::any_of(values.begin(), values.end(),
                     [](const SequenceValue& value) { return value.histogram != nullptr; });
}

// Fills in what an eval needs, judged by its text and by the series that its selectors match.
void Classify(const EvalCommand& eval, const promql::ParserOptions& options, const std::vector<LoadedSeries>& loaded,
              EvalReport* report) {
  report->is_experimental = !promql::ParseExpr(eval.expression).ok();
  for (const ExpectedSeries& series : eval.expected) {
    report->uses_native_histograms = report->uses_native_histograms || HasHistogram(series.values);
  }
  const auto expr = promql::ParseExpr(eval.expression, options);
  if (!expr.ok()) return;
  VisitSelectors(**expr, [&](const promql::VectorSelector& selector) {
    for (const LoadedSeries& series : loaded) {
      const bool read = std::all_of(selector.matchers.begin(), selector.matchers.end(),
                                    [&](const model::Matcher& m) { return m.MatchesLabels(series.labels); });
      if (!read) continue;
      if (HasHistogram(series.values)) report->uses_native_histograms = true;
      if (!series.start_offsets.empty()) report->is_experimental = true;
    }
  });
}

class ScriptRunner {
 public:
  ScriptRunner(const promql::EngineOptions& options, const StoreFactory& make_store)
      : engine_(options), make_store_(make_store) {}

  void Run(const Script& script, ScriptReport* report) {
    Status status = Clear();
    for (const Command& command : script.commands) {
      if (const auto* eval = std::get_if<EvalCommand>(&command)) {
        RunEval(*eval, status, report);
        continue;
      }
      // After a failure nothing is run any more.
      if (!status.ok()) continue;
      if (const auto* load = std::get_if<LoadCommand>(&command)) {
        status = LoadSeries(*load, store_.get(), &loaded_).WithContext(fmt::format("line {}: load", load->line));
      } else {
        status = Clear();
      }
    }
    if (status.ok()) status = script.broken;
    if (status.ok()) return;
    report->error = status.message();
    for (const auto& [line, expression] : script.unread_evals) {
      EvalReport& entry = report->evals.emplace_back();
      entry.line = line;
      entry.expression = expression;
      entry.message = fmt::format("not run: {}", report->error);
    }
  }

 private:
  Status Clear() {
    // The old store goes first: both may use the same files.
    store_.reset();
    loaded_.clear();
    MS_ASSIGN_OR_RETURN(store_, make_store_());
    return Status::Ok();
  }

  void RunEval(const EvalCommand& eval, const Status& status, ScriptReport* report) {
    EvalReport& entry = report->evals.emplace_back();
    entry.line = eval.line;
    entry.expression = eval.expression;
    Classify(eval, engine_.options().parser, loaded_, &entry);
    if (!eval.malformed.ok()) {
      entry.message = eval.malformed.message();
      return;
    }
    if (!status.ok()) {
      entry.message = fmt::format("not run: {}", status.message());
      return;
    }
    const Failure failure = EvalRunner(engine_, store_.get()).Run(eval);
    entry.passed = !failure;
    entry.message = failure.value_or("");
  }

  promql::Engine engine_;
  const StoreFactory& make_store_;
  std::unique_ptr<Store> store_;
  std::vector<LoadedSeries> loaded_;
};

}  // namespace

size_t ScriptReport::passed() const {
  return static_cast<size_t>(std::count_if(evals.begin(), evals.end(), [](const EvalReport& e) { return e.passed; }));
}

promql::EngineOptions ScriptEngineOptions() {
  promql::EngineOptions options;
  options.delayed_name_removal = true;
  options.use_start_timestamps = true;
  options.parser = {.experimental_functions = true, .extended_range_selectors = true, .binop_fill_modifiers = true};
  return options;
}

ScriptReport RunScript(std::string_view name, std::string_view text, const promql::EngineOptions& options,
                       const StoreFactory& make_store) {
  ScriptReport report;
  report.name = name;
  ScriptRunner(options, make_store).Run(ParseScript(text, options.parser), &report);
  return report;
}

}  // namespace millstream::promqltest

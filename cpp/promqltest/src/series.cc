#include "series.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <optional>
#include <set>
#include <string>

#include "millstream/base/ascii.h"
#include "millstream/model/histogram_math.h"
#include "millstream/model/value.h"
#include "millstream/promql/literals.h"
#include "millstream/promqltest/promqltest.h"

namespace millstream::promqltest {
namespace {

bool IsWordStart(char c) {
  return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool IsWord(char c) {
  return IsWordStart(c) || IsDigit(c);
}

class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}

  bool at_end() const { return at_ >= text_.size(); }
  char Peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  void Skip(size_t count) { at_ = std::min(at_ + count, text_.size()); }
  bool SkipBlanks() {
    const size_t before = at_;
    while (IsBlank(Peek())) ++at_;
    return at_ > before;
  }
  bool Accept(std::string_view expected) {
    if (text_.substr(at_, expected.size()) != expected) return false;
    at_ += expected.size();
    return true;
  }
  std::string_view TakeWhile(const std::function<bool(char)>& wanted) {
    const size_t start = at_;
    while (!at_end() && wanted(text_[at_])) ++at_;
    return text_.substr(start, at_ - start);
  }
  // A string literal with its quotes; empty when it is not terminated.
  std::string_view TakeString() {
    const char quote = Peek();
    const size_t start = at_;
    for (size_t i = at_ + 1; i < text_.size(); ++i) {
      if (text_[i] == '\\' && quote != '`') {
        ++i;
      } else if (text_[i] == quote) {
        at_ = i + 1;
        return text_.substr(start, at_ - start);
      }
    }
    return {};
  }
  std::string_view rest() const { return text_.substr(at_); }
  Status Unexpected(std::string_view where) const {
    if (at_end()) return InvalidArgument("unexpected end of line in {}", where);
    return InvalidArgument("unexpected {} in {}", model::Quote(text_.substr(at_, 10)), where);
  }

 private:
  std::string_view text_;
  size_t at_ = 0;
};

bool IsQuote(char c) {
  return c == '"' || c == '\'' || c == '`';
}

Result<std::string> TakeUnquoted(Cursor* cursor, std::string_view where) {
  if (!IsQuote(cursor->Peek())) return cursor->Unexpected(where);
  const std::string_view literal = cursor->TakeString();
  auto text = promql::Unquote(literal);
  if (!text) return InvalidArgument("malformed string in {}", where);
  return *std::move(text);
}

Result<model::Labels> TakeMetric(Cursor* cursor) {
  model::LabelsBuilder builder;
  std::string name;
  if (IsWordStart(cursor->Peek()) || cursor->Peek() == ':') {
    name = cursor->TakeWhile([](char c) { return IsWord(c) || c == ':'; });
  } else if (cursor->Peek() != '{') {
    return cursor->Unexpected("metric");
  }
  if (cursor->Accept("{")) {
    while (true) {
      cursor->SkipBlanks();
      if (cursor->Accept("}")) break;
      std::string label;
      const bool quoted = IsQuote(cursor->Peek());
      if (quoted) {
        MS_ASSIGN_OR_RETURN(label, TakeUnquoted(cursor, "label set"));
      } else if (IsWordStart(cursor->Peek())) {
        label = cursor->TakeWhile(IsWord);
      } else {
        return cursor->Unexpected("label set");
      }
      cursor->SkipBlanks();
      if (cursor->Accept("=")) {
        cursor->SkipBlanks();
        MS_ASSIGN_OR_RETURN(const std::string value, TakeUnquoted(cursor, "label set"));
        builder.Set(label, value);
      } else if (quoted) {
        builder.Set(model::kMetricName, label);
      } else {
        return cursor->Unexpected("label set");
      }
      cursor->SkipBlanks();
      if (!cursor->Accept(",") && cursor->Peek() != '}') return cursor->Unexpected("label set");
    }
  }
  if (!name.empty()) builder.Set(model::kMetricName, name);
  return builder.Build();
}

// An unsigned decimal number. Hexadecimal does not exist here: 0x10 is 0, ten times more.
std::optional<double> TakeNumber(Cursor* cursor) {
  if (IsWordStart(cursor->Peek())) {
    const std::string_view word = cursor->TakeWhile(IsWord);
    const auto value = promql::ParseNumber(word);
    return value && !std::isfinite(*value) ? value : std::nullopt;
  }
  std::string text;
  const auto digits = [&] {
    while (IsDigit(cursor->Peek()) || (cursor->Peek() == '_' && IsDigit(cursor->Peek(1)) && !text.empty())) {
      if (cursor->Peek() != '_') text += cursor->Peek();
      cursor->Skip(1);
    }
  };
  digits();
  if (cursor->Peek() == '.') {
    text += '.';
    cursor->Skip(1);
    digits();
  }
  if (text.empty() || text == ".") return std::nullopt;
  if (cursor->Peek() == 'e' || cursor->Peek() == 'E') {
    const size_t sign = cursor->Peek(1) == '+' || cursor->Peek(1) == '-' ? 1 : 0;
    if (IsDigit(cursor->Peek(1 + sign))) {
      text += 'e';
      if (sign != 0) text += cursor->Peek(1);
      cursor->Skip(1 + sign);
      digits();
    }
  }
  // A leading zero does not make it octal, so parse it as plain decimal.
  double value = 0;
  const char* begin = text.data();
  const auto [end, error] = std::from_chars(begin, begin + text.size(), value);
  if (error != std::errc() || end != begin + text.size()) return std::nullopt;
  return value;
}

std::optional<double> TakeSignedNumber(Cursor* cursor) {
  double sign = 1;
  if (cursor->Peek() == '-' || cursor->Peek() == '+') {
    if (cursor->Peek() == '-') sign = -1;
    cursor->Skip(1);
  }
  const auto value = TakeNumber(cursor);
  if (!value) return std::nullopt;
  return sign * *value;
}

// N of xN.
Result<size_t> TakeCount(Cursor* cursor) {
  const std::string_view digits = cursor->TakeWhile(IsDigit);
  size_t count = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), count);
  if (digits.empty() || error != std::errc()) return cursor->Unexpected("repetition");
  if (count >= kSequenceValuesMax) return ResourceExhausted("more than {} values in a series", kSequenceValuesMax);
  return count;
}

// ---- Histograms ----

Result<double> TakeField(Cursor* cursor, std::string_view key) {
  const auto value = TakeSignedNumber(cursor);
  if (!value) return cursor->Unexpected(key);
  return *value;
}

Result<int32_t> TakeIntField(Cursor* cursor, std::string_view key) {
  MS_ASSIGN_OR_RETURN(const double value, TakeField(cursor, key));
  if (value != std::trunc(value) || std::abs(value) > 1e9) {
    return InvalidArgument("{} of a histogram is not a small integer", key);
  }
  return static_cast<int32_t>(value);
}

Result<std::vector<double>> TakeList(Cursor* cursor, std::string_view key) {
  if (!cursor->Accept("[")) return cursor->Unexpected(key);
  std::vector<double> list;
  while (true) {
    cursor->SkipBlanks();
    if (cursor->Accept("]")) return list;
    if (list.size() >= model::kHistogramBucketsMax) {
      return ResourceExhausted("more than {} {} in a histogram", model::kHistogramBucketsMax, key);
    }
    MS_ASSIGN_OR_RETURN(const double value, TakeField(cursor, key));
    list.push_back(value);
  }
}

Result<model::CounterResetHint> TakeHint(Cursor* cursor) {
  const std::string_view word = cursor->TakeWhile(IsWord);
  if (word == "unknown") return model::CounterResetHint::kUnknown;
  if (word == "reset") return model::CounterResetHint::kReset;
  if (word == "not_reset") return model::CounterResetHint::kNotReset;
  if (word == "gauge") return model::CounterResetHint::kGauge;
  return InvalidArgument("unknown counter reset hint {}", model::Quote(word));
}

struct HistogramLiteral {
  model::Histogram histogram;
  bool hint_written = false;
};

// After the opening braces, up to and with the closing ones.
Result<HistogramLiteral> TakeHistogram(Cursor* cursor) {
  HistogramLiteral literal;
  model::Histogram& h = literal.histogram;
  int32_t offset = 0;
  int32_t negative_offset = 0;
  std::set<std::string_view> seen;
  while (true) {
    cursor->SkipBlanks();
    if (cursor->Accept("}}")) break;
    const std::string_view key = cursor->TakeWhile(IsWord);
    if (key.empty() || !cursor->Accept(":")) return cursor->Unexpected("histogram");
    if (!seen.insert(key).second) return InvalidArgument("duplicate key {} in histogram", model::Quote(key));
    if (key == "schema") {
      MS_ASSIGN_OR_RETURN(h.schema, TakeIntField(cursor, key));
    } else if (key == "sum") {
      MS_ASSIGN_OR_RETURN(h.sum, TakeField(cursor, key));
    } else if (key == "count") {
      MS_ASSIGN_OR_RETURN(h.count, TakeField(cursor, key));
    } else if (key == "z_bucket") {
      MS_ASSIGN_OR_RETURN(h.zero_count, TakeField(cursor, key));
    } else if (key == "z_bucket_w") {
      MS_ASSIGN_OR_RETURN(h.zero_threshold, TakeField(cursor, key));
    } else if (key == "buckets") {
      MS_ASSIGN_OR_RETURN(h.positive_buckets, TakeList(cursor, key));
    } else if (key == "n_buckets") {
      MS_ASSIGN_OR_RETURN(h.negative_buckets, TakeList(cursor, key));
    } else if (key == "custom_values") {
      MS_ASSIGN_OR_RETURN(h.custom_values, TakeList(cursor, key));
    } else if (key == "offset") {
      MS_ASSIGN_OR_RETURN(offset, TakeIntField(cursor, key));
    } else if (key == "n_offset") {
      MS_ASSIGN_OR_RETURN(negative_offset, TakeIntField(cursor, key));
    } else if (key == "counter_reset_hint") {
      MS_ASSIGN_OR_RETURN(h.counter_reset_hint, TakeHint(cursor));
      literal.hint_written = true;
    } else {
      return InvalidArgument("unknown key {} in histogram", model::Quote(key));
    }
  }
  if (!h.positive_buckets.empty()) h.positive_spans = {{offset, static_cast<uint32_t>(h.positive_buckets.size())}};
  if (!h.negative_buckets.empty()) {
    h.negative_spans = {{negative_offset, static_cast<uint32_t>(h.negative_buckets.size())}};
  }
  return literal;
}

Status TakeHistogramItem(Cursor* cursor, std::vector<SequenceValue>* values) {
  MS_ASSIGN_OR_RETURN(const HistogramLiteral base, TakeHistogram(cursor));
  std::optional<HistogramLiteral> step;
  const bool subtract = cursor->Peek() == '-';
  if (cursor->Accept("+{{") || cursor->Accept("-{{")) {
    MS_ASSIGN_OR_RETURN(step, TakeHistogram(cursor));
  }
  size_t more = 0;
  if (cursor->Accept("x")) {
    MS_ASSIGN_OR_RETURN(more, TakeCount(cursor));
  } else if (step) {
    return cursor->Unexpected("histogram sequence");
  }
  model::Histogram current = base.histogram;
  const bool hint_written = step ? step->hint_written : base.hint_written;
  for (size_t i = 0; i <= more; ++i) {
    if (i > 0 && step) {
      if (current.schema > step->histogram.schema) {
        return InvalidArgument("error combining histograms: cannot merge from schema {} to {}", step->histogram.schema,
                               current.schema);
      }
      const auto combined =
          subtract ? model::Subtract(&current, step->histogram) : model::Add(&current, step->histogram);
      if (!combined.ok()) return combined.status();
    }
    values->push_back({false, 0, std::make_shared<const model::Histogram>(current), hint_written});
  }
  return Status::Ok();
}

Status TakeItem(Cursor* cursor, std::vector<SequenceValue>* values) {
  if (cursor->Accept("{{")) return TakeHistogramItem(cursor, values);
  if (cursor->Peek() == '_') {
    cursor->Skip(1);
    size_t count = 1;
    if (cursor->Accept("x")) {
      MS_ASSIGN_OR_RETURN(count, TakeCount(cursor));
    }
    values->resize(values->size() + count, SequenceValue{true, 0, nullptr, false});
    return Status::Ok();
  }
  if (cursor->Accept("stale")) {
    values->push_back({false, model::StaleNan(), nullptr, false});
    return Status::Ok();
  }
  const auto value = TakeSignedNumber(cursor);
  if (!value) return cursor->Unexpected("series values");
  double step = 0;
  bool has_step = false;
  if (cursor->Peek() == '+' || cursor->Peek() == '-') {
    const auto signed_step = TakeSignedNumber(cursor);
    if (!signed_step) return cursor->Unexpected("series values");
    step = *signed_step;
    has_step = true;
  }
  size_t more = 0;
  if (cursor->Accept("x")) {
    MS_ASSIGN_OR_RETURN(more, TakeCount(cursor));
  } else if (has_step) {
    return cursor->Unexpected("series values");
  }
  // Sums accumulate, so their rounding does too.
  double current = *value;
  for (size_t i = 0; i <= more; ++i) {
    values->push_back({false, current, nullptr, false});
    if (has_step) current += step;
  }
  return Status::Ok();
}

}  // namespace

Result<SeriesDescription> ParseSeries(std::string_view line) {
  Cursor cursor(line);
  SeriesDescription series;
  MS_ASSIGN_OR_RETURN(series.labels, TakeMetric(&cursor));
  while (true) {
    const bool blank = cursor.SkipBlanks();
    if (cursor.at_end()) return series;
    if (!blank) return cursor.Unexpected("series values");
    MS_RETURN_IF_ERROR(TakeItem(&cursor, &series.values));
    if (series.values.size() > kSequenceValuesMax) {
      return ResourceExhausted("more than {} values in a series", kSequenceValuesMax);
    }
  }
}

Result<model::Labels> ParseMetric(std::string_view text) {
  Cursor cursor(text);
  MS_ASSIGN_OR_RETURN(model::Labels labels, TakeMetric(&cursor));
  if (!cursor.at_end()) return cursor.Unexpected("metric");
  return labels;
}

namespace {

// `-59999ms`, `+30s`, `0`: sign, digits, at most one unit.
Result<int64_t> TakeSignedDuration(Cursor* cursor) {
  const bool negative = cursor->Peek() == '-';
  if (negative || cursor->Peek() == '+') cursor->Skip(1);
  std::string text(cursor->TakeWhile(IsDigit));
  if (text.empty()) return cursor->Unexpected("start timestamps");
  text += cursor->TakeWhile([](char c) { return c != 'x' && IsWordStart(c); });
  int64_t ms = 0;
  if (text.find_first_not_of('0') != std::string::npos && IsDigit(text.back())) {
    return InvalidArgument("start offset {} has no unit", text);
  }
  if (text.find_first_not_of('0') != std::string::npos) {
    MS_ASSIGN_OR_RETURN(ms, promql::ParseDuration(text));
  }
  return negative ? -ms : ms;
}

}  // namespace

Result<std::vector<std::optional<int64_t>>> ParseStartOffsets(std::string_view items) {
  Cursor cursor(items);
  std::vector<std::optional<int64_t>> offsets;
  while (true) {
    cursor.SkipBlanks();
    if (cursor.at_end()) return offsets;
    if (cursor.Accept("_")) {
      size_t count = 1;
      if (cursor.Accept("x")) {
        MS_ASSIGN_OR_RETURN(count, TakeCount(&cursor));
      }
      offsets.resize(offsets.size() + count);
    } else {
      MS_ASSIGN_OR_RETURN(int64_t offset, TakeSignedDuration(&cursor));
      int64_t step = 0;
      size_t more = 0;
      if (cursor.Peek() == '+' || cursor.Peek() == '-') {
        MS_ASSIGN_OR_RETURN(step, TakeSignedDuration(&cursor));
      }
      if (cursor.Accept("x")) {
        MS_ASSIGN_OR_RETURN(more, TakeCount(&cursor));
      }
      for (size_t i = 0; i <= more; ++i, offset += step) offsets.emplace_back(offset);
    }
    if (!cursor.at_end() && !IsBlank(cursor.Peek())) return cursor.Unexpected("start timestamps");
    if (offsets.size() > kSequenceValuesMax) {
      return ResourceExhausted("more than {} start timestamps in a series", kSequenceValuesMax);
    }
  }
}

}  // namespace millstream::promqltest

#include "text_labels.h"

#include <algorithm>

#include "millstream/base/ascii.h"
#include "millstream/model/labels.h"

namespace millstream::wire {
namespace {

// A cursor over a series part.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}

  bool done() const { return position_ == text_.size(); }
  char peek() const { return done() ? '\0' : text_[position_]; }
  void SkipBlanks() {
    while (!done() && IsBlank(text_[position_])) ++position_;
  }
  bool Take(char c) {
    if (peek() != c) return false;
    ++position_;
    return true;
  }
  std::string_view TakeBareName() {
    const size_t begin = position_;
    while (!done() && !IsBlank(text_[position_]) &&
           std::string_view("{}=,\"").find(text_[position_]) == std::string_view::npos) {
      ++position_;
    }
    return text_.substr(begin, position_ - begin);
  }
  // A quoted string with the format's escapes \\, \" and \n; the opening quote was taken.
  Result<std::string> TakeQuoted() {
    std::string out;
    while (!done()) {
      const char c = text_[position_++];
      if (c == '"') return out;
      if (c != '\\') {
        out += c;
        continue;
      }
      if (done()) break;
      const char escaped = text_[position_++];
      switch (escaped) {
        case 'n':
          out += '\n';
          break;
        case '"':
        case '\\':
          out += escaped;
          break;
        default:
          // An unknown escape stands for itself, as Prometheus reads it.
          out += '\\';
          out += escaped;
      }
    }
    return InvalidArgument("a quoted string is not closed");
  }

 private:
  std::string_view text_;
  size_t position_ = 0;
};

}  // namespace

Result<size_t> FindSeriesEnd(std::string_view line) {
  size_t position = 0;
  while (position < line.size() && !IsBlank(line[position]) && line[position] != '{') ++position;
  size_t brace = position;
  while (brace < line.size() && IsBlank(line[brace])) ++brace;
  if (brace == line.size() || line[brace] != '{') {
    if (position == 0) return InvalidArgument("a line begins without a metric name");
    return position;
  }
  bool quoted = false;
  for (position = brace + 1; position < line.size(); ++position) {
    if (quoted) {
      if (line[position] == '\\') {
        ++position;
      } else if (line[position] == '"') {
        quoted = false;
      }
    } else if (line[position] == '"') {
      quoted = true;
    } else if (line[position] == '}') {
      return position + 1;
    }
  }
  if (quoted) return InvalidArgument("a quoted string is not closed");
  return InvalidArgument("the braces are not closed");
}

Result<std::vector<std::pair<std::string, std::string>>> ParseTextLabels(std::string_view text) {
  std::vector<std::pair<std::string, std::string>> pairs;
  Cursor cursor(text);
  if (cursor.peek() != '{') {
    const std::string_view name = cursor.TakeBareName();
    if (!model::IsLegacyMetricName(name)) return InvalidArgument("{} is no metric name", model::Quote(name));
    pairs.emplace_back(model::kMetricName, name);
    cursor.SkipBlanks();
    if (cursor.done()) return pairs;
  }
  if (!cursor.Take('{'))
    return InvalidArgument("unexpected {} after the metric name", model::Quote(std::string(1, cursor.peek())));
  cursor.SkipBlanks();
  while (!cursor.Take('}')) {
    std::string name;
    const bool quoted = cursor.Take('"');
    if (quoted) {
      MS_ASSIGN_OR_RETURN(name, cursor.TakeQuoted());
    } else {
      name = cursor.TakeBareName();
      if (!model::IsLegacyLabelName(name)) return InvalidArgument("{} is no label name", model::Quote(name));
    }
    cursor.SkipBlanks();
    if (cursor.Take('=')) {
      cursor.SkipBlanks();
      if (!cursor.Take('"')) return InvalidArgument("the value of label {} is not quoted", model::Quote(name));
      MS_ASSIGN_OR_RETURN(std::string value, cursor.TakeQuoted());
      pairs.emplace_back(std::move(name), std::move(value));
    } else if (quoted) {
      pairs.emplace_back(model::kMetricName, std::move(name));
    } else {
      return InvalidArgument("label {} has no value", model::Quote(name));
    }
    cursor.SkipBlanks();
    if (cursor.Take(',')) {
      cursor.SkipBlanks();
    } else if (cursor.peek() != '}') {
      return InvalidArgument("expected a comma or a closing brace after label {}", pairs.size());
    }
  }
  if (!cursor.done()) return InvalidArgument("something stands after the closing brace");
  return pairs;
}

}  // namespace millstream::wire

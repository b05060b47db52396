#include "millstream/model/matcher.h"

#include <re2/re2.h>

#include "millstream/model/labels.h"

namespace millstream::model {

std::string_view MatchTypeSymbol(MatchType type) {
  switch (type) {
    case MatchType::kEqual:
      return "=";
    case MatchType::kNotEqual:
      return "!=";
    case MatchType::kRegex:
      return "=~";
    case MatchType::kNotRegex:
      return "!~";
  }
  return "=";
}

namespace {

// Go's words for what is wrong with a regular expression, which users of Prometheus know.
std::string_view RegexErrorText(re2::RE2::ErrorCode code) {
  switch (code) {
    case re2::RE2::ErrorBadEscape:
      return "invalid escape sequence";
    case re2::RE2::ErrorBadCharClass:
      return "invalid character class";
    case re2::RE2::ErrorBadCharRange:
      return "invalid character class range";
    case re2::RE2::ErrorMissingBracket:
      return "missing closing ]";
    case re2::RE2::ErrorMissingParen:
      return "missing closing )";
    case re2::RE2::ErrorUnexpectedParen:
      return "unexpected )";
    case re2::RE2::ErrorTrailingBackslash:
      return "trailing backslash at end of expression";
    case re2::RE2::ErrorRepeatArgument:
      return "missing argument to repetition operator";
    case re2::RE2::ErrorRepeatSize:
      return "invalid repeat count";
    case re2::RE2::ErrorRepeatOp:
      return "invalid nested repetition operator";
    case re2::RE2::ErrorBadPerlOp:
      return "invalid or unsupported Perl syntax";
    case re2::RE2::ErrorBadUTF8:
      return "invalid UTF-8";
    case re2::RE2::ErrorBadNamedCapture:
      return "invalid named capture";
    default:
      return "invalid regular expression";
  }
}

}  // namespace

Result<Matcher> Matcher::Make(MatchType type, std::string name, std::string value) {
  Matcher matcher(type, std::move(name), std::move(value));
  if (type == MatchType::kRegex || type == MatchType::kNotRegex) {
    if (matcher.value_.size() > kRegexBytesMax) {
      return ResourceExhausted("regular expression of {} bytes is longer than {}", matcher.value_.size(),
                               kRegexBytesMax);
    }
    re2::RE2::Options options(re2::RE2::Quiet);
    options.set_dot_nl(true);
    options.set_max_mem(kRegexMemoryBytesMax);
    auto regex = std::make_shared<re2::RE2>(re2::StringPiece(matcher.value_.data(), matcher.value_.size()), options);
    if (!regex->ok()) {
      if (regex->error_code() == re2::RE2::ErrorPatternTooLarge) {
        return ResourceExhausted("regular expression {} needs too much memory", Quote(matcher.value_));
      }
      return InvalidArgument("error parsing regexp: {}: `{}`", RegexErrorText(regex->error_code()), regex->error_arg());
    }
    matcher.regex_ = std::move(regex);
  }
  return matcher;
}

bool Matcher::Matches(std::string_view label_value) const {
  switch (type_) {
    case MatchType::kEqual:
      return label_value == value_;
    case MatchType::kNotEqual:
      return label_value != value_;
    case MatchType::kRegex:
      return re2::RE2::FullMatch(re2::StringPiece(label_value.data(), label_value.size()), *regex_);
    case MatchType::kNotRegex:
      return !re2::RE2::FullMatch(re2::StringPiece(label_value.data(), label_value.size()), *regex_);
  }
  return false;
}

bool Matcher::MatchesLabels(const Labels& labels) const {
  return Matches(labels.Get(name_));
}

std::string Matcher::ToString() const {
  return (IsLegacyLabelName(name_) ? name_ : Quote(name_)) + std::string(MatchTypeSymbol(type_)) + Quote(value_);
}

}  // namespace millstream::model

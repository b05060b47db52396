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
      return InvalidArgument("error parsing regexp: {}", regex->error());
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

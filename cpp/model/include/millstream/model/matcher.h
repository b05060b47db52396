// Matcher: one condition on a label, as PromQL writes it between braces.
//
// An absent label has the empty value. Regular expressions are RE2's, anchored at both ends, with dot matching newline.
// Threads     Immutable after Make; copies share the compiled expression.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "millstream/base/result.h"

namespace re2 {
class RE2;
}

namespace millstream::model {

class Labels;

enum class MatchType : uint8_t { kEqual, kNotEqual, kRegex, kNotRegex };

inline constexpr size_t kRegexBytesMax = 16 * 1024;
inline constexpr int64_t kRegexMemoryBytesMax = 8 << 20;

class Matcher {
 public:
  // kInvalidArgument when a regular expression does not compile, kResourceExhausted when it is longer than
  // kRegexBytesMax or needs more than kRegexMemoryBytesMax.
  static Result<Matcher> Make(MatchType type, std::string name, std::string value);

  MatchType type() const { return type_; }
  const std::string& name() const { return name_; }
  const std::string& value() const { return value_; }

  bool Matches(std::string_view label_value) const;
  bool MatchesLabels(const Labels& labels) const;
  // Whether series without the label match: such a matcher cannot be answered from postings alone.
  bool MatchesEmpty() const { return Matches({}); }

  // name="value" with PromQL's quoting.
  std::string ToString() const;

  friend bool operator==(const Matcher& a, const Matcher& b) {
    return a.type_ == b.type_ && a.name_ == b.name_ && a.value_ == b.value_;
  }

 private:
  Matcher(MatchType type, std::string name, std::string value)
      : type_(type), name_(std::move(name)), value_(std::move(value)) {}

  MatchType type_;
  std::string name_;
  std::string value_;
  std::shared_ptr<const re2::RE2> regex_;
};

// "=", "!=", "=~" or "!~".
std::string_view MatchTypeSymbol(MatchType type);

}  // namespace millstream::model

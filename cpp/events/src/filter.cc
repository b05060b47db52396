#include "filter.h"

#include <charconv>
#include <optional>
#include <utility>

#include "event_reader.h"

namespace millstream::events {

class FilterParser {
 public:
  explicit FilterParser(std::string_view text) : text_(text) {}

  Result<std::unique_ptr<const Filter>> Run() {
    MS_ASSIGN_OR_RETURN(filter_.root_, ParseOr(0));
    SkipSpace();
    if (at_ < text_.size()) return Wrong("the end of the filter");
    return std::unique_ptr<const Filter>(new Filter(std::move(filter_)));
  }

  Result<Filter::Operand> RunOperand() {
    what_ = "field";
    MS_ASSIGN_OR_RETURN(const size_t index, ParseOperand());
    SkipSpace();
    if (at_ < text_.size()) return Wrong("the end of the field");
    return std::move(filter_.operands_[index]);
  }

 private:
  using Op = Filter::Op;

  Status Wrong(std::string_view expected) const {
    return InvalidArgument("the {} is wrong at byte {}: {} was expected", what_, at_, expected);
  }

  void SkipSpace() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n')) ++at_;
  }
  bool Take(std::string_view token) {
    SkipSpace();
    if (!text_.substr(at_).starts_with(token)) return false;
    at_ += token.size();
    return true;
  }

  Result<size_t> Add(Filter::Node node) {
    if (filter_.nodes_.size() >= kFilterNodesMax) {
      return InvalidArgument("a filter has at most {} parts", kFilterNodesMax);
    }
    filter_.nodes_.push_back(node);
    return filter_.nodes_.size() - 1;
  }

  Result<size_t> ParseOr(int depth) {
    MS_ASSIGN_OR_RETURN(size_t left, ParseAnd(depth));
    while (Take("||")) {
      MS_ASSIGN_OR_RETURN(const size_t right, ParseAnd(depth));
      MS_ASSIGN_OR_RETURN(left, Add({Op::kOr, left, right}));
    }
    return left;
  }

  Result<size_t> ParseAnd(int depth) {
    MS_ASSIGN_OR_RETURN(size_t left, ParseUnary(depth));
    while (Take("&&")) {
      MS_ASSIGN_OR_RETURN(const size_t right, ParseUnary(depth));
      MS_ASSIGN_OR_RETURN(left, Add({Op::kAnd, left, right}));
    }
    return left;
  }

  Result<size_t> ParseUnary(int depth) {
    if (depth >= kFilterDepthMax) return InvalidArgument("a filter nests at most {} deep", kFilterDepthMax);
    if (Take("!")) {
      MS_ASSIGN_OR_RETURN(const size_t inner, ParseUnary(depth + 1));
      return Add({Op::kNot, inner, 0});
    }
    if (Take("(")) {
      MS_ASSIGN_OR_RETURN(const size_t inner, ParseOr(depth + 1));
      if (!Take(")")) return Wrong("\")\"");
      return inner;
    }
    MS_ASSIGN_OR_RETURN(const size_t left, ParseOperand());
    // The longer ones first.
    static constexpr std::pair<std::string_view, Op> kComparisons[] = {
        {"==", Op::kEqual},        {"!=", Op::kUnequal}, {"<=", Op::kLessEqual},
        {">=", Op::kGreaterEqual}, {"<", Op::kLess},     {">", Op::kGreater}};
    for (const auto& [token, op] : kComparisons) {
      if (!Take(token)) continue;
      MS_ASSIGN_OR_RETURN(const size_t right, ParseOperand());
      return Add({op, left, right});
    }
    return Add({Op::kHolds, left, 0});
  }

  Result<size_t> AddOperand(Filter::Operand operand) {
    filter_.operands_.push_back(std::move(operand));
    return filter_.operands_.size() - 1;
  }

  Result<size_t> ParseOperand() {
    SkipSpace();
    if (at_ >= text_.size()) return Wrong("a value");
    const char first = text_[at_];
    if (first == '"') {
      MS_ASSIGN_OR_RETURN(std::string text, ParseString());
      return AddOperand(Filter::Literal{std::move(text)});
    }
    if (first == '-' || (first >= '0' && first <= '9')) {
      return ParseNumber();
    }
    const size_t begin = at_;
    const std::string name = TakeName();
    if (name == "true" || name == "false") return AddOperand(Filter::Literal{name == "true"});
    if (name == "null") return AddOperand(Filter::Literal{});
    if (name == "topic") return AddOperand(Filter::Topic());
    if (name == "key") return AddOperand(Filter::Key());
    if (name == "headers") {
      MS_ASSIGN_OR_RETURN(Filter::Field field, ParsePath());
      if (field.path.size() != 1 || !std::holds_alternative<std::string>(field.path[0])) {
        return Wrong("one header's name");
      }
      return AddOperand(Filter::Header{std::get<std::string>(std::move(field.path[0]))});
    }
    if (name == "payload") {
      MS_ASSIGN_OR_RETURN(Filter::Field field, ParsePath());
      return AddOperand(std::move(field));
    }
    at_ = begin;
    return Wrong("a string, a number, true, false, null, topic, key, headers or payload");
  }

  Result<size_t> ParseNumber() {
    const char* const begin = text_.data() + at_;
    const char* const limit = text_.data() + text_.size();
    double number = 0;
    const auto [end, error] = std::from_chars(begin, limit, number);
    if (error != std::errc()) return Wrong("a number");
    at_ = static_cast<size_t>(end - text_.data());
    // A double rounds whole numbers beyond 2^53.
    const auto is_whole = [&](auto* whole) {
      const auto [last, wrong] = std::from_chars(begin, end, *whole);
      return last == end && wrong == std::errc();
    };
    int64_t below = 0;
    uint64_t above = 0;
    if (is_whole(&below)) return AddOperand(Filter::Literal{static_cast<Exact>(below)});
    if (is_whole(&above)) return AddOperand(Filter::Literal{static_cast<Exact>(above)});
    return AddOperand(Filter::Literal{static_cast<Exact>(number)});
  }

  std::string TakeName() {
    const size_t begin = at_;
    const auto is_name = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
             static_cast<unsigned char>(c) >= 0x80;
    };
    while (at_ < text_.size() && is_name(text_[at_])) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }

  Result<Filter::Field> ParsePath() {
    Filter::Field field;
    while (at_ < text_.size() && (text_[at_] == '.' || text_[at_] == '[')) {
      if (text_[at_++] == '.') {
        std::string name = TakeName();
        if (name.empty()) return Wrong("a field's name");
        field.path.emplace_back(std::move(name));
        continue;
      }
      SkipSpace();
      if (at_ < text_.size() && text_[at_] == '"') {
        MS_ASSIGN_OR_RETURN(std::string name, ParseString());
        field.path.emplace_back(std::move(name));
      } else {
        size_t index = 0;
        const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), index);
        if (error != std::errc()) return Wrong("a name in quotes or an index");
        at_ = static_cast<size_t>(end - text_.data());
        field.path.emplace_back(index);
      }
      if (!Take("]")) return Wrong("\"]\"");
    }
    return field;
  }

  // In quotes; a backslash stands before a quote or another backslash.
  Result<std::string> ParseString() {
    std::string out;
    for (++at_; at_ < text_.size(); ++at_) {
      if (text_[at_] == '"') {
        ++at_;
        return out;
      }
      if (text_[at_] == '\\') {
        ++at_;
        if (at_ >= text_.size() || (text_[at_] != '"' && text_[at_] != '\\')) return Wrong("a quote or a backslash");
      }
      out += text_[at_];
    }
    return Wrong("a closing quote");
  }

  const std::string_view text_;
  std::string_view what_ = "filter";
  size_t at_ = 0;
  Filter filter_;
};

// One event seen through a filter.
class FilterRun {
 public:
  FilterRun(const Filter& filter, EventReader& reader) : filter_(filter), reader_(reader) {}

  // Recursion is bounded by kFilterNodesMax.
  bool Holds(size_t index) {
    const Filter::Node& node = filter_.nodes_[index];
    switch (node.op) {
      case Op::kOr:
        return Holds(node.left) || Holds(node.right);
      case Op::kAnd:
        return Holds(node.left) && Holds(node.right);
      case Op::kNot:
        return !Holds(node.left);
      case Op::kHolds: {
        const Value value = ValueOf(node.left);
        if (const bool* truth = std::get_if<bool>(&value)) return *truth;
        return !std::holds_alternative<Absent>(value) && !std::holds_alternative<Null>(value);
      }
      default:
        return Compare(node.op, ValueOf(node.left), ValueOf(node.right));
    }
  }

 private:
  using Op = Filter::Op;
  using Absent = EventReader::Absent;
  using Null = EventReader::Null;
  using Other = EventReader::Other;
  using Value = EventReader::Value;

  template <typename T>
  static bool Ordered(Op op, const T& a, const T& b) {
    switch (op) {
      case Op::kEqual:
        return a == b;
      case Op::kUnequal:
        return a != b;
      case Op::kLess:
        return a < b;
      case Op::kLessEqual:
        return a <= b;
      case Op::kGreater:
        return a > b;
      default:
        return a >= b;
    }
  }

  static bool Compare(Op op, const Value& a, const Value& b) {
    if (a.index() != b.index() || std::holds_alternative<Absent>(a) || std::holds_alternative<Other>(a)) {
      return op == Op::kUnequal;
    }
    if (const auto* number = std::get_if<Exact>(&a)) return Ordered(op, *number, std::get<Exact>(b));
    if (const auto* text = std::get_if<std::string_view>(&a)) return Ordered(op, *text, std::get<std::string_view>(b));
    // Null and truth are equal or not, and none is above the other.
    if (const bool* truth = std::get_if<bool>(&a)) {
      if (op == Op::kUnequal) return *truth != std::get<bool>(b);
      return op == Op::kEqual && *truth == std::get<bool>(b);
    }
    return op == Op::kEqual;
  }

  Value ValueOf(size_t index) { return reader_.ValueOf(filter_.operands_[index]); }

  const Filter& filter_;
  EventReader& reader_;
};

Result<std::unique_ptr<const Filter>> Filter::Parse(std::string_view text) {
  if (text.size() > kFilterBytesMax) {
    return InvalidArgument("a filter has at most {} bytes, not {}", kFilterBytesMax, text.size());
  }
  return FilterParser(text).Run();
}

Result<Filter::Operand> Filter::ParseOperand(std::string_view text) {
  if (text.size() > kFilterBytesMax) {
    return InvalidArgument("a field has at most {} bytes, not {}", kFilterBytesMax, text.size());
  }
  return FilterParser(text).RunOperand();
}

bool Filter::Matches(std::string_view topic, const EventView& event) const {
  EventReader reader(topic, event);
  return Matches(reader);
}

bool Filter::Matches(EventReader& reader) const {
  return FilterRun(*this, reader).Holds(root_);
}

}  // namespace millstream::events

#include "lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "millstream/base/ascii.h"
#include "millstream/base/utf8.h"
#include "millstream/model/labels.h"

namespace millstream::promql {
namespace {

bool IsAlpha(char c) {
  return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool IsAlphaNumeric(char c) {
  return IsAlpha(c) || IsDigit(c);
}
bool IsHexDigit(char c) {
  return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

std::string Lowered(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

constexpr auto kKeywords = std::to_array<std::pair<std::string_view, TokenKind>>({
    {"and", TokenKind::kAnd},
    {"or", TokenKind::kOr},
    {"unless", TokenKind::kUnless},
    {"atan2", TokenKind::kAtan2},
    {"sum", TokenKind::kSum},
    {"avg", TokenKind::kAvg},
    {"count", TokenKind::kCount},
    {"min", TokenKind::kMin},
    {"max", TokenKind::kMax},
    {"group", TokenKind::kGroup},
    {"stddev", TokenKind::kStddev},
    {"stdvar", TokenKind::kStdvar},
    {"topk", TokenKind::kTopK},
    {"bottomk", TokenKind::kBottomK},
    {"count_values", TokenKind::kCountValues},
    {"quantile", TokenKind::kQuantile},
    {"limitk", TokenKind::kLimitK},
    {"limit_ratio", TokenKind::kLimitRatio},
    {"offset", TokenKind::kOffset},
    {"smoothed", TokenKind::kSmoothed},
    {"anchored", TokenKind::kAnchored},
    {"by", TokenKind::kBy},
    {"without", TokenKind::kWithout},
    {"on", TokenKind::kOn},
    {"ignoring", TokenKind::kIgnoring},
    {"group_left", TokenKind::kGroupLeft},
    {"group_right", TokenKind::kGroupRight},
    {"bool", TokenKind::kBool},
    {"fill", TokenKind::kFill},
    {"fill_left", TokenKind::kFillLeft},
    {"fill_right", TokenKind::kFillRight},
    {"start", TokenKind::kStart},
    {"end", TokenKind::kEndFunction},
    {"step", TokenKind::kStep},
    {"range", TokenKind::kRange},
    {"min_of", TokenKind::kMinOf},
    {"max_of", TokenKind::kMaxOf},
    {"inf", TokenKind::kNumber},
    {"nan", TokenKind::kNumber},
});

class Lexer {
 public:
  explicit Lexer(std::string_view query) : query_(query) {}

  std::vector<Token> Run() {
    while (!done_) {
      SkipSpaceAndComments();
      start_ = at_;
      if (braces_open_) {
        LexInsideBraces();
      } else if (bracket_open_ && !got_duration_) {
        LexDurationExpr();
      } else {
        LexStatement();
      }
    }
    return std::move(tokens_);
  }

 private:
  bool at_end() const { return at_ >= query_.size(); }
  char Peek(size_t ahead = 0) const { return at_ + ahead < query_.size() ? query_[at_ + ahead] : '\0'; }

  // The character at `at` as Go's %q prints a rune.
  std::string QuoteRuneAt(size_t at) const {
    const auto lead = static_cast<unsigned char>(query_[at]);
    size_t length = 1;
    if (lead >= 0xF0) {
      length = 4;
    } else if (lead >= 0xE0) {
      length = 3;
    } else if (lead >= 0xC0) {
      length = 2;
    }
    const std::string_view rune = query_.substr(at, length);
    if (rune == "'") return R"('\'')";
    if (rune == "\"") return R"('"')";
    if (!IsValidUtf8(rune)) return "'\xEF\xBF\xBD'";
    const std::string quoted = model::Quote(rune);
    return "'" + quoted.substr(1, quoted.size() - 2) + "'";
  }

  void Emit(TokenKind kind) {
    tokens_.push_back({kind, query_.substr(start_, at_ - start_), static_cast<int32_t>(start_), {}});
  }
  void EmitLength(TokenKind kind, size_t length) {
    at_ += length;
    Emit(kind);
  }
  // Ends the list. The error's bytes are those from the current token's start to the end of the query.
  void Fail(std::string message) {
    tokens_.push_back({TokenKind::kError, query_.substr(start_), static_cast<int32_t>(start_), std::move(message)});
    done_ = true;
  }
  void End() {
    tokens_.push_back({TokenKind::kEnd, query_.substr(query_.size()), static_cast<int32_t>(query_.size()), {}});
    done_ = true;
  }

  void SkipSpaceAndComments() {
    while (!at_end()) {
      if (IsSpace(query_[at_])) {
        ++at_;
      } else if (query_[at_] == '#') {
        while (!at_end() && query_[at_] != '\n' && query_[at_] != '\r') ++at_;
      } else {
        return;
      }
    }
  }

  void LexStatement() {
    if (at_end()) {
      if (paren_depth_ != 0) return Fail("unclosed left parenthesis");
      if (bracket_open_) return Fail("unclosed left bracket");
      return End();
    }
    const char c = query_[at_];
    if (LexArithmetic(c)) return;
    switch (c) {
      case '=':
        if (Peek(1) == '=') return EmitLength(TokenKind::kEqual, 2);
        if (Peek(1) == '~') return Fail("unexpected character after '=': '~'");
        return EmitLength(TokenKind::kMatchEqual, 1);
      case '!':
        if (Peek(1) == '=') return EmitLength(TokenKind::kNotEqual, 2);
        if (at_ + 1 >= query_.size()) return Fail("unexpected character after '!': end of input");
        return Fail("unexpected character after '!': " + QuoteRuneAt(at_ + 1));
      case '<':
        if (Peek(1) == '=') return EmitLength(TokenKind::kLessEqual, 2);
        if (Peek(1) == '/') return EmitLength(TokenKind::kTrimUpper, 2);
        return EmitLength(TokenKind::kLess, 1);
      case '>':
        if (Peek(1) == '=') return EmitLength(TokenKind::kGreaterEqual, 2);
        if (Peek(1) == '/') return EmitLength(TokenKind::kTrimLower, 2);
        return EmitLength(TokenKind::kGreater, 1);
      case '{':
        braces_open_ = true;
        return EmitLength(TokenKind::kLeftBrace, 1);
      case '[':
        if (bracket_open_) return Fail("unexpected left bracket '['");
        bracket_open_ = true;
        got_colon_ = false;
        got_duration_ = false;
        return EmitLength(TokenKind::kLeftBracket, 1);
      case ']':
        if (!bracket_open_) return Fail("unexpected right bracket ']'");
        bracket_open_ = false;
        return EmitLength(TokenKind::kRightBracket, 1);
      case '@':
        return EmitLength(TokenKind::kAt, 1);
      case '"':
      case '\'':
        return LexString(c);
      case '`':
        return LexRawString();
      default:
        break;
    }
    if (IsDigit(c) || (c == '.' && IsDigit(Peek(1)))) return LexNumberOrDuration();
    if (bracket_open_ && c == ':') {
      if (got_colon_) return Fail("unexpected colon ':'");
      got_colon_ = true;
      return EmitLength(TokenKind::kColon, 1);
    }
    if (bracket_open_ && IsAlpha(c)) {
      if (LexDurationWord()) return;
      return Fail(fmt::format("unexpected character: {}, expected ':'", QuoteRuneAt(at_)));
    }
    if (IsAlpha(c) || c == ':') return LexWord();
    Fail("unexpected character: " + QuoteRuneAt(at_));
  }

  // What duration expressions and statements share. Returns whether it consumed.
  bool LexArithmetic(char c) {
    switch (c) {
      case '+':
        EmitLength(TokenKind::kAdd, 1);
        return true;
      case '-':
        EmitLength(TokenKind::kSub, 1);
        return true;
      case '*':
        EmitLength(TokenKind::kMul, 1);
        return true;
      case '/':
        EmitLength(TokenKind::kDiv, 1);
        return true;
      case '%':
        EmitLength(TokenKind::kMod, 1);
        return true;
      case '^':
        EmitLength(TokenKind::kPow, 1);
        return true;
      case ',':
        EmitLength(TokenKind::kComma, 1);
        return true;
      case '(':
        ++paren_depth_;
        EmitLength(TokenKind::kLeftParen, 1);
        return true;
      case ')':
        if (paren_depth_ == 0) {
          start_ = at_ + 1;  // Prometheus points behind it
          Fail("unexpected right parenthesis ')'");
        } else {
          --paren_depth_;
          EmitLength(TokenKind::kRightParen, 1);
        }
        return true;
      default:
        return false;
    }
  }

  void LexInsideBraces() {
    if (at_end()) return Fail("unexpected end of input inside braces");
    const char c = query_[at_];
    switch (c) {
      case '}':
        braces_open_ = false;
        return EmitLength(TokenKind::kRightBrace, 1);
      case '{':
        return Fail("unexpected left brace '{'");
      case ',':
        return EmitLength(TokenKind::kComma, 1);
      case '"':
      case '\'':
        return LexString(c);
      case '`':
        return LexRawString();
      case '=':
        if (Peek(1) == '~') return EmitLength(TokenKind::kMatchRegex, 2);
        return EmitLength(TokenKind::kMatchEqual, 1);
      case '!':
        if (Peek(1) == '~') return EmitLength(TokenKind::kMatchNotRegex, 2);
        if (Peek(1) == '=') return EmitLength(TokenKind::kNotEqual, 2);
        if (at_ + 1 >= query_.size()) return Fail("unexpected character after '!' inside braces: end of input");
        return Fail("unexpected character after '!' inside braces: " + QuoteRuneAt(at_ + 1));
      default:
        break;
    }
    if (!IsAlpha(c)) return Fail("unexpected character inside braces: " + QuoteRuneAt(at_));
    while (!at_end() && IsAlphaNumeric(query_[at_])) ++at_;
    Emit(TokenKind::kIdentifier);
  }

  // Between brackets, up to the first number or call. What follows is lexed as outside of them, so that messages are as
  // Prometheus's.
  void LexDurationExpr() {
    if (at_end()) return Fail("unexpected end of input in duration expression");
    const char c = query_[at_];
    if (c == ']') {
      bracket_open_ = false;
      return EmitLength(TokenKind::kRightBracket, 1);
    }
    if (c == ':') {
      // A call is a duration, too: x[step():1m].
      const bool after_call = tokens_.back().kind == TokenKind::kRightParen;
      if (!after_call) {
        start_ = at_ + 1;  // Prometheus points behind it
        return Fail("unexpected colon before duration in duration expression");
      }
      if (got_colon_) return Fail("unexpected repeated colon in duration expression");
      got_colon_ = true;
      return EmitLength(TokenKind::kColon, 1);
    }
    if (LexArithmetic(c)) return;
    if (IsDigit(c) || (c == '.' && IsDigit(Peek(1)))) {
      got_duration_ = true;
      return LexNumberOrDuration();
    }
    if (IsAlpha(c) && LexDurationWord()) return;
    Fail("unexpected character in duration expression: " + QuoteRuneAt(at_));
  }

  // A word that a duration expression may have; false when the word is another.
  bool LexDurationWord() {
    size_t end = at_;
    while (end < query_.size() && IsAlphaNumeric(query_[end])) ++end;
    const std::string word = Lowered(query_.substr(at_, end - at_));
    for (const auto& [keyword, kind] : kKeywords) {
      const bool allowed = kind == TokenKind::kStep || kind == TokenKind::kRange || kind == TokenKind::kMinOf ||
                           kind == TokenKind::kMaxOf;
      if (allowed && word == keyword) {
        EmitLength(kind, end - at_);
        return true;
      }
    }
    return false;
  }

  void LexWord() {
    while (!at_end() && (IsAlphaNumeric(query_[at_]) || query_[at_] == ':')) ++at_;
    const std::string_view word = query_.substr(start_, at_ - start_);
    if (word.find(':') != std::string_view::npos) return Emit(TokenKind::kMetricIdentifier);
    const std::string lowered = Lowered(word);
    for (const auto& [keyword, kind] : kKeywords) {
      if (lowered != keyword) continue;
      const bool fills = kind == TokenKind::kFill || kind == TokenKind::kFillLeft || kind == TokenKind::kFillRight;
      // Only before a parenthesis are these keywords: metrics may have their names.
      return Emit(fills && !IsBeforeParen() ? TokenKind::kIdentifier : kind);
    }
    Emit(TokenKind::kIdentifier);
  }

  bool IsBeforeParen() const {
    size_t next = at_;
    while (next < query_.size() && IsSpace(query_[next])) ++next;
    return next < query_.size() && query_[next] == '(';
  }

  void LexNumberOrDuration() {
    if (ScanNumber()) return Emit(TokenKind::kNumber);
    // The number's digits are consumed; what follows must be a unit, perhaps more digits and units.
    if (Peek() == '.') {
      ++at_;  // the error message shows the offending character
    } else if (ScanDurationRest()) {
      return Emit(TokenKind::kDuration);
    }
    Fail(fmt::format("bad number or duration syntax: {}", model::Quote(query_.substr(start_, at_ - start_))));
  }

  // Digits with single underscores between them. False when an underscore stands elsewhere; it is then consumed, for
  // the error message.
  bool ScanDigits(bool hex) {
    while (!at_end()) {
      const char c = query_[at_];
      if (c == '_') {
        ++at_;
        const bool digit_follows = hex ? IsHexDigit(Peek()) : IsDigit(Peek());
        if (!digit_follows) {
          if (Peek() == '_' || Peek() == '.' || Peek() == 'e' || Peek() == 'E') ++at_;
          return false;
        }
      } else if (hex ? !IsHexDigit(c) : !IsDigit(c)) {
        return true;
      } else {
        ++at_;
      }
    }
    return true;
  }

  bool ScanNumber() {
    if (Peek() == '0' && (Peek(1) == 'x' || Peek(1) == 'X')) {
      at_ += 2;
      return ScanDigits(true) && !IsAlphaNumeric(Peek()) && Peek() != '.';
    }
    if (!ScanDigits(false)) return false;
    if (Peek() == '.') {
      ++at_;
      if (Peek() == '_') {
        ++at_;
        return false;
      }
      if (!ScanDigits(false)) return false;
    }
    if (Peek() == 'e' || Peek() == 'E') {
      ++at_;
      Accept("+-");
      if (!IsDigit(Peek())) return false;
      if (!ScanDigits(false)) return false;
    }
    return !IsAlphaNumeric(Peek()) && Peek() != '.';
  }

  bool Accept(std::string_view any_of) {
    if (at_end() || any_of.find(query_[at_]) == std::string_view::npos) return false;
    ++at_;
    return true;
  }

  bool ScanDurationRest() {
    if (!Accept("smhdwy")) return false;
    Accept("s");
    while (!at_end() && IsDigit(query_[at_])) {
      while (!at_end() && IsDigit(query_[at_])) ++at_;
      if (!Accept("smhdw")) return false;
      Accept("s");
    }
    if (!at_end() && IsAlphaNumeric(query_[at_])) {
      ++at_;  // the error message shows the offending character
      return false;
    }
    return true;
  }

  void LexRawString() {
    const size_t close = query_.find('`', at_ + 1);
    if (close == std::string_view::npos) return Fail("unterminated raw string");
    at_ = close + 1;
    if (!IsValidUtf8(query_.substr(start_, at_ - start_))) return Fail("invalid UTF-8 rune");
    Emit(TokenKind::kString);
  }

  void LexString(char quote) {
    ++at_;
    while (!at_end()) {
      const char c = query_[at_];
      if (c == quote) {
        ++at_;
        if (!IsValidUtf8(query_.substr(start_, at_ - start_))) return Fail("invalid UTF-8 rune");
        return Emit(TokenKind::kString);
      }
      if (c == '\n') break;
      ++at_;
      if (c == '\\' && !LexEscape(quote)) return;
    }
    Fail("unterminated quoted string");
  }

  // After the backslash. False when it failed.
  bool LexEscape(char quote) {
    if (at_end()) {
      Fail("escape sequence not terminated");
      return false;
    }
    const char c = query_[at_];
    if (c == quote || std::string_view("abfnrtv\\").find(c) != std::string_view::npos) {
      ++at_;
      return true;
    }
    size_t digits = 0;
    uint32_t base = 16;
    uint32_t max = 0x10FFFF;
    switch (c) {
      case 'x':
        digits = 2;
        max = 255;
        break;
      case 'u':
        digits = 4;
        break;
      case 'U':
        digits = 8;
        break;
      default:
        if (c < '0' || c > '7') {
          Fail(fmt::format("unknown escape sequence U+{:04X} {}", static_cast<unsigned char>(c), QuoteRuneAt(at_)));
          return false;
        }
        digits = 3;
        base = 8;
        max = 255;
    }
    if (base == 16) ++at_;
    uint64_t value = 0;
    for (size_t i = 0; i < digits; ++i, ++at_) {
      if (at_end()) {
        Fail("escape sequence not terminated");
        return false;
      }
      const char digit = query_[at_];
      const bool good = base == 8 ? digit >= '0' && digit <= '7' : IsHexDigit(digit);
      if (!good) {
        Fail(fmt::format("illegal character U+{:04X} {} in escape sequence", static_cast<unsigned char>(digit),
                         QuoteRuneAt(at_)));
        return false;
      }
      const int figure = IsDigit(digit) ? digit - '0' : (digit | 0x20) - 'a' + 10;
      value = value * base + static_cast<uint64_t>(figure);
    }
    if (value > max || (value >= 0xD800 && value < 0xE000)) {
      Fail("escape sequence is an invalid Unicode code point");
      return false;
    }
    return true;
  }

  std::string_view query_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  size_t start_ = 0;
  int paren_depth_ = 0;
  bool braces_open_ = false;
  bool bracket_open_ = false;
  bool got_colon_ = false;
  bool got_duration_ = false;
  bool done_ = false;
};

}  // namespace

std::vector<Token> Lex(std::string_view query) {
  return Lexer(query).Run();
}

bool IsWordToken(const Token& token) {
  switch (token.kind) {
    case TokenKind::kIdentifier:
    case TokenKind::kAtan2:
    case TokenKind::kAnd:
    case TokenKind::kOr:
    case TokenKind::kUnless:
      return true;
    default:
      return IsAggregatorToken(token.kind) || IsKeywordToken(token.kind);
  }
}

std::string DescribeToken(const Token& token) {
  const auto quoted = [&] {
    if (token.text.size() <= 10) return model::Quote(token.text);
    // Prometheus shows the first ten characters.
    size_t end = 0;
    for (int characters = 0; end < token.text.size() && characters < 10; ++characters) {
      ++end;
      while (end < token.text.size() && (static_cast<unsigned char>(token.text[end]) & 0xC0) == 0x80) ++end;
    }
    return model::Quote(token.text.substr(0, end)) + "...";
  };
  switch (token.kind) {
    case TokenKind::kEnd:
      return "end of input";
    case TokenKind::kIdentifier:
      return "identifier " + model::Quote(token.text);
    case TokenKind::kMetricIdentifier:
      return "metric identifier " + model::Quote(token.text);
    case TokenKind::kString:
      return "string " + quoted();
    case TokenKind::kNumber:
      return "number " + quoted();
    case TokenKind::kDuration:
      return "duration " + quoted();
    default:
      break;
  }
  const bool is_operator = IsOperatorToken(token.kind) || token.kind == TokenKind::kAt ||
                           token.kind == TokenKind::kMatchRegex || token.kind == TokenKind::kMatchNotRegex;
  if (is_operator) return fmt::format("<op:{}>", token.text);
  if (IsAggregatorToken(token.kind)) return fmt::format("<aggr:{}>", token.text);
  if (IsKeywordToken(token.kind) && token.kind < TokenKind::kStart) return fmt::format("<{}>", token.text);
  return quoted();
}

}  // namespace millstream::promql

#include "otlp_names.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <span>
#include <vector>

#include "millstream/base/ascii.h"
#include "millstream/model/labels.h"

namespace millstream::wire::otlp {
namespace {

struct UnitWord {
  std::string_view code;
  std::string_view word;
};

constexpr UnitWord kUnits[] = {
    {"d", "days"},          {"h", "hours"},        {"min", "minutes"},   {"s", "seconds"},      {"ms", "milliseconds"},
    {"us", "microseconds"}, {"ns", "nanoseconds"}, {"By", "bytes"},      {"KiBy", "kibibytes"}, {"MiBy", "mebibytes"},
    {"GiBy", "gibibytes"},  {"TiBy", "tibibytes"}, {"KBy", "kilobytes"}, {"MBy", "megabytes"},  {"GBy", "gigabytes"},
    {"TBy", "terabytes"},   {"m", "meters"},       {"V", "volts"},       {"A", "amperes"},      {"J", "joules"},
    {"W", "watts"},         {"g", "grams"},        {"Cel", "celsius"},   {"Hz", "hertz"},       {"1", ""},
    {"%", "percent"},
};

constexpr UnitWord kPerUnits[] = {
    {"s", "second"}, {"m", "minute"}, {"h", "hour"}, {"d", "day"}, {"w", "week"}, {"mo", "month"}, {"y", "year"},
};

std::string_view WordOf(std::span<const UnitWord> words, std::string_view code) {
  const auto found = std::ranges::find(words, code, &UnitWord::code);
  return found == words.end() ? code : found->word;
}

bool IsAlphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}
bool IsMetricChar(char c) {
  return IsAlphanumeric(c) || c == ':';
}
// The bytes of a character of UTF-8 after its first.
bool IsContinuation(char c) {
  return (static_cast<unsigned char>(c) & 0xC0u) == 0x80u;
}
bool OnlyUnderscores(std::string_view text) {
  return text.find_first_not_of('_') == std::string_view::npos;
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

// What a unit adds to a name: "By/s" is "bytes" and "per_second". A part with an annotation in braces adds nothing.
struct UnitSuffixes {
  std::string main;
  std::string per;
};

UnitSuffixes SuffixesOf(std::string_view unit) {
  const auto word = [](std::span<const UnitWord> words, std::string_view part) -> std::string_view {
    part = Trim(part);
    return part.find_first_of("{}") != std::string_view::npos ? std::string_view() : WordOf(words, part);
  };
  const size_t slash = unit.find('/');
  UnitSuffixes out;
  out.main = word(kUnits, unit.substr(0, slash));
  if (slash != std::string_view::npos) {
    const std::string_view per = word(kPerUnits, unit.substr(slash + 1));
    if (!per.empty()) out.per = "per_" + std::string(per);
  }
  return out;
}

// Makes a unit's word fit for a name: what is not allowed becomes an underscore, several of them one, none in front.
std::string EscapedUnit(std::string_view word) {
  std::string out;
  for (const char c : word) {
    if (IsMetricChar(c)) {
      out += c;
    } else if (out.empty() || out.back() != '_') {
      out += '_';
    }
  }
  if (out.starts_with('_')) out.erase(0, 1);
  return out;
}

template <typename Keep>
std::vector<std::string> Tokens(std::string_view name, Keep keep) {
  std::vector<std::string> out;
  bool in_token = false;
  for (const char c : name) {
    const bool kept = keep(c);
    if (kept && !in_token) out.emplace_back();
    if (kept) out.back() += c;
    in_token = kept;
  }
  return out;
}

std::string Joined(const std::vector<std::string>& tokens) {
  std::string out;
  for (const std::string& token : tokens) {
    if (&token != tokens.data()) out += '_';
    out += token;
  }
  return out;
}

void MoveToEnd(std::string_view word, std::vector<std::string>* tokens) {
  std::erase(*tokens, word);
  tokens->emplace_back(word);
}

bool IsCounter(const Metric& metric) {
  return metric.kind == MetricKind::kSum && metric.monotonic;
}
bool IsRatio(const Metric& metric) {
  return metric.kind == MetricKind::kGauge && metric.unit == "1";
}

void AddUnitTokens(std::string_view unit, std::vector<std::string>* tokens) {
  const UnitSuffixes words = SuffixesOf(unit);
  std::string main = EscapedUnit(words.main);
  std::string per = EscapedUnit(words.per);
  const auto has = [&](const std::string& word) { return std::ranges::find(*tokens, word) != tokens->end(); };
  if (has(main)) main.clear();
  if (per == "per_") per.clear();
  if (per.ends_with('_')) per.pop_back();
  if (has(per)) per.clear();
  if (!per.empty() && main.ends_with('_')) main.pop_back();
  if (!main.empty()) tokens->push_back(std::move(main));
  if (!per.empty()) tokens->push_back(std::move(per));
}

std::string EscapedName(const Metric& metric, bool add_suffixes) {
  std::string out;
  if (add_suffixes) {
    std::vector<std::string> tokens = Tokens(metric.name, IsMetricChar);
    AddUnitTokens(metric.unit, &tokens);
    if (IsCounter(metric)) MoveToEnd("total", &tokens);
    if (IsRatio(metric)) MoveToEnd("ratio", &tokens);
    out = Joined(tokens);
  } else {
    out = Joined(Tokens(metric.name, [](char c) { return IsMetricChar(c) || c == '_'; }));
  }
  if (!out.empty() && IsDigit(out.front())) out.insert(out.begin(), '_');
  return out;
}

// Without the suffix and the character before it, where something stays in front of these.
void CutSuffix(std::string_view suffix, std::string* name) {
  if (name->ends_with(suffix) && name->size() > suffix.size() + 1) name->resize(name->size() - suffix.size() - 1);
}

// Suffixes from the innermost outwards: unit, per unit, total, ratio. One that is there already stands at its place.
std::string SuffixedName(const Metric& metric) {
  std::string out(metric.name);
  const UnitSuffixes words = SuffixesOf(metric.unit);
  if (IsRatio(metric)) CutSuffix("ratio", &out);
  if (IsCounter(metric)) CutSuffix("total", &out);
  if (!words.per.empty()) CutSuffix(words.per, &out);
  if (!words.main.empty() && !out.ends_with(words.main)) out += "_" + words.main;
  if (!words.per.empty()) out += "_" + words.per;
  if (IsCounter(metric)) out += "_total";
  if (IsRatio(metric)) out += "_ratio";
  return out;
}

// Letters and digits stay, each other character is an underscore.
std::string Escaped(std::string_view key, bool collapse) {
  std::string out;
  for (const char c : key) {
    if (IsAlphanumeric(c)) {
      out += c;
    } else if (!IsContinuation(c) && !(collapse && out.ends_with('_'))) {
      out += '_';
    }
  }
  return out;
}

}  // namespace

Result<std::string> MetricName(const Metric& metric, const OtlpOptions& options) {
  if (metric.name.empty()) return InvalidArgument("the metric's name is empty");
  if (!options.escape_names) return options.add_suffixes ? SuffixedName(metric) : std::string(metric.name);
  std::string name = EscapedName(metric, options.add_suffixes);
  if (name.empty() || (OnlyUnderscores(name) && name != metric.name)) {
    return InvalidArgument("nothing that a metric's name may have is in {}", model::Quote(metric.name));
  }
  return name;
}

Result<std::string> LabelName(std::string_view key, const OtlpOptions& options) {
  if (key.empty()) return InvalidArgument("an attribute's key is empty");
  std::string name(key);
  if (options.escape_names) {
    const bool collapse = !options.label_name_preserve_multiple_underscores;
    const bool reserved = key.size() >= 4 && key.starts_with("__") && key.ends_with("__");
    name = collapse && reserved ? "__" + Escaped(key.substr(2, key.size() - 4), true) + "__" : Escaped(key, collapse);
    if (!name.empty() && IsDigit(name.front())) {
      name.insert(0, "key_");
    } else if (options.label_name_underscore_sanitization && name.starts_with('_') && !name.starts_with("__")) {
      name.insert(0, "key");
    }
  }
  if (OnlyUnderscores(name)) {
    return InvalidArgument("nothing that a label's name may have is in the attribute {}", model::Quote(key));
  }
  return name;
}

std::string UnitName(std::string_view unit) {
  const UnitSuffixes words = SuffixesOf(unit);
  std::string out = EscapedUnit(words.main);
  const std::string per = EscapedUnit(words.per);
  if (!out.empty() && !per.empty()) out += '_';
  out += per;
  if (out.starts_with('_')) out.erase(0, 1);
  if (out.ends_with('_')) out.pop_back();
  return out;
}

std::string DecimalText(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  // The digits and the exponent of the shortest spelling; zeros fill the rest.
  std::array<char, 32> buffer;
  const auto written =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), std::abs(value), std::chars_format::scientific);
  const std::string_view text(buffer.data(), static_cast<size_t>(written.ptr - buffer.data()));
  const size_t e = text.find('e');
  int exponent = 0;
  std::from_chars(text.data() + e + (text[e + 1] == '+' ? 2 : 1), text.data() + text.size(), exponent);
  std::string digits(text.substr(0, e));
  std::erase(digits, '.');
  std::string out = std::signbit(value) ? "-" : "";
  if (exponent < 0) {
    out += "0.";
    out.append(static_cast<size_t>(-exponent - 1), '0');
    return out += digits;
  }
  const auto whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole) return out += digits.append(whole - digits.size(), '0');
  return out += digits.insert(whole, ".");
}

}  // namespace millstream::wire::otlp

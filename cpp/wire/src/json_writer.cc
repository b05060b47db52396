#include "millstream/wire/json_writer.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "millstream/base/utf8.h"

namespace millstream::wire {
namespace {

void AppendEscaped(std::string_view text, std::string* out) {
  for (const char c : text) {
    switch (c) {
      case '"':
        *out += "\\\"";
        break;
      case '\\':
        *out += "\\\\";
        break;
      case '\n':
        *out += "\\n";
        break;
      case '\r':
        *out += "\\r";
        break;
      case '\t':
        *out += "\\t";
        break;
      case '<':
      case '>':
      case '&':
        fmt::format_to(std::back_inserter(*out), "\\u{:04x}", static_cast<unsigned>(c));
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          fmt::format_to(std::back_inserter(*out), "\\u{:04x}", static_cast<unsigned>(c));
        } else {
          *out += c;
        }
    }
  }
}

}  // namespace

void AppendJsonString(std::string_view text, std::string* out) {
  *out += '"';
  while (!text.empty()) {
    const size_t bad = FirstInvalidUtf8(text);
    AppendEscaped(text.substr(0, bad), out);
    if (bad == std::string_view::npos) break;
    *out += "\xEF\xBF\xBD";
    text.remove_prefix(bad + 1);
  }
  *out += '"';
}

void AppendJsonLabels(const model::Labels& labels, std::string* out) {
  *out += '{';
  bool first = true;
  for (const model::Label label : labels) {
    if (!first) *out += ',';
    first = false;
    AppendJsonString(label.name, out);
    *out += ':';
    AppendJsonString(label.value, out);
  }
  *out += '}';
}

void AppendFloat(double value, std::string* out) {
  if (std::isnan(value)) {
    *out += "NaN";
    return;
  }
  if (std::isinf(value)) {
    *out += value > 0 ? "+Inf" : "-Inf";
    return;
  }
  const double magnitude = std::abs(value);
  const bool exponent = magnitude != 0 && (magnitude < 1e-6 || magnitude >= 1e21);
  char buffer[64];
  const auto result = std::to_chars(buffer, buffer + sizeof(buffer), value,
                                    exponent ? std::chars_format::scientific : std::chars_format::fixed);
  std::string_view text(buffer, static_cast<size_t>(result.ptr - buffer));
  // Negative exponents of one digit go without the zero: 1e-7, as JavaScript writes them.
  if (const size_t n = text.size();
      exponent && n >= 4 && text[n - 4] == 'e' && text[n - 3] == '-' && text[n - 2] == '0') {
    out->append(text.substr(0, n - 2));
    *out += text.back();
    return;
  }
  out->append(text);
}

void AppendTimestamp(TimestampMs timestamp, std::string* out) {
  const bool negative = timestamp < 0;
  const uint64_t magnitude = negative ? ~static_cast<uint64_t>(timestamp) + 1 : static_cast<uint64_t>(timestamp);
  if (negative) *out += '-';
  fmt::format_to(std::back_inserter(*out), "{}", magnitude / 1000);
  if (const uint64_t ms = magnitude % 1000; ms != 0) fmt::format_to(std::back_inserter(*out), ".{:03}", ms);
}

void AppendSamplePair(TimestampMs timestamp, double value, std::string* out) {
  *out += '[';
  AppendTimestamp(timestamp, out);
  *out += ",\"";
  AppendFloat(value, out);
  *out += "\"]";
}

}  // namespace millstream::wire

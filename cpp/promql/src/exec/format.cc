#include "exec/format.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <string_view>

#include "exec/calendar.h"

namespace millstream::promql::exec {
namespace {

std::string NotFinite(double value) {
  if (std::isnan(value)) return "NaN";
  return value > 0 ? "+Inf" : "-Inf";
}

std::string ToChars(double value, std::chars_format format) {
  // The longest: 309 digits before the point, or 324 zeros and 17 digits after it.
  std::array<char, 512> buffer;
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, format);
  return std::string(buffer.data(), result.ptr);
}

}  // namespace

std::string FormatGo(double value, int exponent_from) {
  if (!std::isfinite(value)) return NotFinite(value);
  const std::string scientific = ToChars(value, std::chars_format::scientific);
  const size_t e = scientific.find('e');
  const int exponent = std::stoi(scientific.substr(e + 1));
  if (value != 0 && (exponent < -4 || exponent >= exponent_from)) return scientific;
  return ToChars(value, std::chars_format::fixed);
}

std::string FormatOpenMetrics(double value) {
  std::string text = FormatGo(value);
  if (std::isfinite(value) && text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string FormatRfc3339(TimestampMs time) {
  const CalendarTime calendar = ToCalendar(time >= 0 ? time / 1000 : (time - 999) / 1000);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", calendar.year, calendar.month, calendar.day, calendar.hour,
                     calendar.minute, calendar.second);
}

}  // namespace millstream::promql::exec

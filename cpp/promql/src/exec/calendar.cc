#include "exec/calendar.h"

#include <array>
#include <cstddef>

namespace millstream::promql::exec {
namespace {

constexpr int64_t kSecondsPerDay = 86'400;
constexpr int64_t kDaysPerEra = 146'097;               // 400 years
constexpr int64_t kDaysFromMarchZeroTo1970 = 719'468;  // from 0000-03-01

bool IsLeap(int64_t year) {
  return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

}  // namespace

CalendarTime ToCalendar(int64_t unix_seconds) {
  int64_t days = unix_seconds / kSecondsPerDay;
  int64_t rest = unix_seconds % kSecondsPerDay;
  if (rest < 0) {
    rest += kSecondsPerDay;
    --days;
  }
  CalendarTime out;
  out.hour = static_cast<int>(rest / 3600);
  out.minute = static_cast<int>(rest / 60 % 60);
  out.second = static_cast<int>(rest % 60);
  out.day_of_week = static_cast<int>(((days % 7) + 11) % 7);

  // Years that begin in March put the leap day last.
  const int64_t shifted = days + kDaysFromMarchZeroTo1970;
  const int64_t era = (shifted >= 0 ? shifted : shifted - (kDaysPerEra - 1)) / kDaysPerEra;
  const int64_t day_of_era = shifted - era * kDaysPerEra;
  const int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const int64_t day_from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t month_from_march = (5 * day_from_march + 2) / 153;
  out.day = static_cast<int>(day_from_march - (153 * month_from_march + 2) / 5 + 1);
  out.month = static_cast<int>(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);
  out.year = year_of_era + era * 400 + (out.month <= 2 ? 1 : 0);

  constexpr std::array<int, 12> kDaysBefore = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
  constexpr std::array<int, 12> kDays = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool leap = IsLeap(out.year);
  const std::size_t month_index = static_cast<std::size_t>(out.month - 1);
  out.day_of_year = kDaysBefore[month_index] + out.day + (leap && out.month > 2 ? 1 : 0);
  out.days_in_month = kDays[month_index] + (leap && out.month == 2 ? 1 : 0);
  return out;
}

}  // namespace millstream::promql::exec

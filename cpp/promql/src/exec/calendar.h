// Seconds since the epoch as a date and time in UTC, in the proleptic Gregorian calendar.
//
// Source      The days-from-civil algorithm over eras of 400 years.
#pragma once

#include <cstdint>

namespace millstream::promql::exec {

struct CalendarTime {
  int64_t year = 1970;
  int month = 1;  // 1 to 12
  int day = 1;    // 1 to 31
  int hour = 0;
  int minute = 0;
  int second = 0;
  int day_of_week = 4;  // 0 is Sunday
  int day_of_year = 1;  // 1 to 366
  int days_in_month = 31;
};

CalendarTime ToCalendar(int64_t unix_seconds);

}  // namespace millstream::promql::exec

// Functions that work on each float of a vector by itself.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include "exec/calendar.h"
#include "exec/element.h"
#include "exec/instant_function.h"
#include "exec/numbers.h"
#include "exec/scalar.h"

namespace millstream::promql::exec {
namespace {

double Sign(double value) {
  if (value < 0) return -1;
  if (value > 0) return 1;
  return value;  // zero with its sign, and NaN
}

// A float as seconds since the epoch. What no int64 holds is clamped, so that no conversion is undefined.
CalendarTime CalendarOf(double seconds) {
  constexpr double kLimit = 9.2e18;
  if (std::isnan(seconds)) return ToCalendar(std::numeric_limits<int64_t>::min() / 2);
  return ToCalendar(static_cast<int64_t>(std::clamp(seconds, -kLimit / 2, kLimit / 2)));
}

struct Entry {
  std::string_view name;
  FloatFunction function;
};

constexpr double kDegrees = 180;

constexpr std::array kFloatFunctions = {
    Entry{"abs", [](double x) { return std::fabs(x); }},
    Entry{"ceil", [](double x) { return std::ceil(x); }},
    Entry{"floor", [](double x) { return std::floor(x); }},
    Entry{"exp", [](double x) { return std::exp(x); }},
    Entry{"sqrt", [](double x) { return std::sqrt(x); }},
    Entry{"ln", [](double x) { return std::log(x); }},
    Entry{"log2", [](double x) { return std::log2(x); }},
    Entry{"log10", [](double x) { return std::log10(x); }},
    Entry{"sgn", Sign},
    Entry{"sin", [](double x) { return std::sin(x); }},
    Entry{"cos", [](double x) { return std::cos(x); }},
    Entry{"tan", [](double x) { return std::tan(x); }},
    Entry{"asin", [](double x) { return std::asin(x); }},
    Entry{"acos", [](double x) { return std::acos(x); }},
    Entry{"atan", [](double x) { return std::atan(x); }},
    Entry{"sinh", [](double x) { return std::sinh(x); }},
    Entry{"cosh", [](double x) { return std::cosh(x); }},
    Entry{"tanh", [](double x) { return std::tanh(x); }},
    Entry{"asinh", [](double x) { return std::asinh(x); }},
    Entry{"acosh", [](double x) { return std::acosh(x); }},
    Entry{"atanh", [](double x) { return std::atanh(x); }},
    Entry{"rad", [](double x) { return x * std::numbers::pi / kDegrees; }},
    Entry{"deg", [](double x) { return x * kDegrees / std::numbers::pi; }},
    Entry{"minute", [](double x) { return static_cast<double>(CalendarOf(x).minute); }},
    Entry{"hour", [](double x) { return static_cast<double>(CalendarOf(x).hour); }},
    Entry{"day_of_week", [](double x) { return static_cast<double>(CalendarOf(x).day_of_week); }},
    Entry{"day_of_month", [](double x) { return static_cast<double>(CalendarOf(x).day); }},
    Entry{"day_of_year", [](double x) { return static_cast<double>(CalendarOf(x).day_of_year); }},
    Entry{"days_in_month", [](double x) { return static_cast<double>(CalendarOf(x).days_in_month); }},
    Entry{"month", [](double x) { return static_cast<double>(CalendarOf(x).month); }},
    Entry{"year", [](double x) { return static_cast<double>(CalendarOf(x).year); }},
};

// Replaces each float by function(float, step), or takes it out where `keep(step)` is false; histograms go.
template <typename Function, typename Keep>
void TransformFloats(const ExecContext& ctx, const Grid& grid, Series* series, Function function, Keep keep) {
  for (size_t step = 0; step < grid.steps; ++step) {
    if (series->kinds[step] == SampleKind::kFloat && keep(step)) {
      series->values[step] = function(series->values[step], step);
    } else {
      series->Clear(step);
    }
  }
  series->histograms.clear();
  DropName(ctx, series);
}

}  // namespace

FloatFunction FindFloatFunction(std::string_view name) {
  for (const Entry& entry : kFloatFunctions) {
    if (entry.name == name) return entry.function;
  }
  return nullptr;
}

Status FloatFunctionOperator::Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const {
  return PushWithoutNames(ctx, grid, *input_, sink, [&](Series* series) {
    TransformFloats(
        ctx, grid, series, [&](double value, size_t) { return function_(value); }, [](size_t) { return true; });
  });
}

Status ClampOperator::Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const {
  std::vector<double> lower(grid.steps, -kInf);
  std::vector<double> upper(grid.steps, kInf);
  if (lower_ != nullptr) {
    MS_ASSIGN_OR_RETURN(lower, lower_->Eval(ctx, grid));
  }
  if (upper_ != nullptr) {
    MS_ASSIGN_OR_RETURN(upper, upper_->Eval(ctx, grid));
  }
  return PushWithoutNames(ctx, grid, *input_, sink, [&](Series* series) {
    TransformFloats(
        ctx, grid, series, [&](double value, size_t step) { return Greatest(lower[step], Least(upper[step], value)); },
        [&](size_t step) { return !(upper[step] < lower[step]); });
  });
}

Status RoundOperator::Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const {
  MS_ASSIGN_OR_RETURN(const std::vector<double> to_nearest, to_nearest_->Eval(ctx, grid));
  return PushWithoutNames(ctx, grid, *input_, sink, [&](Series* series) {
    TransformFloats(
        ctx, grid, series,
        [&](double value, size_t step) {
          // By the inverse: 1/0.1 is exact where 0.1 is not.
          const double inverse = 1.0 / to_nearest[step];
          return std::floor(value * inverse + 0.5) / inverse;
        },
        [](size_t) { return true; });
  });
}

Status StepTimeOperator::Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const {
  return PushWithoutNames(ctx, grid, *input_, sink, [&](Series* series) {
    for (size_t step = 0; step < grid.steps; ++step) {
      if (!series->Has(step)) continue;
      series->Clear(step);
      series->SetFloat(step, static_cast<double>(grid.At(step)) / 1000);
    }
    series->histograms.clear();
    DropName(ctx, series);
  });
}

}  // namespace millstream::promql::exec

#include "millstream/promql/functions.h"

#include <algorithm>
#include <array>

namespace millstream::promql {
namespace {

constexpr ValueType kS = ValueType::kScalar;
constexpr ValueType kV = ValueType::kVector;
constexpr ValueType kM = ValueType::kMatrix;
constexpr ValueType kT = ValueType::kString;

FunctionSignature Stable(std::string_view name, std::vector<ValueType> args, int variadic = 0, ValueType result = kV) {
  return {name, std::move(args), variadic, result, false};
}

FunctionSignature Experimental(std::string_view name, std::vector<ValueType> args, int variadic = 0,
                               ValueType result = kV) {
  return {name, std::move(args), variadic, result, true};
}

// Sorted by name.
const std::vector<FunctionSignature>& Table() {
  static const std::vector<FunctionSignature> table = [] {
    std::vector<FunctionSignature> functions = {
        Stable("abs", {kV}),
        Stable("absent", {kV}),
        Stable("absent_over_time", {kM}),
        Stable("acos", {kV}),
        Stable("acosh", {kV}),
        Stable("asin", {kV}),
        Stable("asinh", {kV}),
        Stable("atan", {kV}),
        Stable("atanh", {kV}),
        Stable("avg_over_time", {kM}),
        Stable("ceil", {kV}),
        Stable("changes", {kM}),
        Stable("clamp", {kV, kS, kS}),
        Stable("clamp_max", {kV, kS}),
        Stable("clamp_min", {kV, kS}),
        Stable("cos", {kV}),
        Stable("cosh", {kV}),
        Stable("count_over_time", {kM}),
        Stable("day_of_month", {kV}, 1),
        Stable("day_of_week", {kV}, 1),
        Stable("day_of_year", {kV}, 1),
        Stable("days_in_month", {kV}, 1),
        Stable("deg", {kV}),
        Stable("delta", {kM}),
        Stable("deriv", {kM}),
        Experimental("double_exponential_smoothing", {kM, kS, kS}),
        Experimental("end", {}, 0, kS),
        Stable("exp", {kV}),
        Stable("first_over_time", {kM}),
        Stable("floor", {kV}),
        Stable("histogram_avg", {kV}),
        Stable("histogram_count", {kV}),
        Stable("histogram_fraction", {kS, kS, kV}),
        Stable("histogram_quantile", {kS, kV}),
        Experimental("histogram_quantiles", {kV, kT, kS, kS}, 9),
        Stable("histogram_stddev", {kV}),
        Stable("histogram_stdvar", {kV}),
        Stable("histogram_sum", {kV}),
        Stable("hour", {kV}, 1),
        Stable("idelta", {kM}),
        Stable("increase", {kM}),
        Experimental("info", {kV, kV}, 1),
        Stable("irate", {kM}),
        Stable("label_join", {kV, kT, kT, kT}, -1),
        Stable("label_replace", {kV, kT, kT, kT, kT}),
        Stable("last_over_time", {kM}),
        Stable("ln", {kV}),
        Stable("log10", {kV}),
        Stable("log2", {kV}),
        Experimental("mad_over_time", {kM}),
        Experimental("max_of", {kS, kS}, 0, kS),
        Stable("max_over_time", {kM}),
        Experimental("min_of", {kS, kS}, 0, kS),
        Stable("min_over_time", {kM}),
        Stable("minute", {kV}, 1),
        Stable("month", {kV}, 1),
        Stable("pi", {}, 0, kS),
        Stable("predict_linear", {kM, kS}),
        Stable("present_over_time", {kM}),
        Stable("quantile_over_time", {kS, kM}),
        Stable("rad", {kV}),
        Experimental("range", {}, 0, kS),
        Stable("rate", {kM}),
        Stable("resets", {kM}),
        Stable("round", {kV, kS}, 1),
        Stable("scalar", {kV}, 0, kS),
        Stable("sgn", {kV}),
        Stable("sin", {kV}),
        Stable("sinh", {kV}),
        Stable("sort", {kV}),
        Experimental("sort_by_label", {kV, kT}, -1),
        Experimental("sort_by_label_desc", {kV, kT}, -1),
        Stable("sort_desc", {kV}),
        Stable("sqrt", {kV}),
        Experimental("start", {}, 0, kS),
        Experimental("start_timestamp", {kV}),
        Stable("stddev_over_time", {kM}),
        Stable("stdvar_over_time", {kM}),
        Experimental("step", {}, 0, kS),
        Stable("sum_over_time", {kM}),
        Stable("tan", {kV}),
        Stable("tanh", {kV}),
        Stable("time", {}, 0, kS),
        Stable("timestamp", {kV}),
        Experimental("ts_of_first_over_time", {kM}),
        Experimental("ts_of_last_over_time", {kM}),
        Experimental("ts_of_max_over_time", {kM}),
        Experimental("ts_of_min_over_time", {kM}),
        Stable("vector", {kS}),
        Stable("year", {kV}, 1),
    };
    std::sort(functions.begin(), functions.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    return functions;
  }();
  return table;
}

}  // namespace

const FunctionSignature* FindFunction(std::string_view name) {
  const auto& table = Table();
  const auto at = std::lower_bound(table.begin(), table.end(), name,
                                   [](const FunctionSignature& f, std::string_view key) { return f.name < key; });
  return at != table.end() && at->name == name ? &*at : nullptr;
}

std::span<const FunctionSignature> AllFunctions() {
  return Table();
}

}  // namespace millstream::promql

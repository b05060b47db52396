// Functions over range vectors: rate(), sum_over_time() and their kin, and the operator that slides them along.
#pragma once

#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "exec/operator.h"
#include "millstream/promql/ast.h"

namespace millstream::promql::exec {

// The samples that one step of one series sees.
//
// With a modifier the samples reach beyond (start, end]: back by the lookback, and for kSmoothed ahead by it too.
struct Window {
  SampleSpan samples;
  TimestampMs time = 0;   // of the step
  TimestampMs start = 0;  // exclusive
  TimestampMs end = 0;    // inclusive
  int64_t range_ms = 0;
  // Of functions on counters: positions in the series, ascending, of float samples that begin a new count; and where
  // in the series the window's floats begin.
  std::span<const uint32_t> resets;
  size_t first_float = 0;
};

struct RangeCall {
  ExecContext& ctx;
  const model::Labels& labels;  // of the series, with the name
  PositionRange position;       // of the first argument: where annotations point
  RangeModifier modifier;
  std::span<const double> args;  // the scalar arguments at this step, in order

  std::string_view metric() const { return labels.metric_name(); }
};

struct RangeOutput {
  SampleKind kind = SampleKind::kAbsent;
  double value = 0;
  HistogramPtr histogram;

  void Set(double result) {
    kind = SampleKind::kFloat;
    value = result;
  }
  void Set(HistogramPtr result) {
    kind = SampleKind::kHistogram;
    histogram = std::move(result);
  }
};

// Computes one step from a window that has at least one sample. Setting nothing leaves the step out.
using RangeFunction = Status (*)(const RangeCall& call, const Window& window, RangeOutput* out);

// The windows of all steps over a series that has floats only, without modifier and without start timestamps. Window i
// holds the samples from begins[i] up to ends[i], without the latter.
struct SeriesWindows {
  std::span<const TimestampMs> times;  // of the whole series
  std::span<const double> values;
  std::span<const uint32_t> resets;  // as in Window
  std::span<const int64_t> begins;
  std::span<const int64_t> ends;
  const Grid& grid;
  const WindowShape& shape;

  size_t Count(size_t step) const { return static_cast<size_t>(ends[step] - begins[step]); }
  TimestampMs EndTime(size_t step) const { return shape.End(grid.At(step)); }
};

// Sets the steps of *out, none of which has a sample yet, to what the function computes window by window.
using RangeColumnFunction = void (*)(const SeriesWindows& windows, Series* out);

struct RangeFunctionEntry {
  std::string_view name;
  RangeFunction function;
  RangeColumnFunction columns =
      nullptr;                  // null: `function` serves every series. It takes no arguments and notes nothing
  bool is_counter = false;      // needs Window::resets
  bool keeps_name = false;      // acts like an offset, so the metric stays what it is
  bool checks_counter = false;  // tells when the metric's name is not a counter's
};

// The families, each in its own file.
std::span<const RangeFunctionEntry> RateFunctions();
std::span<const RangeFunctionEntry> OverTimeFunctions();
// Null when `name` is not a function over a range vector.
const RangeFunctionEntry* FindRangeFunction(std::string_view name);

class RangeFunctionOperator final : public VectorOperator {
 public:
  RangeFunctionOperator(const RangeFunctionEntry& entry, RangeOperatorPtr input, std::vector<ScalarOperatorPtr> args,
                        PositionRange position)
      : entry_(entry), input_(std::move(input)), args_(std::move(args)), position_(position) {}

  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  // Reused from series to series.
  struct Scratch {
    std::vector<uint32_t> resets;
    std::vector<int64_t> begins;
    std::vector<int64_t> ends;
  };

  // By entry_.columns; false when that would be too much work at once.
  bool RunColumns(const Grid& grid, const SampleSpan& samples, Scratch* scratch, Series* out) const;
  Status RunSeries(ExecContext& ctx, const Grid& grid, const RangeSeries& input,
                   std::span<const std::vector<double>> args, Scratch* scratch, Series* out) const;

  const RangeFunctionEntry& entry_;
  RangeOperatorPtr input_;
  std::vector<ScalarOperatorPtr> args_;
  PositionRange position_;
};

// absent_over_time(): 1 at the steps whose windows have no sample of any series.
class AbsentOverTimeOperator final : public VectorOperator {
 public:
  AbsentOverTimeOperator(RangeOperatorPtr input, model::Labels labels)
      : input_(std::move(input)), labels_(std::move(labels)) {}

  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  RangeOperatorPtr input_;
  model::Labels labels_;
};

// A counter's sample that began counting anew, by its start timestamp.
bool IsStartTimestampReset(TimestampMs previous_start, TimestampMs previous_time, TimestampMs start, TimestampMs time);

}  // namespace millstream::promql::exec

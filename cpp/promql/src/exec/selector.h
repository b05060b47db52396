// Selectors: what reads stored series, at instants and over ranges, and subqueries, which range over evaluated ones.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "exec/operator.h"
#include "millstream/promql/ast.h"

namespace millstream::promql::exec {

// The newest sample in (t - lookback, t] of each series, t being (at, or the step's time) - offset. A staleness marker
// there means no sample.
class InstantSelector final : public VectorOperator {
 public:
  // What a step's value is.
  enum class Output : uint8_t {
    kValue,
    kTimestamp,       // the sample's time in seconds: timestamp()
    kStartTimestamp,  // when its counting began, in seconds, 0 unknown: start_timestamp()
    kInfoTime,        // the sample's time in ms; a histogram is an error: info()
  };

  InstantSelector(std::shared_ptr<Selection> selection, int64_t offset_ms, std::optional<TimestampMs> at, Output output)
      : selection_(std::move(selection)), offset_ms_(offset_ms), at_(at), output_(output) {}

  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  std::shared_ptr<Selection> selection_;
  int64_t offset_ms_;
  std::optional<TimestampMs> at_;
  Output output_;
};

// `smoothed` on an instant selector: the value at t on the line between the samples around it, within the lookback on
// both sides. The last sample is held when none follows.
class SmoothedSelector final : public VectorOperator {
 public:
  SmoothedSelector(std::shared_ptr<Selection> selection, int64_t offset_ms, std::optional<TimestampMs> at,
                   PositionRange position)
      : selection_(std::move(selection)), offset_ms_(offset_ms), at_(at), position_(position) {}

  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  void Smooth(ExecContext& ctx, const model::Labels& labels, const SampleSpan& samples, TimestampMs time, size_t step,
              Series* out) const;

  std::shared_ptr<Selection> selection_;
  int64_t offset_ms_;
  std::optional<TimestampMs> at_;
  PositionRange position_;
};

class RangeSelector final : public RangeOperator {
 public:
  RangeSelector(std::shared_ptr<Selection> selection, WindowShape shape)
      : selection_(std::move(selection)), shape_(shape) {}

  Status Run(ExecContext& ctx, const Grid& grid, const RangeSink& sink) const override;
  const WindowShape& shape() const override { return shape_; }

 private:
  std::shared_ptr<Selection> selection_;
  WindowShape shape_;
};

// The steps at which a subquery evaluates its expression: multiples of its step in the windows of the outer grid.
Grid SubqueryGrid(const Grid& outer, const WindowShape& shape, int64_t step_ms);

class Subquery final : public RangeOperator {
 public:
  Subquery(VectorOperatorPtr input, WindowShape shape, int64_t step_ms)
      : input_(std::move(input)), shape_(shape), step_ms_(step_ms) {}

  Status Run(ExecContext& ctx, const Grid& grid, const RangeSink& sink) const override;
  const WindowShape& shape() const override { return shape_; }

 private:
  VectorOperatorPtr input_;
  WindowShape shape_;
  int64_t step_ms_;
};

// Evaluates its input at the first step only and repeats the result: for what does not depend on the step.
class StepInvariantVector final : public VectorOperator {
 public:
  explicit StepInvariantVector(VectorOperatorPtr input) : input_(std::move(input)) {}

  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  VectorOperatorPtr input_;
};

class StepInvariantScalar final : public ScalarOperator {
 public:
  explicit StepInvariantScalar(ScalarOperatorPtr input) : input_(std::move(input)) {}

  Result<std::vector<double>> Eval(ExecContext& ctx, const Grid& grid) const override;

 private:
  ScalarOperatorPtr input_;
};

}  // namespace millstream::promql::exec

// Functions on histograms: classic ones, whose buckets are series told apart by the label le, and native ones.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "exec/operator.h"
#include "millstream/promql/ast.h"

namespace millstream::promql::exec {

// One number of each native histogram: histogram_count() and the like. Null when `name` is not one.
using HistogramFunction = double (*)(const model::Histogram&);
HistogramFunction FindHistogramFunction(std::string_view name);

class HistogramFunctionOperator final : public VectorOperator {
 public:
  HistogramFunctionOperator(HistogramFunction function, VectorOperatorPtr input)
      : function_(function), input_(std::move(input)) {}
  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  HistogramFunction function_;
  VectorOperatorPtr input_;
};

// histogram_quantile(), histogram_quantiles() and histogram_fraction().
class HistogramSummaryOperator final : public VectorOperator {
 public:
  enum class Kind : uint8_t { kQuantile, kQuantiles, kFraction };
  struct Param {
    ScalarOperatorPtr value;
    PositionRange position;
  };

  // `params`: the quantiles, or the lower and the upper bound. `label`: of kQuantiles, where each quantile is told.
  HistogramSummaryOperator(Kind kind, VectorOperatorPtr input, std::vector<Param> params, std::string label,
                           PositionRange position)
      : kind_(kind),
        input_(std::move(input)),
        params_(std::move(params)),
        label_(std::move(label)),
        position_(position) {}
  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  Kind kind_;
  VectorOperatorPtr input_;
  std::vector<Param> params_;
  std::string label_;
  PositionRange position_;  // of the vector
};

}  // namespace millstream::promql::exec

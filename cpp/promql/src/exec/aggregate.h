// Aggregation operators: sum by (…), topk, quantile, count_values and the rest.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "exec/operator.h"
#include "millstream/promql/ast.h"

namespace millstream::promql::exec {

// Which group a series belongs to, by or without labels. Groups are numbered in order of their first series.
class Grouping {
 public:
  Grouping(std::vector<std::string> labels, bool without) : labels_(std::move(labels)), without_(without) {}

  size_t Of(const model::Labels& labels);
  size_t size() const { return labels_of_.size(); }
  const model::Labels& labels(size_t group) const { return labels_of_[group]; }

 private:
  model::Labels GroupLabels(const model::Labels& labels) const;

  std::vector<std::string> labels_;
  bool without_;
  std::unordered_map<std::string, size_t> ordinals_;
  std::vector<model::Labels> labels_of_;
};

// Those that reduce a group to one sample a step: they fold batches as they come.
class AggregateOperator final : public VectorOperator {
 public:
  AggregateOperator(const AggregateExpr& expr, VectorOperatorPtr input, ScalarOperatorPtr param)
      : expr_(expr), input_(std::move(input)), param_(std::move(param)) {}
  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  const AggregateExpr& expr_;
  VectorOperatorPtr input_;
  ScalarOperatorPtr param_;  // of quantile; else null
};

// topk, bottomk, limitk and limit_ratio: those that choose among the samples of a group.
class SelectOperator final : public VectorOperator {
 public:
  SelectOperator(const AggregateExpr& expr, VectorOperatorPtr input, ScalarOperatorPtr param)
      : expr_(expr), input_(std::move(input)), param_(std::move(param)) {}
  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  const AggregateExpr& expr_;
  VectorOperatorPtr input_;
  ScalarOperatorPtr param_;
};

class CountValuesOperator final : public VectorOperator {
 public:
  CountValuesOperator(const AggregateExpr& expr, VectorOperatorPtr input, std::string label)
      : expr_(expr), input_(std::move(input)), label_(std::move(label)) {}
  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  const AggregateExpr& expr_;
  VectorOperatorPtr input_;
  std::string label_;
};

// The least and the greatest of a parameter's values over the steps, leaving NaN out, and whether there is any.
struct ParamRange {
  double min = 0;
  double max = 0;
  bool any_nan = false;

  explicit ParamRange(const std::vector<double>& values);
};

}  // namespace millstream::promql::exec

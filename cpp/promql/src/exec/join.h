// Binary operators between two vectors: series of both sides find each other by their labels.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "exec/operator.h"
#include "millstream/promql/ast.h"

namespace millstream::promql::exec {

// Numbers the match groups of series: those that agree on the labels to match by.
class MatchGroups {
 public:
  explicit MatchGroups(const VectorMatching& matching) : matching_(matching) {}

  size_t Of(const model::Labels& labels);
  size_t size() const { return ordinals_.size(); }
  // The labels that make the group, as error messages show it.
  model::Labels Key(const model::Labels& labels) const;

 private:
  const VectorMatching& matching_;
  std::unordered_map<std::string, size_t> ordinals_;
};

// and, or, unless.
class SetOperator final : public VectorOperator {
 public:
  SetOperator(BinaryOp op, const VectorMatching& matching, VectorOperatorPtr left, VectorOperatorPtr right)
      : op_(op), matching_(matching), left_(std::move(left)), right_(std::move(right)) {}
  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  BinaryOp op_;
  const VectorMatching& matching_;  // of the query's tree
  VectorOperatorPtr left_;
  VectorOperatorPtr right_;
};

// Arithmetic and comparisons, one-to-one or many-to-one.
class JoinOperator final : public VectorOperator {
 public:
  JoinOperator(const BinaryExpr& expr, VectorOperatorPtr left, VectorOperatorPtr right)
      : expr_(expr), left_(std::move(left)), right_(std::move(right)) {}
  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  const BinaryExpr& expr_;
  VectorOperatorPtr left_;
  VectorOperatorPtr right_;
};

}  // namespace millstream::promql::exec

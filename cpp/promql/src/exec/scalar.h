// Operators between scalars, and between scalars and vectors.
#pragma once

#include <memory>
#include <vector>

#include "exec/operator.h"
#include "millstream/promql/ast.h"

namespace millstream::promql::exec {

class NumberOperator final : public ScalarOperator {
 public:
  explicit NumberOperator(double value) : value_(value) {}
  Result<std::vector<double>> Eval(ExecContext&, const Grid& grid) const override {
    return std::vector<double>(grid.steps, value_);
  }

 private:
  double value_;
};

// time(): the step's time in seconds.
class TimeOperator final : public ScalarOperator {
 public:
  Result<std::vector<double>> Eval(ExecContext& ctx, const Grid& grid) const override;
};

// A binary operator on two scalars: arithmetic, or a comparison as 0 or 1.
class ScalarBinaryOperator final : public ScalarOperator {
 public:
  ScalarBinaryOperator(BinaryOp op, ScalarOperatorPtr left, ScalarOperatorPtr right)
      : op_(op), left_(std::move(left)), right_(std::move(right)) {}
  Result<std::vector<double>> Eval(ExecContext& ctx, const Grid& grid) const override;

 private:
  BinaryOp op_;
  ScalarOperatorPtr left_;
  ScalarOperatorPtr right_;
};

class ScalarNegate final : public ScalarOperator {
 public:
  explicit ScalarNegate(ScalarOperatorPtr input) : input_(std::move(input)) {}
  Result<std::vector<double>> Eval(ExecContext& ctx, const Grid& grid) const override;

 private:
  ScalarOperatorPtr input_;
};

// min_of() and max_of().
class ScalarChoice final : public ScalarOperator {
 public:
  ScalarChoice(bool greater, ScalarOperatorPtr left, ScalarOperatorPtr right)
      : greater_(greater), left_(std::move(left)), right_(std::move(right)) {}
  Result<std::vector<double>> Eval(ExecContext& ctx, const Grid& grid) const override;

 private:
  bool greater_;
  ScalarOperatorPtr left_;
  ScalarOperatorPtr right_;
};

// scalar(): the only float of a vector, else NaN.
class ScalarOfVector final : public ScalarOperator {
 public:
  explicit ScalarOfVector(VectorOperatorPtr input) : input_(std::move(input)) {}
  Result<std::vector<double>> Eval(ExecContext& ctx, const Grid& grid) const override;

 private:
  VectorOperatorPtr input_;
};

// vector(): one series without labels.
class VectorOfScalar final : public VectorOperator {
 public:
  explicit VectorOfScalar(ScalarOperatorPtr input) : input_(std::move(input)) {}
  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  ScalarOperatorPtr input_;
};

// A binary operator between each sample of a vector and a scalar.
class VectorScalarOperator final : public VectorOperator {
 public:
  VectorScalarOperator(BinaryOp op, bool return_bool, bool scalar_is_left, VectorOperatorPtr vector,
                       ScalarOperatorPtr scalar, PositionRange position)
      : op_(op),
        return_bool_(return_bool),
        scalar_is_left_(scalar_is_left),
        vector_(std::move(vector)),
        scalar_(std::move(scalar)),
        position_(position) {}
  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  BinaryOp op_;
  bool return_bool_;
  bool scalar_is_left_;
  VectorOperatorPtr vector_;
  ScalarOperatorPtr scalar_;
  PositionRange position_;
};

class VectorNegate final : public VectorOperator {
 public:
  explicit VectorNegate(VectorOperatorPtr input) : input_(std::move(input)) {}
  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  VectorOperatorPtr input_;
};

// Pushes the series that `transform` made of the input's, after merging those that a lost name made equal.
Status PushWithoutNames(ExecContext& ctx, const Grid& grid, const VectorOperator& input, const BatchSink& sink,
                        const std::function<void(Series*)>& transform);

}  // namespace millstream::promql::exec

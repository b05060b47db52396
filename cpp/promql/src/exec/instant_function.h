// Functions over instant vectors: element by element, on labels, and on whole vectors.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "exec/operator.h"

namespace re2 {
class RE2;
}

namespace millstream::promql::exec {

// f(x) of one float, without state: abs(), ln(), hour(), … Null when `name` is not one.
using FloatFunction = double (*)(double);
FloatFunction FindFloatFunction(std::string_view name);

// Applies a function to the floats of a vector, leaving histograms out, and drops the name.
class FloatFunctionOperator final : public VectorOperator {
 public:
  FloatFunctionOperator(FloatFunction function, VectorOperatorPtr input)
      : function_(function), input_(std::move(input)) {}
  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  FloatFunction function_;
  VectorOperatorPtr input_;
};

// clamp(), with a bound that may be missing.
class ClampOperator final : public VectorOperator {
 public:
  ClampOperator(VectorOperatorPtr input, ScalarOperatorPtr lower, ScalarOperatorPtr upper)
      : input_(std::move(input)), lower_(std::move(lower)), upper_(std::move(upper)) {}
  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  VectorOperatorPtr input_;
  ScalarOperatorPtr lower_;  // may be null
  ScalarOperatorPtr upper_;  // may be null
};

// round() to the nearest multiple of a number, halves up.
class RoundOperator final : public VectorOperator {
 public:
  RoundOperator(VectorOperatorPtr input, ScalarOperatorPtr to_nearest)
      : input_(std::move(input)), to_nearest_(std::move(to_nearest)) {}
  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  VectorOperatorPtr input_;
  ScalarOperatorPtr to_nearest_;
};

// timestamp() of what is not a selector: the step's time.
class StepTimeOperator final : public VectorOperator {
 public:
  explicit StepTimeOperator(VectorOperatorPtr input) : input_(std::move(input)) {}
  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  VectorOperatorPtr input_;
};

// start_timestamp() of what is not a selector: nothing is known.
class NothingOperator final : public VectorOperator {
 public:
  Status Run(ExecContext&, const Grid&, const BatchSink&) const override { return Status::Ok(); }
};

// absent(): 1 at the steps at which the vector is empty.
class AbsentOperator final : public VectorOperator {
 public:
  AbsentOperator(VectorOperatorPtr input, model::Labels labels)
      : input_(std::move(input)), labels_(std::move(labels)) {}
  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  VectorOperatorPtr input_;
  model::Labels labels_;
};

class LabelReplaceOperator final : public VectorOperator {
 public:
  LabelReplaceOperator(VectorOperatorPtr input, std::string destination, std::string replacement, std::string source,
                       std::string regex)
      : input_(std::move(input)),
        destination_(std::move(destination)),
        replacement_(std::move(replacement)),
        source_(std::move(source)),
        regex_(std::move(regex)) {}
  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  VectorOperatorPtr input_;
  std::string destination_;
  std::string replacement_;
  std::string source_;
  std::string regex_;
};

class LabelJoinOperator final : public VectorOperator {
 public:
  LabelJoinOperator(VectorOperatorPtr input, std::string destination, std::string separator,
                    std::vector<std::string> sources)
      : input_(std::move(input)),
        destination_(std::move(destination)),
        separator_(std::move(separator)),
        sources_(std::move(sources)) {}
  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  VectorOperatorPtr input_;
  std::string destination_;
  std::string separator_;
  std::vector<std::string> sources_;
};

// sort() and sort_by_label(): orders the series of an instant query; over several steps there is no order to give.
class SortOperator final : public VectorOperator {
 public:
  // Without `by_labels`: by value, leaving histograms out and NaN last.
  SortOperator(VectorOperatorPtr input, bool descending, bool by_labels, std::vector<std::string> labels,
               PositionRange position)
      : input_(std::move(input)),
        descending_(descending),
        by_labels_(by_labels),
        labels_(std::move(labels)),
        position_(position) {}
  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  VectorOperatorPtr input_;
  bool descending_;
  bool by_labels_;
  std::vector<std::string> labels_;
  PositionRange position_;
};

// Whether `a` goes before `b` where runs of digits count as numbers.
bool NaturalLess(std::string_view a, std::string_view b);

}  // namespace millstream::promql::exec

#include "exec/scalar.h"

#include <cmath>
#include <functional>
#include <limits>

#include "exec/element.h"
#include "exec/numbers.h"
#include "millstream/model/histogram_math.h"

namespace millstream::promql::exec {
namespace {

// A vector's floats against the scalar of each step, in one loop per operator: the values of steps without a sample
// mean nothing before and after.
struct FloatLoop {
  const std::vector<double>& scalars;
  bool scalar_is_left;
  bool return_bool;
  Series* series;

  template <typename Function>
  void Replace(Function function) const {
    double* values = series->values.data();
    if (scalar_is_left) {
      for (size_t step = 0; step < scalars.size(); ++step) values[step] = function(scalars[step], values[step]);
    } else {
      for (size_t step = 0; step < scalars.size(); ++step) values[step] = function(values[step], scalars[step]);
    }
  }
  template <typename Comparison>
  void Compare(Comparison comparison) const {
    if (return_bool) return Replace([&](double left, double right) { return comparison(left, right) ? 1.0 : 0.0; });
    for (size_t step = 0; step < scalars.size(); ++step) {
      const double value = series->values[step];
      const bool keep = scalar_is_left ? comparison(scalars[step], value) : comparison(value, scalars[step]);
      if (!keep) series->kinds[step] = SampleKind::kAbsent;
    }
  }

  // False, with nothing done, for an operator that has no loop.
  bool Run(BinaryOp op) const {
    switch (op) {
      case BinaryOp::kAdd:
        Replace(std::plus<double>());
        return true;
      case BinaryOp::kSub:
        Replace(std::minus<double>());
        return true;
      case BinaryOp::kMul:
        Replace(std::multiplies<double>());
        return true;
      case BinaryOp::kDiv:
        Replace(std::divides<double>());
        return true;
      case BinaryOp::kEqual:
        Compare(std::equal_to<double>());
        return true;
      case BinaryOp::kNotEqual:
        Compare(std::not_equal_to<double>());
        return true;
      case BinaryOp::kLess:
        Compare(std::less<double>());
        return true;
      case BinaryOp::kLessEqual:
        Compare(std::less_equal<double>());
        return true;
      case BinaryOp::kGreater:
        Compare(std::greater<double>());
        return true;
      case BinaryOp::kGreaterEqual:
        Compare(std::greater_equal<double>());
        return true;
      default:
        return false;
    }
  }
};

}  // namespace

Result<std::vector<double>> TimeOperator::Eval(ExecContext&, const Grid& grid) const {
  std::vector<double> out(grid.steps);
  for (size_t step = 0; step < grid.steps; ++step) out[step] = static_cast<double>(grid.At(step)) / 1000;
  return out;
}

Result<std::vector<double>> ScalarBinaryOperator::Eval(ExecContext& ctx, const Grid& grid) const {
  MS_ASSIGN_OR_RETURN(std::vector<double> left, left_->Eval(ctx, grid));
  MS_ASSIGN_OR_RETURN(const std::vector<double> right, right_->Eval(ctx, grid));
  for (size_t step = 0; step < grid.steps; ++step) left[step] = FloatArithmetic(op_, left[step], right[step]);
  return left;
}

Result<std::vector<double>> ScalarNegate::Eval(ExecContext& ctx, const Grid& grid) const {
  MS_ASSIGN_OR_RETURN(std::vector<double> values, input_->Eval(ctx, grid));
  for (double& value : values) value = -value;
  return values;
}

Result<std::vector<double>> ScalarChoice::Eval(ExecContext& ctx, const Grid& grid) const {
  MS_ASSIGN_OR_RETURN(std::vector<double> left, left_->Eval(ctx, grid));
  MS_ASSIGN_OR_RETURN(const std::vector<double> right, right_->Eval(ctx, grid));
  for (size_t step = 0; step < grid.steps; ++step) {
    left[step] = greater_ ? Greatest(left[step], right[step]) : Least(left[step], right[step]);
  }
  return left;
}

Result<std::vector<double>> ScalarOfVector::Eval(ExecContext& ctx, const Grid& grid) const {
  std::vector<double> out(grid.steps, kNan);
  std::vector<uint8_t> found(grid.steps, 0);  // 0, 1, or 2 for more
  if (grid.steps == 0) return out;
  MS_RETURN_IF_ERROR(input_->Run(ctx, grid, [&](Batch&& batch) {
    for (const Series& series : batch) {
      for (size_t step = 0; step < grid.steps; ++step) {
        if (series.kinds[step] != SampleKind::kFloat) continue;
        if (found[step] < 2) ++found[step];
        out[step] = found[step] == 1 ? series.values[step] : kNan;
      }
    }
    return Status::Ok();
  }));
  return out;
}

Status VectorOfScalar::Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const {
  MS_ASSIGN_OR_RETURN(const std::vector<double> values, input_->Eval(ctx, grid));
  Series series(grid.steps);
  for (size_t step = 0; step < grid.steps; ++step) series.SetFloat(step, values[step]);
  Batcher batcher(sink);
  MS_RETURN_IF_ERROR(batcher.Add(std::move(series)));
  return batcher.Finish();
}

Status PushWithoutNames(ExecContext& ctx, const Grid& grid, const VectorOperator& input, const BatchSink& sink,
                        const std::function<void(Series*)>& transform) {
  const auto apply = [&](Batch* batch) {
    for (Series& series : *batch) transform(&series);
    std::erase_if(*batch, [](const Series& series) { return series.Empty(); });
  };
  if (ctx.delayed_name_removal) {
    // Names stay until the query ends, so nothing can become equal here.
    return input.Run(ctx, grid, [&](Batch&& batch) {
      apply(&batch);
      return batch.empty() ? Status::Ok() : sink(std::move(batch));
    });
  }
  MS_ASSIGN_OR_RETURN(Block block, input.Collect(ctx, grid));
  apply(&block.series);
  MS_RETURN_IF_ERROR(MergeSameLabels(&block.series));
  Batcher batcher(sink);
  for (Series& series : block.series) MS_RETURN_IF_ERROR(batcher.Add(std::move(series)));
  return batcher.Finish();
}

Status VectorScalarOperator::Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const {
  MS_ASSIGN_OR_RETURN(const std::vector<double> scalars, scalar_->Eval(ctx, grid));
  const bool comparison = IsComparison(op_);
  const auto apply_each = [&](Series* series) {
    for (size_t step = 0; step < grid.steps; ++step) {
      if (!series->Has(step)) continue;
      Element sample{series->values[step], nullptr};
      const HistogramPtr histogram = series->Histogram(step);
      if (histogram != nullptr) sample.histogram = &histogram;
      const Element scalar{scalars[step], nullptr};
      ElementResult result = scalar_is_left_ ? ApplyElements(ctx, op_, scalar, sample, position_)
                                             : ApplyElements(ctx, op_, sample, scalar, position_);
      if (!result.valid || (!result.keep && !return_bool_)) {
        series->Clear(step);
      } else if (return_bool_) {
        series->Clear(step);
        series->SetFloat(step, result.keep ? 1 : 0);
      } else if (comparison) {
        continue;  // a comparison keeps the vector's sample, on whichever side it stands
      } else if (result.histogram != nullptr) {
        series->SetHistogram(step, std::move(result.histogram));
      } else {
        series->SetFloat(step, result.value);
      }
    }
  };
  const auto apply = [&](Series* series) {
    const FloatLoop loop{scalars, scalar_is_left_, return_bool_, series};
    if (!series->histograms.empty() || !loop.Run(op_)) apply_each(series);
    if (ChangesMetric(op_) || return_bool_) DropName(ctx, series);
  };
  return PushWithoutNames(ctx, grid, *vector_, sink, apply);
}

Status VectorNegate::Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const {
  return PushWithoutNames(ctx, grid, *input_, sink, [&](Series* series) {
    for (size_t step = 0; step < grid.steps; ++step) {
      if (series->kinds[step] == SampleKind::kFloat) {
        series->values[step] = -series->values[step];
      } else if (series->kinds[step] == SampleKind::kHistogram) {
        auto negated = std::make_shared<model::Histogram>(*series->histograms[step]);
        model::Multiply(negated.get(), -1);
        series->SetHistogram(step, std::move(negated));
      }
    }
    DropName(ctx, series);
  });
}

}  // namespace millstream::promql::exec

#include "exec/aggregate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "exec/histogram_fold.h"
#include "exec/kahan.h"
#include "exec/kernels.h"
#include "exec/numbers.h"
#include "exec/quantile.h"
#include "millstream/base/utf8.h"
#include "millstream/model/histogram_math.h"
#include "millstream/promql/literals.h"

namespace millstream::promql::exec {
namespace {

// What a group has gathered at each step, in columns.
struct GroupState {
  bool drop_name = false;
  std::vector<double> counts;         // samples that take part
  std::vector<double> values;         // the sum, extreme, or sum of squares
  std::vector<double> compensations;  // of the sum (sum, avg)
  std::vector<double> mean;           // stddev, stdvar
  std::vector<uint8_t> flags;
  bool any_incremental_mean = false;
  std::vector<std::vector<double>> gathered;          // quantile
  std::vector<std::unique_ptr<HistogramFold>> folds;  // sum, avg: empty until a histogram comes
  std::string incompatible_metric;                    // sum, avg: of a series whose buckets did not fit

  static constexpr uint8_t kHasFloat = 1;
  static constexpr uint8_t kHasHistogram = 2;
  static constexpr uint8_t kIncrementalMean = 4;
};

// Folds series into groups, one kind of aggregation each.
class Folder {
 public:
  Folder(ExecContext& ctx, const AggregateExpr& expr, size_t steps)
      : ctx_(ctx), expr_(expr), steps_(steps), position_(StripParens(*expr.expr).position) {}

  GroupState NewGroup() const {
    GroupState group;
    group.counts.resize(steps_);
    switch (expr_.op) {
      case AggregateOp::kSum:
      case AggregateOp::kAvg:
        group.values.resize(steps_);
        group.compensations.resize(steps_);
        group.flags.resize(steps_);
        break;
      case AggregateOp::kStddev:
      case AggregateOp::kStdvar:
        group.mean.resize(steps_);
        group.values.resize(steps_);
        break;
      case AggregateOp::kQuantile:
        group.gathered.resize(steps_);
        break;
      default:
        group.values.resize(steps_);
        break;
    }
    return group;
  }

  Status Fold(const Series& series, GroupState* group) {
    group->drop_name = group->drop_name || series.drop_name;
    for (size_t step = 0; step < steps_;) {
      const SampleKind kind = series.kinds[step];
      size_t end = step + 1;
      while (end < steps_ && series.kinds[end] == kind) ++end;
      if (kind == SampleKind::kFloat) {
        step = FoldFloats(series, step, end, group);
        for (; step < end; ++step) MS_RETURN_IF_ERROR(FoldFloat(series.values[step], step, group));
      } else if (kind == SampleKind::kHistogram) {
        for (; step < end; ++step) FoldHistogram(series, step, group);
      }
      step = end;
    }
    return Status::Ok();
  }

  void Finish(const std::vector<double>& params, GroupState* group, Series* out) {
    for (size_t step = 0; step < steps_; ++step) {
      if (group->counts[step] == 0) continue;
      switch (expr_.op) {
        case AggregateOp::kSum:
        case AggregateOp::kAvg:
          FinishSum(step, *group, out);
          break;
        case AggregateOp::kCount:
          out->SetFloat(step, group->counts[step]);
          break;
        case AggregateOp::kGroup:
          out->SetFloat(step, 1);
          break;
        case AggregateOp::kStddev:
          out->SetFloat(step, std::sqrt(group->values[step] / group->counts[step]));
          break;
        case AggregateOp::kStdvar:
          out->SetFloat(step, group->values[step] / group->counts[step]);
          break;
        case AggregateOp::kQuantile:
          out->SetFloat(step, Quantile(params[step], &group->gathered[step]));
          break;
        default:
          out->SetFloat(step, group->values[step]);
          break;
      }
    }
  }

 private:
  // Folds as many floats of the steps [begin, end) as there is a kernel for, and returns the first step that is left.
  size_t FoldFloats(const Series& series, size_t begin, size_t end, GroupState* group) const {
    const std::span<const double> values = std::span(series.values).subspan(begin, end - begin);
    FoldColumns columns{std::span(group->counts).subspan(begin), {}, {}};
    if (!group->values.empty()) columns.values = std::span(group->values).subspan(begin);
    if (!group->compensations.empty()) columns.compensations = std::span(group->compensations).subspan(begin);
    size_t folded = values.size();
    switch (expr_.op) {
      case AggregateOp::kSum:
        FoldSums(values, columns);
        break;
      case AggregateOp::kAvg:
        if (group->any_incremental_mean) return begin;
        folded = FoldFiniteSums(values, columns);
        break;
      case AggregateOp::kMin:
        FoldMinima(values, columns);
        break;
      case AggregateOp::kMax:
        FoldMaxima(values, columns);
        break;
      default:
        return begin;
    }
    for (size_t i = 0; !group->flags.empty() && i < folded; ++i) group->flags[begin + i] |= GroupState::kHasFloat;
    return begin + folded;
  }

  // One float, of an aggregation that FoldFloats leaves out.
  Status FoldFloat(double value, size_t step, GroupState* group) {
    const bool first = group->counts[step]++ == 0;
    switch (expr_.op) {
      case AggregateOp::kAvg:
        group->flags[step] |= GroupState::kHasFloat;
        FoldAverage(value, first, step, group);
        break;
      case AggregateOp::kStddev:
      case AggregateOp::kStdvar:
        if (first) {
          group->mean[step] = value;
          group->values[step] = std::isfinite(value) ? 0 : std::numeric_limits<double>::quiet_NaN();
        } else {
          const double delta = value - group->mean[step];
          group->mean[step] += delta / group->counts[step];
          group->values[step] += delta * (value - group->mean[step]);
        }
        break;
      case AggregateOp::kQuantile:
        // The values wait for the end, so they are held against the budget.
        MS_RETURN_IF_ERROR(held_.Add(ctx_.control, 1, sizeof(double)));
        group->gathered[step].push_back(value);
        break;
      default:
        break;
    }
    return Status::Ok();
  }

  // The sum, as long as it does not overflow; a running mean from there on.
  static void FoldAverage(double value, bool first, size_t step, GroupState* group) {
    double& sum = group->values[step];  // or the mean
    double& compensation = group->compensations[step];
    if (first) {
      sum = value;
      return;
    }
    const double count = group->counts[step];
    if ((group->flags[step] & GroupState::kIncrementalMean) == 0) {
      double next = sum;
      double next_compensation = compensation;
      KahanAdd(value, &next, &next_compensation);
      if (!std::isinf(next)) {
        sum = next;
        compensation = next_compensation;
        return;
      }
      group->flags[step] |= GroupState::kIncrementalMean;
      group->any_incremental_mean = true;
      sum /= count - 1;
      compensation /= count - 1;
    }
    const double shrink = (count - 1) / count;
    sum *= shrink;
    compensation *= shrink;
    KahanAdd(value / count, &sum, &compensation);
  }

  void FoldHistogram(const Series& series, size_t step, GroupState* group) {
    switch (expr_.op) {
      case AggregateOp::kCount:
      case AggregateOp::kGroup:
        ++group->counts[step];
        break;
      case AggregateOp::kSum:
      case AggregateOp::kAvg:
        ++group->counts[step];
        group->flags[step] |= GroupState::kHasHistogram;
        AddToFold(series, step, group);
        break;
      default:
        ctx_.annotations.HistogramIgnoredInAggregation(AggregateOpName(expr_.op), position_);
        break;
    }
  }

  void AddToFold(const Series& series, size_t step, GroupState* group) {
    if (group->folds.empty()) group->folds.resize(steps_);
    std::unique_ptr<HistogramFold>& fold = group->folds[step];
    const model::Histogram& histogram = *series.histograms[step];
    if (fold == nullptr) {
      fold = std::make_unique<HistogramFold>(histogram, expr_.op == AggregateOp::kAvg);
      return;
    }
    const bool was_compatible = !fold->incompatible();
    fold->Add(histogram);
    if (was_compatible && fold->incompatible()) group->incompatible_metric = series.labels.metric_name();
  }

  void FinishSum(size_t step, const GroupState& group, Series* out) {
    const uint8_t flags = group.flags[step];
    if ((flags & GroupState::kHasFloat) != 0 && (flags & GroupState::kHasHistogram) != 0) {
      ctx_.annotations.MixedFloatsHistogramsAggregation(position_);
      return;
    }
    if ((flags & GroupState::kHasHistogram) != 0) {
      HistogramPtr result = group.folds[step]->Finish(&ctx_.annotations, group.incompatible_metric, position_, true);
      if (result != nullptr) out->SetHistogram(step, std::move(result));
      return;
    }
    const double value = group.values[step];
    const double compensation = group.compensations[step];
    if (expr_.op == AggregateOp::kSum || (flags & GroupState::kIncrementalMean) != 0) {
      out->SetFloat(step, value + compensation);
    } else {
      out->SetFloat(step, value / group.counts[step] + compensation / group.counts[step]);
    }
  }

  ExecContext& ctx_;
  const AggregateExpr& expr_;
  const size_t steps_;
  const PositionRange position_;
  Charge held_;
};

}  // namespace

size_t Grouping::Of(const model::Labels& labels) {
  model::Labels group = GroupLabels(labels);
  const auto [at, inserted] = ordinals_.try_emplace(std::string(group.encoded()), ordinals_.size());
  if (inserted) labels_of_.push_back(std::move(group));
  return at->second;
}

model::Labels Grouping::GroupLabels(const model::Labels& labels) const {
  if (!without_ && labels_.empty()) return {};
  model::LabelsBuilder builder(labels);
  if (without_) {
    builder.Del(labels_).Del(model::kMetricName);
  } else {
    builder.Keep(labels_);
  }
  return builder.Build();
}

ParamRange::ParamRange(const std::vector<double>& values) {
  min = kNan;
  max = kNan;
  for (const double value : values) {
    if (std::isnan(value)) {
      any_nan = true;
      continue;
    }
    min = std::isnan(min) ? value : std::min(min, value);
    max = std::isnan(max) ? value : std::max(max, value);
  }
}

Status AggregateOperator::Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const {
  std::vector<double> params;
  if (param_ != nullptr) {
    MS_ASSIGN_OR_RETURN(params, param_->Eval(ctx, grid));
    const ParamRange range(params);
    const PositionRange position = StripParens(*expr_.param).position;
    if (range.any_nan) ctx.annotations.InvalidQuantile(std::numeric_limits<double>::quiet_NaN(), position);
    if (range.max > 1) ctx.annotations.InvalidQuantile(range.max, position);
    if (range.min < 0) ctx.annotations.InvalidQuantile(range.min, position);
  }
  Grouping grouping(expr_.grouping, expr_.without);
  Folder folder(ctx, expr_, grid.steps);
  std::vector<GroupState> groups;
  Charge charge;
  MS_RETURN_IF_ERROR(input_->Run(ctx, grid, [&](Batch&& batch) {
    MS_RETURN_IF_ERROR(ctx.control.Check());
    for (const Series& series : batch) {
      const size_t group = grouping.Of(series.labels);
      if (group == groups.size()) {
        MS_RETURN_IF_ERROR(charge.AddColumn(ctx.control, grid.steps));
        groups.push_back(folder.NewGroup());
      }
      MS_RETURN_IF_ERROR(folder.Fold(series, &groups[group]));
    }
    return Status::Ok();
  }));
  Batcher batcher(sink);
  for (size_t group = 0; group < groups.size(); ++group) {
    Series series(grid.steps);
    folder.Finish(params, &groups[group], &series);
    series.labels = grouping.labels(group);
    series.drop_name = groups[group].drop_name;
    groups[group] = GroupState();
    MS_RETURN_IF_ERROR(batcher.Add(std::move(series)));
  }
  return batcher.Finish();
}

Status CountValuesOperator::Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const {
  if (label_.empty() || !IsValidUtf8(label_)) {
    return FailedPrecondition("invalid label name {}", model::Quote(label_));
  }
  std::vector<std::string> labels = expr_.grouping;
  if (!expr_.without) labels.push_back(label_);
  Grouping grouping(std::move(labels), expr_.without);
  std::vector<Series> groups;
  Charge charge;
  MS_RETURN_IF_ERROR(input_->Run(ctx, grid, [&](Batch&& batch) {
    MS_RETURN_IF_ERROR(ctx.control.Check());
    for (const Series& series : batch) {
      model::LabelsBuilder builder(series.labels);
      // Values repeat: the group of the last one is often that of the next.
      double last_value = 0;
      size_t group = static_cast<size_t>(-1);
      for (size_t step = 0; step < grid.steps; ++step) {
        if (!series.Has(step)) continue;
        const bool is_histogram = series.kinds[step] == SampleKind::kHistogram;
        if (is_histogram || group == static_cast<size_t>(-1) || series.values[step] != last_value) {
          last_value = is_histogram ? std::numeric_limits<double>::quiet_NaN() : series.values[step];
          builder.Set(label_, is_histogram ? model::ToString(*series.histograms[step]) : FormatNumber(last_value));
          group = grouping.Of(builder.Build());
          if (group == groups.size()) {
            MS_RETURN_IF_ERROR(charge.AddColumn(ctx.control, grid.steps));
            groups.emplace_back(grid.steps);
          }
        }
        Series& out = groups[group];
        out.SetFloat(step, out.Has(step) ? out.values[step] + 1 : 1);
      }
    }
    return Status::Ok();
  }));
  Batcher batcher(sink);
  for (size_t group = 0; group < groups.size(); ++group) {
    groups[group].labels = grouping.labels(group);
    MS_RETURN_IF_ERROR(batcher.Add(std::move(groups[group])));
  }
  return batcher.Finish();
}

}  // namespace millstream::promql::exec

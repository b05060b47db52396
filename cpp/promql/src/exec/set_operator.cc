#include <algorithm>

#include "exec/join.h"

namespace millstream::promql::exec {

size_t MatchGroups::Of(const model::Labels& labels) {
  const auto [at, inserted] = ordinals_.try_emplace(std::string(Key(labels).encoded()), ordinals_.size());
  return at->second;
}

model::Labels MatchGroups::Key(const model::Labels& labels) const {
  model::LabelsBuilder builder(labels);
  if (matching_.on) {
    builder.Keep(matching_.labels);
  } else {
    builder.Del(matching_.labels).Del(model::kMetricName);
  }
  return builder.Build();
}

Status SetOperator::Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const {
  MS_ASSIGN_OR_RETURN(Block left, left_->Collect(ctx, grid));
  MS_ASSIGN_OR_RETURN(Block right, right_->Collect(ctx, grid));
  MatchGroups groups(matching_);
  std::vector<size_t> left_groups;
  std::vector<size_t> right_groups;
  for (const Series& series : left.series) left_groups.push_back(groups.Of(series.labels));
  for (const Series& series : right.series) right_groups.push_back(groups.Of(series.labels));

  // Which groups the deciding side has at each step: the left one for `or`, else the right one.
  const bool is_or = op_ == BinaryOp::kOr;
  const Batch& deciding = is_or ? left.series : right.series;
  const std::vector<size_t>& deciding_groups = is_or ? left_groups : right_groups;
  std::vector<std::vector<bool>> present(groups.size());
  for (size_t i = 0; i < deciding.size(); ++i) {
    MS_RETURN_IF_ERROR(ctx.control.Check());
    std::vector<bool>& steps = present[deciding_groups[i]];
    steps.resize(grid.steps, false);
    for (size_t step = 0; step < grid.steps; ++step) {
      if (deciding[i].Has(step)) steps[step] = true;
    }
  }

  // The other side's samples stay where the group is present (and), or where it is not (or, unless).
  Batch& decided = is_or ? right.series : left.series;
  const std::vector<size_t>& decided_groups = is_or ? right_groups : left_groups;
  const bool keep_present = op_ == BinaryOp::kAnd;
  for (size_t i = 0; i < decided.size(); ++i) {
    MS_RETURN_IF_ERROR(ctx.control.Check());
    const std::vector<bool>& steps = present[decided_groups[i]];
    for (size_t step = 0; step < grid.steps; ++step) {
      if ((!steps.empty() && steps[step]) != keep_present) decided[i].Clear(step);
    }
  }

  Batcher batcher(sink);
  if (is_or) {
    for (Series& series : right.series) left.series.push_back(std::move(series));
    std::erase_if(left.series, [](const Series& series) { return series.Empty(); });
    // The same series may stand on both sides, at different steps.
    MS_RETURN_IF_ERROR(MergeSameLabels(&left.series));
  }
  for (Series& series : left.series) MS_RETURN_IF_ERROR(batcher.Add(std::move(series)));
  return batcher.Finish();
}

}  // namespace millstream::promql::exec

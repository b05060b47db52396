#include "exec/operator.h"

#include <unordered_map>

#include "millstream/model/value.h"

namespace millstream::promql::exec {

Result<Block> VectorOperator::Collect(ExecContext& ctx, const Grid& grid) const {
  Block block;
  if (grid.steps == 0) return block;
  MS_RETURN_IF_ERROR(Run(ctx, grid, [&](Batch&& batch) {
    MS_RETURN_IF_ERROR(ctx.control.Check());
    size_t samples = 0;
    size_t bytes = 0;
    for (const Series& series : batch) {
      samples += series.CountSamples();
      bytes += series.Bytes();
    }
    MS_RETURN_IF_ERROR(block.charge.Add(ctx.control, samples, bytes));
    for (Series& series : batch) block.series.push_back(std::move(series));
    return Status::Ok();
  }));
  return block;
}

Status Batcher::Add(Series&& series) {
  if (series.Empty()) return Status::Ok();
  cells_ += series.kinds.size();
  batch_.push_back(std::move(series));
  if (batch_.size() < kBatchSeries && cells_ < kBatchCells) return Status::Ok();
  Batch full;
  full.swap(batch_);
  cells_ = 0;
  return sink_(std::move(full));
}

Status Batcher::Finish() {
  if (batch_.empty()) return Status::Ok();
  Batch rest;
  rest.swap(batch_);
  return sink_(std::move(rest));
}

model::Labels WithoutName(const model::Labels& labels) {
  if (!labels.Has("__name__") && !labels.Has("__type__") && !labels.Has("__unit__")) return labels;
  model::LabelsBuilder builder(labels);
  builder.Del("__name__").Del("__type__").Del("__unit__");
  return builder.Build();
}

void DropName(const ExecContext& ctx, Series* series) {
  if (!ctx.delayed_name_removal) series->labels = WithoutName(series->labels);
  series->drop_name = true;
}

Status DuplicateLabels() {
  return FailedPrecondition("vector cannot contain metrics with the same labelset");
}

Status MergeSameLabels(std::vector<Series>* series) {
  std::unordered_map<std::string_view, size_t> first;
  first.reserve(series->size());
  bool merged = false;
  for (size_t i = 0; i < series->size(); ++i) {
    Series& current = (*series)[i];
    const auto [at, inserted] = first.try_emplace(current.labels.encoded(), i);
    if (inserted) continue;
    Series& target = (*series)[at->second];
    for (size_t step = 0; step < current.kinds.size(); ++step) {
      if (!current.Has(step)) continue;
      if (target.Has(step)) return DuplicateLabels();
      target.Copy(step, current);
    }
    target.drop_name = target.drop_name || current.drop_name;
    current.kinds.clear();
    merged = true;
  }
  if (merged) std::erase_if(*series, [](const Series& s) { return s.kinds.empty(); });
  return Status::Ok();
}

}  // namespace millstream::promql::exec

// info(): adds the labels of info metrics, such as target_info, to the series that share their instance and job.
#pragma once

#include <optional>
#include <vector>

#include "exec/operator.h"

namespace millstream::promql::exec {

class InfoOperator final : public VectorOperator {
 public:
  // `matchers`: of the second argument: which info metrics (by name; target_info when none is named), and which of
  // their labels to add (all when none is named). Info series are read at (`at`, or the step's time) - `offset_ms`.
  InfoOperator(VectorOperatorPtr input, std::vector<model::Matcher> matchers, int64_t offset_ms,
               std::optional<TimestampMs> at);

  Status Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const override;

 private:
  Result<Block> SelectInfo(ExecContext& ctx, const Grid& grid, const Batch& base) const;
  bool IsInfoMetric(const model::Labels& labels) const;

  VectorOperatorPtr input_;
  std::vector<model::Matcher> name_matchers_;
  std::vector<model::Matcher> data_matchers_;
  int64_t offset_ms_;
  std::optional<TimestampMs> at_;
};

}  // namespace millstream::promql::exec

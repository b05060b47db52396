// topk, bottomk, limitk and limit_ratio.

#include <algorithm>
#include <cmath>
#include <limits>

#include "exec/aggregate.h"
#include "exec/format.h"
#include "exec/stable_sort.h"
#include "millstream/base/hash.h"

namespace millstream::promql::exec {
namespace {

// A candidate: a sample of the step at hand.
struct Candidate {
  double value = 0;
  size_t series = 0;
};

// A bounded heap that keeps the k best with the worst of them on top. Which of equal ones stay depends on how a heap
// moves its elements, so this moves them as Go's container/heap does.
class BestHeap {
 public:
  // `top`: the greatest are best (topk), else the least. NaN is worst in both.
  BestHeap(bool top, size_t limit) : top_(top), limit_(limit) {}

  void Offer(Candidate candidate) {
    if (heap_.size() < limit_) {
      heap_.push_back(candidate);
      Up(heap_.size() - 1);
      return;
    }
    const double worst = heap_[0].value;
    const bool better = top_ ? worst < candidate.value : worst > candidate.value;
    if (better || (std::isnan(worst) && !std::isnan(candidate.value))) {
      heap_[0] = candidate;
      Down();
    }
  }

  // Best first; equal ones in the heap's order.
  std::vector<Candidate> Sorted() && {
    StableSort(&heap_, [&](const Candidate& a, const Candidate& b) {
      if (std::isnan(a.value) || std::isnan(b.value)) return !std::isnan(a.value) && std::isnan(b.value);
      return top_ ? a.value > b.value : a.value < b.value;
    });
    return std::move(heap_);
  }

 private:
  bool Worse(size_t a, size_t b) const {
    if (std::isnan(heap_[a].value)) return true;
    return top_ ? heap_[a].value < heap_[b].value : heap_[a].value > heap_[b].value;
  }
  void Up(size_t at) {
    while (at > 0) {
      const size_t parent = (at - 1) / 2;
      if (!Worse(at, parent)) break;
      std::swap(heap_[at], heap_[parent]);
      at = parent;
    }
  }
  void Down() {
    size_t at = 0;
    while (2 * at + 1 < heap_.size()) {
      size_t child = 2 * at + 1;
      if (child + 1 < heap_.size() && Worse(child + 1, child)) ++child;
      if (!Worse(child, at)) break;
      std::swap(heap_[at], heap_[child]);
      at = child;
    }
  }

  bool top_;
  size_t limit_;
  std::vector<Candidate> heap_;
};

// Whether limit_ratio keeps a series: by where the hash of its labels lies in [0, 1).
bool InRatio(double ratio, const model::Labels& labels) {
  const double place =
      static_cast<double>(XxHash64(labels.encoded())) / static_cast<double>(std::numeric_limits<uint64_t>::max());
  return ratio >= 0 ? place < ratio : place >= 1 + ratio;
}

// Chooses, step by step, among the series of one group.
class Chooser {
 public:
  Chooser(ExecContext& ctx, const AggregateExpr& expr, const Batch& input) : ctx_(ctx), expr_(expr), input_(input) {}

  // The positions in the input of the chosen ones, in order of the result.
  std::vector<size_t> Choose(const std::vector<size_t>& members, size_t step, double param) {
    std::vector<size_t> chosen;
    const bool ranked = expr_.op == AggregateOp::kTopK || expr_.op == AggregateOp::kBottomK;
    if (expr_.op == AggregateOp::kLimitRatio) {
      const double ratio = std::clamp(param, -1.0, 1.0);
      for (const size_t member : members) {
        if (ratio != 0 && input_[member].Has(step) && InRatio(ratio, input_[member].labels)) chosen.push_back(member);
      }
      return chosen;
    }
    if (!(param >= 1)) return chosen;
    const size_t limit = static_cast<size_t>(std::min(std::floor(param), static_cast<double>(input_.size())));
    if (!ranked) {
      for (const size_t member : members) {
        if (chosen.size() == limit) break;
        if (input_[member].Has(step)) chosen.push_back(member);
      }
      return chosen;
    }
    BestHeap heap(expr_.op == AggregateOp::kTopK, limit);
    for (const size_t member : members) {
      if (input_[member].kinds[step] == SampleKind::kFloat) {
        heap.Offer({input_[member].values[step], member});
      } else if (input_[member].kinds[step] == SampleKind::kHistogram) {
        ctx_.annotations.HistogramIgnoredInAggregation(AggregateOpName(expr_.op), expr_.position);
      }
    }
    for (const Candidate& candidate : std::move(heap).Sorted()) chosen.push_back(candidate.series);
    return chosen;
  }

 private:
  ExecContext& ctx_;
  const AggregateExpr& expr_;
  const Batch& input_;
};

// An error where the parameter cannot be used; *nothing when it selects nothing at any step.
Status CheckParam(ExecContext& ctx, const AggregateExpr& expr, const std::vector<double>& params, bool* nothing) {
  const ParamRange range(params);
  const PositionRange position = StripParens(*expr.param).position;
  if (expr.op == AggregateOp::kLimitRatio) {
    *nothing = range.max == 0 && range.min == 0;
    if (*nothing) return Status::Ok();
    if (range.any_nan) return FailedPrecondition("Ratio value is NaN");
    if (range.max > 1) ctx.annotations.InvalidRatio(range.max, 1, position);
    if (range.min < -1) ctx.annotations.InvalidRatio(range.min, -1, position);
    return Status::Ok();
  }
  constexpr double kInt64Limit = 9223372036854775808.0;  // 2^63
  *nothing = range.max < 1;
  if (*nothing) return Status::Ok();
  if (range.any_nan) return FailedPrecondition("Parameter value is NaN");
  if (range.min <= -kInt64Limit) {
    return FailedPrecondition("Scalar value {} underflows int64", FormatGo(range.min, kGoDefaultVerb));
  }
  if (range.max >= kInt64Limit) {
    return FailedPrecondition("Scalar value {} overflows int64", FormatGo(range.max, kGoDefaultVerb));
  }
  return Status::Ok();
}

}  // namespace

Status SelectOperator::Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const {
  MS_ASSIGN_OR_RETURN(const std::vector<double> params, param_->Eval(ctx, grid));
  MS_ASSIGN_OR_RETURN(Block block, input_->Collect(ctx, grid));
  bool nothing = false;
  MS_RETURN_IF_ERROR(CheckParam(ctx, expr_, params, &nothing));
  if (nothing) return Status::Ok();

  Grouping grouping(expr_.grouping, expr_.without);
  std::vector<std::vector<size_t>> members;
  for (size_t i = 0; i < block.series.size(); ++i) {
    const size_t group = grouping.Of(block.series[i].labels);
    if (group == members.size()) members.emplace_back();
    members[group].push_back(i);
  }

  Chooser chooser(ctx, expr_, block.series);
  Batcher batcher(sink);
  if (grid.steps == 1) {
    // An instant query's order shows.
    for (const std::vector<size_t>& group : members) {
      MS_RETURN_IF_ERROR(ctx.control.Check());
      for (const size_t chosen : chooser.Choose(group, 0, params[0])) {
        MS_RETURN_IF_ERROR(batcher.Add(Series(block.series[chosen])));
      }
    }
    return batcher.Finish();
  }
  std::vector<std::vector<bool>> keep(block.series.size());
  for (const std::vector<size_t>& group : members) {
    size_t work = 0;
    for (size_t step = 0; step < grid.steps; ++step) {
      MS_RETURN_IF_ERROR(CheckEvery(ctx, group.size(), &work));
      for (const size_t chosen : chooser.Choose(group, step, params[step])) {
        keep[chosen].resize(grid.steps, false);
        keep[chosen][step] = true;
      }
    }
  }
  for (size_t i = 0; i < block.series.size(); ++i) {
    if (keep[i].empty()) continue;
    Series& series = block.series[i];
    for (size_t step = 0; step < grid.steps; ++step) {
      if (!keep[i][step]) series.Clear(step);
    }
    MS_RETURN_IF_ERROR(batcher.Add(std::move(series)));
  }
  return batcher.Finish();
}

}  // namespace millstream::promql::exec

#include "exec/join.h"

#include <algorithm>

#include "exec/element.h"
#include "exec/stable_sort.h"
#include "millstream/model/value.h"

namespace millstream::promql::exec {
namespace {

constexpr size_t kNoSeries = static_cast<size_t>(-1);

// All labels in braces, the metric name among them: how Prometheus shows a series in this error.
std::string InBraces(const model::Labels& labels) {
  std::string out = "{";
  for (const model::Label label : labels) {
    if (out.size() > 1) out += ", ";
    out += model::IsLegacyLabelName(label.name) ? std::string(label.name) : model::Quote(label.name);
    out += "=" + model::Quote(label.value);
  }
  return out + "}";
}

// One join on its way. "Many" is the left side, but for group_right, where sides are swapped; "one" is the other.
class Join {
 public:
  Join(ExecContext& ctx, const Grid& grid, const BinaryExpr& expr, Block left, Block right)
      : ctx_(ctx),
        grid_(grid),
        expr_(expr),
        matching_(*expr.matching),
        swapped_(matching_.cardinality == MatchCardinality::kOneToMany),
        many_(std::move(swapped_ ? right : left)),
        one_(std::move(swapped_ ? left : right)),
        groups_(matching_) {}

  Status Run(const BatchSink& sink) {
    std::vector<size_t> many_groups;
    std::vector<size_t> one_groups;
    for (const Series& series : many_.series) many_groups.push_back(groups_.Of(series.labels));
    for (const Series& series : one_.series) one_groups.push_back(groups_.Of(series.labels));
    many_of_.resize(groups_.size());
    one_of_.resize(groups_.size());
    for (size_t i = 0; i < many_groups.size(); ++i) many_of_[many_groups[i]].push_back(i);
    for (size_t i = 0; i < one_groups.size(); ++i) one_of_[one_groups[i]].push_back(i);
    FindActiveSteps();

    for (size_t group = 0; group < groups_.size(); ++group) {
      MS_RETURN_IF_ERROR(ctx_.control.Check());
      MS_RETURN_IF_ERROR(RunGroup(group));
    }
    // In the order of the many side; what was filled there comes last.
    StableSort(&outputs_, [](const Output& a, const Output& b) { return a.many_index < b.many_index; });
    Batcher batcher(sink);
    for (Output& output : outputs_) MS_RETURN_IF_ERROR(batcher.Add(std::move(output.series)));
    return batcher.Finish();
  }

 private:
  struct Output {
    Series series;
    size_t many_index = kNoSeries;  // of the first series on the many side that it came from
    // Where it was last matched, to find two matches at once.
    size_t group = kNoSeries;
    size_t step = kNoSeries;
  };
  // Where the results of a series on the many side went last.
  struct Route {
    size_t one_index = kNoSeries;
    size_t output = kNoSeries;
  };

  // Prometheus swaps the sides of group_right but not the fill values: there fill_left fills the right side.
  const std::optional<double>& fill_many() const { return matching_.fill_left; }
  const std::optional<double>& fill_one() const { return matching_.fill_right; }
  bool has_fill() const { return matching_.fill_left.has_value() || matching_.fill_right.has_value(); }

  // Steps at which a side is empty have no result, and no errors either.
  void FindActiveSteps() {
    std::vector<bool> many(grid_.steps, false);
    std::vector<bool> one(grid_.steps, false);
    const auto mark = [&](const Batch& batch, std::vector<bool>* steps) {
      for (const Series& series : batch) {
        for (size_t step = 0; step < grid_.steps; ++step) {
          if (series.Has(step)) (*steps)[step] = true;
        }
      }
    };
    mark(many_.series, &many);
    mark(one_.series, &one);
    active_.resize(grid_.steps);
    for (size_t step = 0; step < grid_.steps; ++step) {
      active_[step] = has_fill() ? many[step] || one[step] : many[step] && one[step];
    }
  }

  Status DuplicateOnOneSide(const Series& later, const Series& earlier) const {
    return FailedPrecondition(
        "found duplicate series for the match group {} on the {} hand-side of the operation: [{}, {}];many-to-many "
        "matching not allowed: matching labels must be unique on one side",
        groups_.Key(later.labels).ToString(), swapped_ ? "left" : "right", InBraces(later.labels),
        InBraces(earlier.labels));
  }

  Status RunGroup(size_t group) {
    const std::vector<size_t>& many = many_of_[group];
    const std::vector<size_t>& one = one_of_[group];
    routes_.assign(many.size() + 1, Route{});
    for (size_t step = 0; step < grid_.steps; ++step) {
      if (!active_[step]) continue;
      size_t found = kNoSeries;
      for (size_t i = 0; i < one.size(); ++i) {
        if (!one_.series[one[i]].Has(step)) continue;
        if (found != kNoSeries) return DuplicateOnOneSide(one_.series[one[i]], one_.series[one[found]]);
        found = i;
      }
      bool matched = false;
      if (found != kNoSeries || fill_one()) {
        for (size_t i = 0; i < many.size(); ++i) {
          if (!many_.series[many[i]].Has(step)) continue;
          // One-to-one: a second match is an error even where the comparison drops the sample.
          MS_RETURN_IF_ERROR(Apply(group, i, found, step, &matched));
        }
      }
      if (!matched && found != kNoSeries && fill_many()) {
        MS_RETURN_IF_ERROR(Apply(group, kNoSeries, found, step, &matched));
      }
    }
    return Status::Ok();
  }

  Element Sample(const Batch& side, const std::vector<size_t>& members, size_t index, size_t step,
                 const std::optional<double>& fill) const {
    if (index == kNoSeries) return {*fill, nullptr};
    const Series& series = side[members[index]];
    return {series.values[step], series.kinds[step] == SampleKind::kHistogram ? &series.histograms[step] : nullptr};
  }

  Status Apply(size_t group, size_t many_index, size_t one_index, size_t step, bool* matched) {
    const std::vector<size_t>& many = many_of_[group];
    const std::vector<size_t>& one = one_of_[group];
    const Element many_sample = Sample(many_.series, many, many_index, step, fill_many());
    const Element one_sample = Sample(one_.series, one, one_index, step, fill_one());
    ElementResult result = swapped_ ? ApplyElements(ctx_, expr_.op, one_sample, many_sample, expr_.position)
                                    : ApplyElements(ctx_, expr_.op, many_sample, one_sample, expr_.position);
    if (!result.valid) return Status::Ok();
    const bool one_to_one = matching_.cardinality == MatchCardinality::kOneToOne;
    if (one_to_one && *matched) {
      return FailedPrecondition(
          "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)");
    }
    *matched = true;
    Output& output = outputs_[FindOutput(many_index, one_index, many, one)];
    if (!one_to_one && output.group == group && output.step == step) {
      return FailedPrecondition("multiple matches for labels: grouping labels must ensure unique matches");
    }
    output.group = group;
    output.step = step;
    if (!result.keep && !expr_.return_bool) return Status::Ok();
    Series& series = output.series;
    if (series.Has(step)) return DuplicateLabels();
    if (expr_.return_bool) {
      series.SetFloat(step, result.keep ? 1 : 0);
    } else if (result.histogram != nullptr) {
      series.SetHistogram(step, std::move(result.histogram));
    } else {
      series.SetFloat(step, result.value);
    }
    return Status::Ok();
  }

  // The position in outputs_ of the series that this pair's results belong to.
  size_t FindOutput(size_t many_index, size_t one_index, const std::vector<size_t>& many,
                    const std::vector<size_t>& one) {
    Route& route = routes_[many_index == kNoSeries ? many.size() : many_index];
    if (route.output != kNoSeries && route.one_index == one_index) return route.output;
    // A filled side has the labels that were matched on.
    const model::Labels many_labels = many_index == kNoSeries ? groups_.Key(one_.series[one[one_index]].labels)
                                                              : many_.series[many[many_index]].labels;
    const model::Labels one_labels =
        one_index == kNoSeries ? groups_.Key(many_labels) : one_.series[one[one_index]].labels;
    const model::Labels labels = ResultLabels(many_labels, one_labels);
    const auto [at, inserted] = by_labels_.try_emplace(std::string(labels.encoded()), outputs_.size());
    if (inserted) {
      Output output;
      output.series = Series(grid_.steps);
      output.series.labels = labels;
      output.series.drop_name = expr_.return_bool;
      if (many_index != kNoSeries) output.many_index = many[many_index];
      outputs_.push_back(std::move(output));
    }
    route = {one_index, at->second};
    return route.output;
  }

  model::Labels ResultLabels(const model::Labels& many, const model::Labels& one) const {
    model::LabelsBuilder builder(many);
    if (ChangesMetric(expr_.op) || (expr_.return_bool && !ctx_.delayed_name_removal)) {
      builder.Del(model::kMetricName).Del("__type__").Del("__unit__");
    }
    if (matching_.cardinality == MatchCardinality::kOneToOne) {
      if (matching_.on) {
        builder.Keep(matching_.labels);
      } else {
        builder.Del(matching_.labels);
      }
    }
    for (const std::string& name : matching_.include) builder.Set(name, one.Get(name));
    return builder.Build();
  }

  ExecContext& ctx_;
  const Grid& grid_;
  const BinaryExpr& expr_;
  const VectorMatching& matching_;
  const bool swapped_;
  Block many_;
  Block one_;
  MatchGroups groups_;
  std::vector<std::vector<size_t>> many_of_;  // per group, positions in many_
  std::vector<std::vector<size_t>> one_of_;   // per group, positions in one_
  std::vector<bool> active_;
  std::vector<Route> routes_;  // of the group at hand; the last is that of the fill value
  std::vector<Output> outputs_;
  std::unordered_map<std::string, size_t> by_labels_;  // positions in outputs_
};

}  // namespace

Status JoinOperator::Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const {
  MS_ASSIGN_OR_RETURN(Block left, left_->Collect(ctx, grid));
  MS_ASSIGN_OR_RETURN(Block right, right_->Collect(ctx, grid));
  Join join(ctx, grid, expr_, std::move(left), std::move(right));
  return join.Run(sink);
}

}  // namespace millstream::promql::exec

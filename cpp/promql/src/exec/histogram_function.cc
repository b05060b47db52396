#include "exec/histogram_function.h"

#include <array>
#include <cmath>
#include <unordered_map>

#include "exec/format.h"
#include "exec/quantile.h"
#include "exec/scalar.h"
#include "millstream/model/histogram_math.h"
#include "millstream/promql/literals.h"

namespace millstream::promql::exec {
namespace {

constexpr std::string_view kBucketLabel = "le";

// Series of one histogram: the buckets of a classic one, or a native one, or both at different steps.
struct HistogramGroup {
  struct BucketSeries {
    double upper_bound;
    size_t series;
  };
  model::Labels labels;  // without le
  bool drop_name = false;
  std::vector<BucketSeries> buckets;
  std::vector<size_t> natives;
};

// Sorts the series of a vector into histograms, and computes one number of each at each step.
class Summary {
 public:
  Summary(ExecContext& ctx, const Batch& input, PositionRange position)
      : ctx_(ctx), input_(input), position_(position) {
    for (size_t i = 0; i < input_.size(); ++i) Assign(i);
  }

  const std::vector<HistogramGroup>& groups() const { return groups_; }

  // The buckets of the group at the step, in *buckets. Where both kinds meet, neither counts.
  void Gather(const HistogramGroup& group, size_t step, std::vector<Bucket>* buckets, HistogramPtr* native) {
    buckets->clear();
    native->reset();
    for (const HistogramGroup::BucketSeries& bucket : group.buckets) {
      const Series& series = input_[bucket.series];
      if (series.kinds[step] == SampleKind::kFloat) buckets->push_back({bucket.upper_bound, series.values[step]});
    }
    for (const size_t index : group.natives) {
      if (input_[index].kinds[step] == SampleKind::kHistogram) *native = input_[index].histograms[step];
    }
    if (*native != nullptr && !buckets->empty()) {
      ctx_.annotations.MixedClassicNative(MetricName(group), position_);
      buckets->clear();
      native->reset();
    }
  }

  // The name that annotations may show: without delayed removal it is gone by now.
  std::string_view MetricName(const HistogramGroup& group) const {
    return ctx_.delayed_name_removal ? group.labels.metric_name() : std::string_view();
  }

  double Quantile(const HistogramGroup& group, TimestampMs time, double q, std::vector<Bucket>* buckets) {
    const BucketQuantileResult result = BucketQuantile(q, buckets);
    if (result.forced_monotonic) {
      ctx_.annotations.ForcedMonotonicity(MetricName(group), time, result.bucket_min, result.bucket_max,
                                          result.difference_max, position_);
    }
    return result.quantile;
  }

  double Quantile(const HistogramGroup& group, double q, const model::Histogram& native) {
    const model::QuantileOutcome outcome = model::Quantile(q, native);
    if (outcome.nan_effect == model::NanEffect::kResultIsNan) {
      ctx_.annotations.QuantileNanResult(MetricName(group), position_);
    } else if (outcome.nan_effect == model::NanEffect::kSkewed) {
      ctx_.annotations.QuantileNanSkew(MetricName(group), position_);
    }
    return outcome.value;
  }

  double Fraction(const HistogramGroup& group, double lower, double upper, const model::Histogram& native) {
    const model::QuantileOutcome outcome = model::Fraction(lower, upper, native);
    if (outcome.nan_effect != model::NanEffect::kNone) ctx_.annotations.FractionNans(MetricName(group), position_);
    return outcome.value;
  }

 private:
  HistogramGroup& Group(const Series& series) {
    model::LabelsBuilder builder(series.labels);
    builder.Del(kBucketLabel);
    model::Labels labels = builder.Build();
    const auto [at, inserted] = by_labels_.try_emplace(std::string(labels.encoded()), groups_.size());
    if (inserted) groups_.push_back({std::move(labels), false, {}, {}});
    HistogramGroup& group = groups_[at->second];
    group.drop_name = group.drop_name || series.drop_name;
    return group;
  }

  void Assign(size_t index) {
    const Series& series = input_[index];
    bool floats = false;
    bool histograms = false;
    for (const SampleKind kind : series.kinds) {
      floats = floats || kind == SampleKind::kFloat;
      histograms = histograms || kind == SampleKind::kHistogram;
    }
    if (histograms) Group(series).natives.push_back(index);
    if (!floats) return;
    const std::string_view bound_text = series.labels.Get(kBucketLabel);
    const std::optional<double> bound = ParseNumber(bound_text);
    if (bound) {
      Group(series).buckets.push_back({*bound, index});
    } else {
      const std::string_view name = ctx_.delayed_name_removal ? series.labels.metric_name() : std::string_view();
      ctx_.annotations.BadBucketLabel(name, bound_text, position_);
    }
  }

  ExecContext& ctx_;
  const Batch& input_;
  const PositionRange position_;
  std::vector<HistogramGroup> groups_;
  std::unordered_map<std::string, size_t> by_labels_;
};

struct NamedFunction {
  std::string_view name;
  HistogramFunction function;
};

constexpr std::array kHistogramFunctions = {
    NamedFunction{"histogram_count", [](const model::Histogram& h) { return h.count; }},
    NamedFunction{"histogram_sum", [](const model::Histogram& h) { return h.sum; }},
    NamedFunction{"histogram_avg", [](const model::Histogram& h) { return h.sum / h.count; }},
    NamedFunction{"histogram_stddev", [](const model::Histogram& h) { return std::sqrt(model::Variance(h)); }},
    NamedFunction{"histogram_stdvar", [](const model::Histogram& h) { return model::Variance(h); }},
};

}  // namespace

HistogramFunction FindHistogramFunction(std::string_view name) {
  for (const NamedFunction& entry : kHistogramFunctions) {
    if (entry.name == name) return entry.function;
  }
  return nullptr;
}

Status HistogramFunctionOperator::Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const {
  return PushWithoutNames(ctx, grid, *input_, sink, [&](Series* series) {
    for (size_t step = 0; step < grid.steps; ++step) {
      if (series->kinds[step] == SampleKind::kHistogram) {
        series->SetFloat(step, function_(*series->histograms[step]));
      } else {
        series->Clear(step);
      }
    }
    series->histograms.clear();
    DropName(ctx, series);
  });
}

Status HistogramSummaryOperator::Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const {
  std::vector<std::vector<double>> params;
  for (const Param& param : params_) {
    MS_ASSIGN_OR_RETURN(std::vector<double> values, param.value->Eval(ctx, grid));
    params.push_back(std::move(values));
  }
  if (kind_ != Kind::kFraction) {
    for (size_t i = 0; i < params.size(); ++i) {
      for (const double q : params[i]) {
        if (!(q >= 0 && q <= 1)) ctx.annotations.InvalidQuantile(q, params_[i].position);
      }
    }
  }
  MS_ASSIGN_OR_RETURN(Block block, input_->Collect(ctx, grid));
  Summary summary(ctx, block.series, position_);

  std::vector<Series> out;
  std::vector<Bucket> buckets;
  HistogramPtr native;
  for (const HistogramGroup& group : summary.groups()) {
    MS_RETURN_IF_ERROR(ctx.control.Check());
    // Series of one histogram whose quantile is told in a label, keyed by its value.
    std::unordered_map<std::string, size_t> by_quantile;
    const auto output = [&](double q) -> Series& {
      const std::string text = kind_ == Kind::kQuantiles ? FormatOpenMetrics(q) : std::string();
      const auto [at, inserted] = by_quantile.try_emplace(text, out.size());
      if (inserted) {
        Series series(grid.steps);
        series.labels = group.labels;
        if (kind_ == Kind::kQuantiles) {
          model::LabelsBuilder builder(group.labels);
          series.labels = builder.Set(label_, text).Build();
        }
        DropName(ctx, &series);
        out.push_back(std::move(series));
      }
      return out[at->second];
    };
    for (size_t step = 0; step < grid.steps; ++step) {
      summary.Gather(group, step, &buckets, &native);
      if (buckets.empty() && native == nullptr) continue;
      if (kind_ == Kind::kFraction) {
        const double lower = params[0][step];
        const double upper = params[1][step];
        output(0).SetFloat(step, native == nullptr ? BucketFraction(lower, upper, &buckets)
                                                   : summary.Fraction(group, lower, upper, *native));
        continue;
      }
      for (size_t i = 0; i < params.size(); ++i) {
        const double q = params[i][step];
        Series& series = output(q);
        if (series.Has(step)) return DuplicateLabels();
        series.SetFloat(step, native == nullptr ? summary.Quantile(group, grid.At(step), q, &buckets)
                                                : summary.Quantile(group, q, *native));
      }
    }
  }
  std::erase_if(out, [](const Series& series) { return series.Empty(); });
  MS_RETURN_IF_ERROR(MergeSameLabels(&out));
  Batcher batcher(sink);
  for (Series& series : out) MS_RETURN_IF_ERROR(batcher.Add(std::move(series)));
  return batcher.Finish();
}

}  // namespace millstream::promql::exec

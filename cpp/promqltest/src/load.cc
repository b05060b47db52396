#include "load.h"

#include <cmath>
#include <limits>
#include <map>

#include "millstream/model/histogram_math.h"

namespace millstream::promqltest {
namespace {

constexpr std::string_view kBucketLabel = "le";

// A classic histogram at one time.
struct Classic {
  std::map<double, double> buckets;  // cumulative counts by upper bound
  std::optional<double> count;
  double sum = 0;
};

// By base series and position.
using Classics = std::map<model::Labels, std::map<size_t, Classic>>;

Result<model::Histogram> ToNative(const Classic& classic) {
  model::Histogram native;
  native.schema = model::kCustomBucketsSchema;
  native.sum = classic.sum;
  std::map<double, double> buckets = classic.buckets;
  const double highest = buckets.empty() ? 0 : buckets.rbegin()->second;
  native.count = classic.count.value_or(highest);
  buckets.emplace(std::numeric_limits<double>::infinity(), native.count);
  double previous = 0;
  for (const auto& [bound, cumulative] : buckets) {
    if (cumulative < 0 || native.count < 0) return InvalidArgument("a classic histogram has a negative count");
    if (cumulative < previous) return InvalidArgument("the buckets of a classic histogram are not cumulative");
    if (std::isfinite(bound)) native.custom_values.push_back(bound);
    native.positive_buckets.push_back(cumulative - previous);
    previous = cumulative;
  }
  if (previous != native.count) {
    return InvalidArgument("count {} of a classic histogram differs from its +Inf bucket {}", native.count, previous);
  }
  native.positive_spans = {{0, static_cast<uint32_t>(native.positive_buckets.size())}};
  model::Compact(&native);
  return native;
}

void Collect(const LoadedSeries& series, Classics* classics) {
  const std::string_view name = series.labels.metric_name();
  enum class Part { kBucket, kCount, kSum } part = Part::kBucket;
  std::string_view base;
  double bound = 0;
  if (name.ends_with("_bucket")) {
    const auto parsed = promql::ParseNumber(series.labels.Get(kBucketLabel));
    if (!parsed || std::isnan(*parsed)) return;
    bound = *parsed;
    base = name.substr(0, name.size() - 7);
  } else if (name.ends_with("_count")) {
    part = Part::kCount;
    base = name.substr(0, name.size() - 6);
  } else if (name.ends_with("_sum")) {
    part = Part::kSum;
    base = name.substr(0, name.size() - 4);
  } else {
    return;
  }
  model::LabelsBuilder builder(series.labels);
  builder.Set(model::kMetricName, base).Del(kBucketLabel);
  auto& by_position = (*classics)[builder.Build()];
  for (size_t i = 0; i < series.values.size(); ++i) {
    const SequenceValue& value = series.values[i];
    if (value.omitted || value.histogram) continue;
    Classic& classic = by_position[i];
    switch (part) {
      case Part::kBucket:
        classic.buckets.emplace(bound, value.value);
        break;
      case Part::kCount:
        classic.count = value.value;
        break;
      case Part::kSum:
        classic.sum = value.value;
        break;
    }
  }
}

Result<std::vector<LoadedSeries>> NativeSeries(const LoadCommand& load) {
  Classics classics;
  for (const LoadedSeries& series : load.series) Collect(series, &classics);
  std::vector<LoadedSeries> natives;
  for (const auto& [labels, by_position] : classics) {
    LoadedSeries native;
    native.labels = labels;
    for (const auto& [position, classic] : by_position) {
      native.values.resize(position, SequenceValue{true, 0, nullptr, false});
      MS_ASSIGN_OR_RETURN(model::Histogram histogram, ToNative(classic));
      native.values.push_back({false, 0, std::make_shared<const model::Histogram>(std::move(histogram)), false});
    }
    natives.push_back(std::move(native));
  }
  return natives;
}

Status Append(const LoadedSeries& series, int64_t step_ms, storage::Appender* appender) {
  for (size_t i = 0; i < series.values.size(); ++i) {
    const SequenceValue& value = series.values[i];
    if (value.omitted) continue;
    const TimestampMs time = static_cast<TimestampMs>(i) * step_ms;
    TimestampMs start = 0;
    if (i < series.start_offsets.size() && series.start_offsets[i]) start = time + *series.start_offsets[i];
    MS_RETURN_IF_ERROR(value.histogram ? appender->AppendHistogram(series.labels, time, *value.histogram, start)
                                       : appender->Append(series.labels, time, value.value, start));
  }
  return Status::Ok();
}

}  // namespace

Status LoadSeries(const LoadCommand& load, Store* store, std::vector<LoadedSeries>* written) {
  MS_ASSIGN_OR_RETURN(const auto appender, store->MakeAppender());
  std::vector<LoadedSeries> all = load.series;
  if (load.with_nhcb) {
    MS_ASSIGN_OR_RETURN(std::vector<LoadedSeries> natives, NativeSeries(load));
    std::move(natives.begin(), natives.end(), std::back_inserter(all));
  }
  for (const LoadedSeries& series : all) MS_RETURN_IF_ERROR(Append(series, load.step_ms, appender.get()));
  MS_RETURN_IF_ERROR(appender->Commit());
  std::move(all.begin(), all.end(), std::back_inserter(*written));
  return Status::Ok();
}

}  // namespace millstream::promqltest

#include "otlp_translator.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <tuple>

#include "millstream/base/utf8.h"
#include "millstream/model/labels.h"
#include "millstream/model/value.h"
#include "millstream/wire/labels_decoder.h"
#include "otlp_histograms.h"
#include "otlp_names.h"
#include "otlp_values.h"

namespace millstream::wire::otlp {
namespace {

constexpr std::string_view kJob = "job";
constexpr std::string_view kInstance = "instance";
constexpr std::string_view kServiceName = "service.name";
constexpr std::string_view kServiceNamespace = "service.namespace";
constexpr std::string_view kServiceInstance = "service.instance.id";
constexpr std::string_view kTargetInfo = "target_info";
// Half of PromQL's lookback: target_info is found at every time between its first sample and its last.
constexpr uint64_t kTargetInfoStepNs = 150'000'000'000;
constexpr uint64_t kNsPerMs = 1'000'000;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr ObservationRange kAllObservations{-kInfinity, kInfinity};

TimestampMs ToMs(uint64_t ns) {
  return static_cast<TimestampMs>(ns / kNsPerMs);
}

bool IsIdentifying(std::string_view key) {
  return key == kServiceName || key == kServiceNamespace || key == kServiceInstance;
}

std::string_view ValueOf(const Attributes& attributes, std::string_view key) {
  const auto found = std::ranges::find(attributes.items, key, &Attribute::key);
  return found == attributes.items.end() ? std::string_view() : found->value;
}

Status CheckAttributes(const Attributes& attributes, std::string_view whose) {
  if (attributes.too_many) {
    return InvalidArgument("{} has more than {} attributes", whose, kOtlpAttributesMax);
  }
  for (const Attribute& attribute : attributes.items) {
    // Before escaping hides it; values are looked at with the labels.
    if (!IsValidUtf8(attribute.key)) return InvalidArgument("an attribute's key of {} is not UTF-8", whose);
  }
  return Status::Ok();
}

}  // namespace

std::string_view LabelList::Get(std::string_view name) const {
  const auto found = std::ranges::find(labels_, name, &std::pair<std::string, std::string>::first);
  return found == labels_.end() ? std::string_view() : std::string_view(found->second);
}

void LabelList::Set(std::string_view name, std::string_view value) {
  const auto found = std::ranges::find(labels_, name, &std::pair<std::string, std::string>::first);
  if (found != labels_.end()) {
    found->second = value;
  } else {
    labels_.emplace_back(name, value);
  }
}

Translator::Translator(const OtlpOptions& options) : options_(options) {
  out_.encoding = LabelEncoding::kPairs;
  out_.bytes = std::make_unique<std::string>();
}

bool Translator::Promotes(std::string_view key) const {
  if (options_.promote_all_resource_attributes) {
    return std::ranges::find(options_.ignore_resource_attributes, key) == options_.ignore_resource_attributes.end();
  }
  return std::ranges::find(options_.promote_resource_attributes, key) != options_.promote_resource_attributes.end();
}

bool Translator::HasTemporality() const {
  return metric_.kind == MetricKind::kSum || metric_.kind == MetricKind::kHistogram ||
         metric_.kind == MetricKind::kExponentialHistogram;
}

Status Translator::BeginResource(const Resource& resource) {
  const Attributes& attributes = resource.attributes;
  resource_ = &attributes;
  first_ns_ = UINT64_MAX;
  last_ns_ = 0;
  first_item_ = item_;
  promoted_.Clear();
  job_ = ValueOf(attributes, kServiceName);
  if (const std::string_view space = ValueOf(attributes, kServiceNamespace); !job_.empty() && !space.empty()) {
    job_ = fmt::format("{}/{}", space, job_);
  }
  instance_ = ValueOf(attributes, kServiceInstance);
  resource_refusal_ = resource.fault.ok() ? CheckAttributes(attributes, "the resource") : resource.fault;
  if (!resource_refusal_.ok()) return Status::Ok();
  for (const Attribute& attribute : attributes.items) {
    if (!Promotes(attribute.key)) continue;
    Result<std::string> name = LabelName(attribute.key, options_);
    if (!name.ok()) {
      resource_refusal_ = std::move(name).status();
      return Status::Ok();
    }
    promoted_.Set(*name, attribute.value);
  }
  return Status::Ok();
}

Status Translator::BeginScope(const Scope& scope) {
  scope_refusal_ = scope.fault;
  scope_labels_.Clear();
  if (!scope_refusal_.ok()) return Status::Ok();
  if (!options_.promote_scope_metadata || scope.name.empty()) return Status::Ok();
  scope_refusal_ = CheckAttributes(scope.attributes, "the scope");
  if (!scope_refusal_.ok()) return Status::Ok();
  for (const Attribute& attribute : scope.attributes.items) {
    Result<std::string> name = LabelName(fmt::format("otel_scope_{}", attribute.key), options_);
    if (!name.ok()) {
      scope_refusal_ = std::move(name).status();
      return Status::Ok();
    }
    scope_labels_.Set(*name, attribute.value);
  }
  scope_labels_.Set("otel_scope_name", scope.name);
  scope_labels_.Set("otel_scope_version", scope.version);
  scope_labels_.Set("otel_scope_schema_url", scope.schema_url);
  return Status::Ok();
}

Status Translator::BeginMetric(const Metric& metric) {
  metric_ = metric;
  metadata_added_ = false;
  metric_refusal_ = metric.fault;
  name_.clear();
  if (!metric_refusal_.ok()) return Status::Ok();
  if (!IsValidUtf8(metric.name)) {
    metric_refusal_ = InvalidArgument("the metric's name is not UTF-8");
    return Status::Ok();
  }
  Result<std::string> name = MetricName(metric, options_);
  if (!name.ok()) {
    metric_refusal_ = std::move(name).status();
    return Status::Ok();
  }
  name_ = std::move(name).value();
  if (!HasTemporality()) return Status::Ok();
  if (metric.temporality == Temporality::kUnspecified) {
    metric_refusal_ = InvalidArgument("metric {} has no aggregation temporality", model::Quote(metric.name));
  } else if (metric.temporality == Temporality::kDelta && !options_.accept_delta) {
    metric_refusal_ =
        InvalidArgument("metric {} is of delta temporality, which otlp.delta refuses", model::Quote(metric.name));
  }
  return Status::Ok();
}

Status Translator::OnPoint(const Point& point) {
  const uint32_t item = item_++;
  Status refusal = AddPoint(point);
  if (!refusal.ok()) {
    const bool named = !metric_.name.empty() && IsValidUtf8(metric_.name);
    out_.Reject(item, named ? refusal.WithContext(fmt::format("metric {}", model::Quote(metric_.name))) : refusal);
    return CheckSize();
  }
  AddMetadata();
  first_ns_ = std::min(first_ns_, point.time_ns);
  last_ns_ = std::max(last_ns_, point.time_ns);
  return CheckSize();
}

Status Translator::AddPoint(const Point& point) {
  for (const Status* refusal : {&resource_refusal_, &scope_refusal_, &metric_refusal_}) {
    if (!refusal->ok()) return *refusal;
  }
  MS_RETURN_IF_ERROR(CheckPoint(point));
  MS_RETURN_IF_ERROR(MakeLabels(point.attributes, true));
  switch (metric_.kind) {
    case MetricKind::kGauge:
    case MetricKind::kSum:
      return AddNumber(point);
    case MetricKind::kHistogram:
      return options_.convert_histograms_to_nhcb ? AddCustomBuckets(point) : AddClassicHistogram(point);
    case MetricKind::kExponentialHistogram:
      return AddExponentialHistogram(point);
    case MetricKind::kSummary:
      return AddSummary(point);
    case MetricKind::kNone:
      break;
  }
  return InvalidArgument("the metric is of no kind that is known here");
}

Status Translator::CheckPoint(const Point& point) const {
  MS_RETURN_IF_ERROR(point.fault);
  MS_RETURN_IF_ERROR(CheckAttributes(point.attributes, "the point"));
  if (point.time_ns == 0) return InvalidArgument("the point has no timestamp");
  if (IsDelta() && point.start_ns > point.time_ns) {
    return InvalidArgument("the point's start is after its end");
  }
  return Status::Ok();
}

// The labels of a point but for its name: attributes, then what resource and scope say. With false those of
// target_info.
Status Translator::MakeLabels(const Attributes& attributes, bool of_point) {
  labels_.Clear();
  sorted_.clear();
  for (const Attribute& attribute : attributes.items) {
    if (attribute.key == model::kMetricName) continue;
    if (!of_point && !options_.keep_identifying_resource_attributes && IsIdentifying(attribute.key)) continue;
    sorted_.push_back(attribute);
  }
  std::ranges::sort(sorted_, [](const Attribute& a, const Attribute& b) {
    return std::tie(a.key, a.value) < std::tie(b.key, b.value);
  });
  for (const Attribute& attribute : sorted_) {
    MS_ASSIGN_OR_RETURN(const std::string name, LabelName(attribute.key, options_));
    const std::string_view there = labels_.Get(name);
    if (there.empty()) {
      labels_.Set(name, attribute.value);
    } else if (options_.escape_names) {
      // Keys that escaping made equal: neither value is lost.
      labels_.Set(name, fmt::format("{};{}", there, attribute.value));
    }
  }
  if (of_point) {
    for (const auto& [name, value] : promoted_.pairs()) {
      if (labels_.Get(name).empty()) labels_.Set(name, value);
    }
  }
  if (!job_.empty()) labels_.Set(kJob, job_);
  if (!instance_.empty()) labels_.Set(kInstance, instance_);
  if (of_point) {
    for (const auto& [name, value] : scope_labels_.pairs()) labels_.Set(name, value);
  }
  // One series, one spelling, in whatever order its sender has the attributes.
  labels_.Sort();
  return Status::Ok();
}

void Translator::BeginSeries(std::string_view name, const ExtraLabel& extra, bool delta) {
  std::string& bytes = *out_.bytes;
  const size_t begin = bytes.size();
  AppendPairString(model::kMetricName, &bytes);
  AppendPairString(name, &bytes);
  for (const auto& [label, value] : labels_.pairs()) {
    if (label == extra.name || label == model::kMetricName) continue;
    AppendPairString(label, &bytes);
    AppendPairString(value, &bytes);
  }
  const size_t extra_begin = bytes.size();
  if (!extra.name.empty()) {
    AppendPairString(extra.name, &bytes);
    AppendPairString(extra.value, &bytes);
  }
  raw_ranges_.emplace_back(begin, bytes.size() - begin);
  DecodedSeries series;
  series.item = item_ - 1;
  series.delta = delta;
  if (delta) series.le_bytes = static_cast<uint16_t>(bytes.size() - extra_begin);
  series.floats_begin = static_cast<uint32_t>(out_.timestamps.size());
  series.histograms_begin = static_cast<uint32_t>(out_.histograms.size());
  series.exemplars_begin = static_cast<uint32_t>(out_.exemplars.size());
  out_.series.push_back(series);
}

void Translator::EndSeries() {
  out_.series.back().floats_end = static_cast<uint32_t>(out_.timestamps.size());
  out_.series.back().histograms_end = static_cast<uint32_t>(out_.histograms.size());
  out_.series.back().exemplars_end = static_cast<uint32_t>(out_.exemplars.size());
}

namespace {

// A start after the sample says nothing.
TimestampMs StartOf(const Point& point) {
  return point.start_ns > point.time_ns ? 0 : ToMs(point.start_ns);
}

}  // namespace

void Translator::AddExemplars(const Point& point, ObservationRange range) {
  for (const PointExemplar& exemplar : point.exemplars()) {
    if (!exemplar.has_value || !(exemplar.value > range.above && exemplar.value <= range.up_to)) continue;
    std::vector<model::Label> pairs;
    if (!exemplar.trace_id.empty()) pairs.push_back({"trace_id", exemplar.trace_id});
    if (!exemplar.span_id.empty()) pairs.push_back({"span_id", exemplar.span_id});
    const size_t ids = pairs.size();
    for (const Attribute& attribute : exemplar.attributes.items) pairs.push_back({attribute.key, attribute.value});
    // The way to the trace stays where attributes would make the labels too long.
    Result<model::Labels> labels = DecodeExemplarLabels(pairs);
    if (!labels.ok()) labels = DecodeExemplarLabels(std::span(pairs).first(ids));
    if (!labels.ok()) continue;
    out_.exemplars.push_back({.labels = std::move(labels).value(),
                              .value = exemplar.value,
                              .timestamp = ToMs(exemplar.time_ns == 0 ? point.time_ns : exemplar.time_ns)});
  }
}

void Translator::AddFloat(const Point& point, std::string_view name, const ExtraLabel& extra, double value,
                          ObservationRange exemplars) {
  BeginSeries(name, extra, IsDelta() && !point.no_recorded_value);
  out_.timestamps.push_back(ToMs(point.time_ns));
  out_.values.push_back(point.no_recorded_value ? model::StaleNan() : value);
  out_.SetStart(StartOf(point));
  AddExemplars(point, exemplars);
  EndSeries();
}

void Translator::AddHistogram(const Point& point, model::Histogram histogram) {
  if (point.no_recorded_value) {
    histogram = {};
    histogram.sum = model::StaleNan();
  }
  BeginSeries(name_, {}, IsDelta() && !point.no_recorded_value);
  out_.histogram_timestamps.push_back(ToMs(point.time_ns));
  out_.histograms.push_back(std::move(histogram));
  out_.SetHistogramStart(StartOf(point));
  AddExemplars(point, kAllObservations);
  EndSeries();
}

Status Translator::AddNumber(const Point& point) {
  if (!point.has_value && !point.no_recorded_value) return InvalidArgument("the point has no value");
  // A gauge has none in Prometheus's model.
  AddFloat(point, name_, {}, point.value, metric_.kind == MetricKind::kSum ? kAllObservations : ObservationRange());
  return Status::Ok();
}

Status Translator::AddClassicHistogram(const Point& point) {
  MS_RETURN_IF_ERROR(CheckBounds(point));
  // A point that says nothing has no sum; the one before it may have had one.
  if (point.has_sum || point.no_recorded_value) AddFloat(point, name_ + "_sum", {}, point.sum);
  AddFloat(point, name_ + "_count", {}, static_cast<double>(point.count));
  const std::string bucket = name_ + "_bucket";
  uint64_t below = 0;
  for (size_t i = 0; i < point.bounds.size(); ++i) {
    below += point.bucket_counts[i];
    AddFloat(point, bucket, {"le", DecimalText(point.bounds[i])}, static_cast<double>(below),
             {i == 0 ? -kInfinity : point.bounds[i - 1], point.bounds[i]});
    MS_RETURN_IF_ERROR(CheckSize());
  }
  AddFloat(point, bucket, {"le", "+Inf"}, static_cast<double>(point.count),
           {point.bounds.empty() ? -kInfinity : point.bounds.back(), kInfinity});
  return Status::Ok();
}

Status Translator::AddCustomBuckets(const Point& point) {
  MS_ASSIGN_OR_RETURN(model::Histogram histogram, CustomBucketsHistogram(point));
  AddHistogram(point, std::move(histogram));
  return Status::Ok();
}

Status Translator::AddExponentialHistogram(const Point& point) {
  MS_ASSIGN_OR_RETURN(model::Histogram histogram, ExponentialHistogram(point));
  AddHistogram(point, std::move(histogram));
  return Status::Ok();
}

Status Translator::AddSummary(const Point& point) {
  if (point.quantiles.size() > kQuantilesMax) return InvalidArgument("more than {} quantiles", kQuantilesMax);
  AddFloat(point, name_ + "_sum", {}, point.sum);
  AddFloat(point, name_ + "_count", {}, static_cast<double>(point.count));
  for (const QuantileValue& quantile : point.quantiles) {
    AddFloat(point, name_, {"quantile", DecimalText(quantile.quantile)}, quantile.value);
    MS_RETURN_IF_ERROR(CheckSize());
  }
  return Status::Ok();
}

void Translator::AddMetadata() {
  if (metadata_added_) return;
  metadata_added_ = true;
  model::MetricMetadata metadata;
  metadata.metric = name_;
  metadata.help = metric_.description;
  metadata.unit = UnitName(metric_.unit);
  switch (metric_.kind) {
    case MetricKind::kSum:
      metadata.type = metric_.monotonic ? "counter" : "gauge";
      break;
    case MetricKind::kHistogram:
    case MetricKind::kExponentialHistogram:
      metadata.type = "histogram";
      break;
    case MetricKind::kSummary:
      metadata.type = "summary";
      break;
    case MetricKind::kGauge:
    case MetricKind::kNone:
      metadata.type = "gauge";
      break;
  }
  if (!IsValidUtf8(metadata.help)) metadata.help.clear();
  out_.metadata.push_back(std::move(metadata));
}

// target_info: what else is known of the resource, for joins by job and instance.
Status Translator::EndResource() {
  if (first_ns_ > last_ns_ || (job_.empty() && instance_.empty())) return Status::Ok();
  const bool describes =
      std::ranges::any_of(resource_->items, [](const Attribute& attribute) { return !IsIdentifying(attribute.key); });
  if (!describes) return Status::Ok();
  if (!MakeLabels(*resource_, false).ok()) return Status::Ok();
  uint64_t steps = (last_ns_ - first_ns_ + kTargetInfoStepNs - 1) / kTargetInfoStepNs;
  steps = std::min<uint64_t>(steps, kOtlpTargetInfoMax - 1);
  BeginSeries(kTargetInfo, {}, false);
  out_.series.back().item = first_item_;
  const auto add = [this](uint64_t ns) {
    out_.timestamps.push_back(ToMs(ns));
    out_.values.push_back(1);
  };
  for (uint64_t i = 0; i < steps; ++i) add(first_ns_ + i * kTargetInfoStepNs);
  add(last_ns_);
  EndSeries();
  out_.metadata.push_back({.metric = std::string(kTargetInfo), .type = "gauge", .help = "Target metadata", .unit = ""});
  return CheckSize();
}

Status Translator::CheckSize() const {
  if (out_.timestamps.size() + out_.histograms.size() > kOtlpSamplesMax) {
    return InvalidArgument("more than {} samples in one request", kOtlpSamplesMax);
  }
  if (out_.bytes->size() > kOtlpLabelBytesMax) {
    return InvalidArgument("the labels of the request's series take more than {} bytes", kOtlpLabelBytesMax);
  }
  return Status::Ok();
}

DecodedWrite Translator::Take() {
  for (size_t i = 0; i < out_.series.size(); ++i) {
    out_.series[i].raw_labels = std::string_view(*out_.bytes).substr(raw_ranges_[i].first, raw_ranges_[i].second);
  }
  out_.items = item_;
  out_.delta_limits = options_.delta_limits;
  return std::move(out_);
}

}  // namespace millstream::wire::otlp

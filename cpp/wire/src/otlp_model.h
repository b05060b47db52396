// What an OTLP request says, one piece after the other: both encodings are read into these, and the translation sees no
// difference.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millstream/base/status.h"
#include "millstream/wire/otlp.h"

namespace millstream::wire::otlp {

struct Attribute {
  std::string_view key;
  std::string_view value;  // as text
};

// Keys and values borrow from the body, or from `owned` where a value had to be made into text.
struct Attributes {
  std::vector<Attribute> items;
  std::deque<std::string> owned;
  bool too_many = false;  // more than kOtlpAttributesMax; the rest was left out

  void Clear() {
    items.clear();
    owned.clear();
    too_many = false;
  }
  void Add(std::string_view key, std::string_view value) {
    if (items.size() == kOtlpAttributesMax) {
      too_many = true;
    } else {
      items.push_back({key, value});
    }
  }
  std::string_view Keep(std::string text) { return owned.emplace_back(std::move(text)); }
};

// `fault`, here and below: what of it could not be read; then it is refused, with all points in it.
struct Resource {
  Attributes attributes;
  Status fault;

  void Clear() {
    attributes.Clear();
    fault = Status::Ok();
  }
};

struct Scope {
  std::string_view name;
  std::string_view version;
  std::string_view schema_url;
  Attributes attributes;
  Status fault;
};

enum class MetricKind : uint8_t { kNone, kGauge, kSum, kHistogram, kExponentialHistogram, kSummary };
enum class Temporality : uint8_t { kUnspecified = 0, kDelta = 1, kCumulative = 2 };

struct Metric {
  std::string_view name;
  std::string_view description;
  std::string_view unit;
  MetricKind kind = MetricKind::kNone;
  Temporality temporality = Temporality::kUnspecified;
  bool monotonic = false;
  Status fault;
};

struct Buckets {
  int32_t offset = 0;
  std::vector<uint64_t> counts;
};

struct QuantileValue {
  double quantile = 0;
  double value = 0;
};

// Exemplars of one point; what it has more is left out.
inline constexpr size_t kExemplarsMax = 256;

struct PointExemplar {
  uint64_t time_ns = 0;
  bool has_value = false;
  double value = 0;
  std::string trace_id;  // in hexadecimal digits
  std::string span_id;
  Attributes attributes;

  void Clear() {
    time_ns = 0;
    has_value = false;
    value = 0;
    trace_id.clear();
    span_id.clear();
    attributes.Clear();
  }
};

// A data point of any kind; what its kind does not have stays as it is here.
struct Point {
  Attributes attributes;
  uint64_t start_ns = 0;
  uint64_t time_ns = 0;
  bool no_recorded_value = false;

  bool has_value = false;  // of a number
  double value = 0;

  uint64_t count = 0;
  bool has_sum = false;
  double sum = 0;

  std::vector<uint64_t> bucket_counts;
  std::vector<double> bounds;

  int32_t scale = 0;
  uint64_t zero_count = 0;
  double zero_threshold = 0;
  Buckets positive;
  Buckets negative;

  std::vector<QuantileValue> quantiles;

  Status fault;

  std::span<const PointExemplar> exemplars() const { return std::span(exemplars_).first(exemplars_used_); }
  // Null when there is no room for another.
  PointExemplar* AddExemplar() {
    if (exemplars_used_ == kExemplarsMax) return nullptr;
    if (exemplars_used_ == exemplars_.size()) exemplars_.emplace_back();
    PointExemplar* added = &exemplars_[exemplars_used_++];
    added->Clear();
    return added;
  }
  // The one that was added last.
  void DropExemplar() { --exemplars_used_; }

  void Clear() {
    exemplars_used_ = 0;
    attributes.Clear();
    start_ns = time_ns = count = zero_count = 0;
    no_recorded_value = has_value = has_sum = false;
    value = sum = zero_threshold = 0;
    scale = positive.offset = negative.offset = 0;
    bucket_counts.clear();
    bounds.clear();
    positive.counts.clear();
    negative.counts.clear();
    quantiles.clear();
    fault = Status::Ok();
  }

 private:
  // Kept from point to point, so that their memory is.
  std::vector<PointExemplar> exemplars_;
  size_t exemplars_used_ = 0;
};

// Told what a request says, in its order. What it is given is valid for the call, but a resource's, a scope's and a
// metric's own until the next one begins. An error ends the request.
class Visitor {
 public:
  virtual ~Visitor() = default;

  virtual Status BeginResource(const Resource& resource) = 0;
  virtual Status BeginScope(const Scope& scope) = 0;
  virtual Status BeginMetric(const Metric& metric) = 0;
  virtual Status OnPoint(const Point& point) = 0;
  virtual Status EndResource() = 0;
};

// kInvalidArgument where the body is malformed, which in protobuf is where its bytes are no messages; the visitor's
// error where it returns one.
Status ReadProtobuf(std::string_view body, Visitor& visitor);
Status ReadJson(std::string_view body, Visitor& visitor);

inline constexpr uint64_t kNoRecordedValueFlag = 1;

}  // namespace millstream::wire::otlp

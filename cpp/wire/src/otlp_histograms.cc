#include "otlp_histograms.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace millstream::wire::otlp {
namespace {

// What Prometheus takes for a point that states no threshold.
constexpr double kDefaultZeroThreshold = 1e-128;
// Fewer empty buckets than this between others are written out: a span costs more.
constexpr int64_t kGapMin = 3;

// Appends buckets by ascending index to spans and counts.
class BucketWriter {
 public:
  BucketWriter(std::vector<model::Span>* spans, std::vector<double>* counts) : spans_(spans), counts_(counts) {}

  Status Add(int64_t index, uint64_t count) {
    if (index < std::numeric_limits<int32_t>::min() || index > std::numeric_limits<int32_t>::max()) {
      return InvalidArgument("bucket {} is out of range", index);
    }
    const int64_t gap = spans_->empty() ? index : index - next_;
    if (spans_->empty() || gap >= kGapMin) {
      if (gap > std::numeric_limits<int32_t>::max()) return InvalidArgument("bucket {} is out of range", index);
      spans_->push_back({.offset = static_cast<int32_t>(gap), .length = 0});
    } else {
      spans_->back().length += static_cast<uint32_t>(gap);
      counts_->insert(counts_->end(), static_cast<size_t>(gap), 0);
    }
    ++spans_->back().length;
    counts_->push_back(static_cast<double>(count));
    next_ = index + 1;
    return Status::Ok();
  }

 private:
  std::vector<model::Span>* const spans_;
  std::vector<double>* const counts_;
  int64_t next_ = 0;
};

class Total {
 public:
  void Add(uint64_t count) { overflow_ = __builtin_add_overflow(total_, count, &total_) || overflow_; }
  // Observations that are NaN are in the count and the sum, and in no bucket.
  Status Check(const Point& point) const {
    if (!overflow_ && (total_ == point.count || (std::isnan(point.sum) && total_ < point.count))) return Status::Ok();
    return InvalidArgument("the buckets do not hold the {} observations that the count says", point.count);
  }

 private:
  uint64_t total_ = 0;
  bool overflow_ = false;
};

// `coarser`: how many neighbouring buckets, as a power of two, become one.
Status WriteExponential(const Buckets& buckets, int coarser, Total* total, std::vector<model::Span>* spans,
                        std::vector<double>* counts) {
  if (buckets.counts.size() > model::kHistogramBucketsMax) {
    return InvalidArgument("{} buckets; the limit is {}", buckets.counts.size(), model::kHistogramBucketsMax);
  }
  BucketWriter writer(spans, counts);
  int64_t index = 0;
  uint64_t count = 0;
  for (size_t i = 0; i < buckets.counts.size(); ++i) {
    const uint64_t own = buckets.counts[i];
    if (own == 0) continue;
    total->Add(own);
    // OTLP's bucket i is above base^i, the native one of that index ends there.
    const int64_t at = ((int64_t{buckets.offset} + static_cast<int64_t>(i)) >> coarser) + 1;
    if (count > 0 && at != index) {
      MS_RETURN_IF_ERROR(writer.Add(index, count));
      count = 0;
    }
    index = at;
    count += own;
  }
  return count > 0 ? writer.Add(index, count) : Status::Ok();
}

}  // namespace

Status CheckBounds(const Point& point) {
  const size_t buckets = point.bucket_counts.size();
  if (buckets == 0 && point.bounds.empty()) return Status::Ok();
  if (buckets != point.bounds.size() + 1) {
    return InvalidArgument("{} buckets and {} bounds; there must be one bucket more than bounds", buckets,
                           point.bounds.size());
  }
  for (size_t i = 0; i < point.bounds.size(); ++i) {
    if (!std::isfinite(point.bounds[i]) || (i > 0 && point.bounds[i] <= point.bounds[i - 1])) {
      return InvalidArgument("bound {} is not finite or not above the one before", i);
    }
  }
  return Status::Ok();
}

Result<model::Histogram> CustomBucketsHistogram(const Point& point) {
  MS_RETURN_IF_ERROR(CheckBounds(point));
  model::Histogram histogram;
  histogram.schema = model::kCustomBucketsSchema;
  histogram.custom_values = point.bounds;
  histogram.sum = point.has_sum ? point.sum : 0;
  histogram.count = static_cast<double>(point.count);
  BucketWriter writer(&histogram.positive_spans, &histogram.positive_buckets);
  // Without buckets all is in the one that has no bounds.
  if (point.bucket_counts.empty() && point.count > 0) MS_RETURN_IF_ERROR(writer.Add(0, point.count));
  Total total;
  for (size_t i = 0; i < point.bucket_counts.size(); ++i) {
    if (point.bucket_counts[i] == 0) continue;
    total.Add(point.bucket_counts[i]);
    MS_RETURN_IF_ERROR(writer.Add(static_cast<int64_t>(i), point.bucket_counts[i]));
  }
  if (!point.bucket_counts.empty()) MS_RETURN_IF_ERROR(total.Check(point));
  MS_RETURN_IF_ERROR(histogram.Validate());
  return histogram;
}

Result<model::Histogram> ExponentialHistogram(const Point& point) {
  model::Histogram histogram;
  if (point.scale < model::kExponentialSchemaMin) {
    return InvalidArgument("scale {} is below {}, the least that native histograms have", point.scale,
                           model::kExponentialSchemaMin);
  }
  histogram.schema = std::min(point.scale, model::kExponentialSchemaMax);
  // Past 62 every bucket of a side is in one of two anyway.
  const int coarser = std::min(point.scale - histogram.schema, 62);
  histogram.zero_threshold = point.zero_threshold == 0 ? kDefaultZeroThreshold : point.zero_threshold;
  histogram.zero_count = static_cast<double>(point.zero_count);
  histogram.sum = point.has_sum ? point.sum : 0;
  histogram.count = static_cast<double>(point.count);
  Total total;
  total.Add(point.zero_count);
  MS_RETURN_IF_ERROR(
      WriteExponential(point.positive, coarser, &total, &histogram.positive_spans, &histogram.positive_buckets));
  MS_RETURN_IF_ERROR(
      WriteExponential(point.negative, coarser, &total, &histogram.negative_spans, &histogram.negative_buckets));
  if (!point.no_recorded_value) MS_RETURN_IF_ERROR(total.Check(point));
  MS_RETURN_IF_ERROR(histogram.Validate());
  return histogram;
}

}  // namespace millstream::wire::otlp

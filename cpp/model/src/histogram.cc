#include "millstream/model/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <span>
#include <string_view>

namespace millstream::model {
namespace {

Status ValidateSide(std::string_view side, std::span<const Span> spans, std::span<const double> buckets) {
  uint64_t covered = 0;
  for (size_t i = 0; i < spans.size(); ++i) {
    if (i > 0 && spans[i].offset < 0) {
      return InvalidArgument("{} span {} has the negative offset {}", side, i, spans[i].offset);
    }
    covered += spans[i].length;
  }
  if (covered != buckets.size()) {
    return InvalidArgument("{} spans cover {} buckets, but there are {}", side, covered, buckets.size());
  }
  for (size_t i = 0; i < buckets.size(); ++i) {
    if (buckets[i] < 0) return InvalidArgument("{} bucket {} has the negative count {}", side, i, buckets[i]);
  }
  return Status::Ok();
}

bool SameBits(double a, double b) {
  return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b);
}

bool SameBits(std::span<const double> a, std::span<const double> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](double x, double y) { return SameBits(x, y); });
}

}  // namespace

Status Histogram::Validate() const {
  const bool exponential = schema >= kExponentialSchemaMin && schema <= kExponentialSchemaMax;
  if (!exponential && !uses_custom_buckets()) {
    return InvalidArgument("histogram schema {} is neither {} to {} nor {}", schema, kExponentialSchemaMin,
                           kExponentialSchemaMax, kCustomBucketsSchema);
  }
  if (positive_buckets.size() > kHistogramBucketsMax || negative_buckets.size() > kHistogramBucketsMax) {
    return InvalidArgument("histogram has more than {} buckets on one side", kHistogramBucketsMax);
  }
  if (uses_custom_buckets()) {
    if (!negative_spans.empty() || !negative_buckets.empty() || zero_count != 0 || zero_threshold != 0) {
      return InvalidArgument("a histogram with custom buckets has neither negative nor zero buckets");
    }
    for (size_t i = 0; i < custom_values.size(); ++i) {
      if (!std::isfinite(custom_values[i]) || (i > 0 && custom_values[i] <= custom_values[i - 1])) {
        return InvalidArgument("custom bucket bound {} is not finite and ascending", i);
      }
    }
    int64_t index = 0;
    for (const Span& span : positive_spans) {
      index += span.offset;
      if (index < 0) return InvalidArgument("a span begins before the first custom bucket");
      index += span.length;
    }
    if (index > static_cast<int64_t>(custom_values.size()) + 1) {
      return InvalidArgument("spans reach bucket {}, but {} custom bounds make {} buckets", index - 1,
                             custom_values.size(), custom_values.size() + 1);
    }
  } else if (!custom_values.empty()) {
    return InvalidArgument("custom bounds need schema {}, not {}", kCustomBucketsSchema, schema);
  }
  if (zero_count < 0) return InvalidArgument("the zero bucket has the negative count {}", zero_count);
  if (count < 0) return InvalidArgument("the histogram has the negative count {}", count);
  if (zero_threshold < 0) return InvalidArgument("the zero threshold {} is negative", zero_threshold);
  MS_RETURN_IF_ERROR(ValidateSide("positive", positive_spans, positive_buckets));
  return ValidateSide("negative", negative_spans, negative_buckets);
}

bool Histogram::IdenticalTo(const Histogram& other) const {
  return counter_reset_hint == other.counter_reset_hint && schema == other.schema &&
         SameBits(zero_threshold, other.zero_threshold) && SameBits(zero_count, other.zero_count) &&
         SameBits(count, other.count) && SameBits(sum, other.sum) && positive_spans == other.positive_spans &&
         negative_spans == other.negative_spans && SameBits(positive_buckets, other.positive_buckets) &&
         SameBits(negative_buckets, other.negative_buckets) && SameBits(custom_values, other.custom_values);
}

}  // namespace millstream::model

#include "compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "millstream/model/histogram_math.h"
#include "millstream/model/value.h"

namespace millstream::promqltest {
namespace {

constexpr double kEpsilon = 1e-6;

bool AlmostEqual(const std::vector<double>& a, const std::vector<double>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](double x, double y) { return promqltest::AlmostEqual(x, y); });
}

std::string_view HintName(model::CounterResetHint hint) {
  switch (hint) {
    case model::CounterResetHint::kUnknown:
      return "unknown";
    case model::CounterResetHint::kReset:
      return "reset";
    case model::CounterResetHint::kNotReset:
      return "not_reset";
    case model::CounterResetHint::kGauge:
      return "gauge";
  }
  return {};
}

bool SameHistogram(const SequenceValue& expected, const model::Histogram& got) {
  model::Histogram a = *expected.histogram;
  model::Histogram b = got;
  model::Compact(&a);
  model::Compact(&b);
  return a.schema == b.schema && promqltest::AlmostEqual(a.count, b.count) && promqltest::AlmostEqual(a.sum, b.sum) &&
         a.zero_threshold == b.zero_threshold && promqltest::AlmostEqual(a.zero_count, b.zero_count) &&
         a.positive_spans == b.positive_spans && a.negative_spans == b.negative_spans &&
         AlmostEqual(a.positive_buckets, b.positive_buckets) && AlmostEqual(a.negative_buckets, b.negative_buckets) &&
         (!a.uses_custom_buckets() || a.custom_values == b.custom_values) &&
         (!expected.hint_written || a.counter_reset_hint == b.counter_reset_hint);
}

std::string Describe(const model::Histogram& histogram) {
  return fmt::format("{} (schema {}, hint {})", model::ToString(histogram), histogram.schema,
                     HintName(histogram.counter_reset_hint));
}

std::string DescribeValue(double value, const model::Histogram* histogram) {
  return histogram != nullptr ? Describe(*histogram) : model::FormatG(value);
}

std::string Describe(const promql::Vector& vector) {
  std::string out;
  for (const promql::VectorSample& sample : vector) {
    out += fmt::format("\n  {} {}", sample.labels.ToString(), DescribeValue(sample.value, sample.histogram.get()));
  }
  return out.empty() ? " nothing" : out;
}

std::optional<std::string> CompareFloats(const std::vector<std::pair<TimestampMs, double>>& expected,
                                         const promql::MatrixSeries& got) {
  const auto describe = [&] {
    std::string out = "expected";
    for (const auto& [time, value] : expected) out += fmt::format(" {}@{}", model::FormatG(value), time);
    out += ", got";
    for (size_t i = 0; i < got.values.size(); ++i) {
      out += fmt::format(" {}@{}", model::FormatG(got.values[i]), got.timestamps[i]);
    }
    return out;
  };
  if (expected.size() != got.values.size()) return "numbers of floats differ: " + describe();
  for (size_t i = 0; i < expected.size(); ++i) {
    if (expected[i].first != got.timestamps[i] || !promqltest::AlmostEqual(expected[i].second, got.values[i])) {
      return fmt::format("float {} differs: {}", i, describe());
    }
  }
  return std::nullopt;
}

std::optional<std::string> CompareHistograms(const std::vector<std::pair<TimestampMs, const SequenceValue*>>& expected,
                                             const promql::MatrixSeries& got) {
  if (expected.size() != got.histograms.size()) {
    return fmt::format("expected {} histograms, got {}", expected.size(), got.histograms.size());
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    if (expected[i].first != got.histogram_timestamps[i] || !SameHistogram(*expected[i].second, *got.histograms[i])) {
      return fmt::format("histogram {} differs: expected {}@{}, got {}@{}", i, Describe(*expected[i].second->histogram),
                         expected[i].first, Describe(*got.histograms[i]), got.histogram_timestamps[i]);
    }
  }
  return std::nullopt;
}

}  // namespace

bool AlmostEqual(double a, double b) {
  if (model::IsStaleNan(a) || model::IsStaleNan(b)) return model::IsStaleNan(a) && model::IsStaleNan(b);
  if (std::isnan(a) && std::isnan(b)) return true;
  if (a == b) return true;
  const double smallest = std::numeric_limits<double>::min();
  const double sum = std::abs(a) + std::abs(b);
  const double difference = std::abs(a - b);
  if (a == 0 || b == 0 || sum < smallest) return difference < kEpsilon * smallest;
  return difference / std::min(sum, std::numeric_limits<double>::max()) < kEpsilon;
}

std::optional<std::string> CompareScalar(double expected, double got) {
  if (AlmostEqual(expected, got)) return std::nullopt;
  return fmt::format("expected scalar {}, got {}", model::FormatG(expected), model::FormatG(got));
}

std::optional<std::string> CompareVector(const EvalCommand& eval, const promql::Vector& got, bool in_order) {
  if (eval.expected_scalar) return "expected a scalar, got a vector";
  if (eval.expected_string) return "expected a string, got a vector";
  std::vector<bool> seen(eval.expected.size(), false);
  for (size_t i = 0; i < got.size(); ++i) {
    const promql::VectorSample& sample = got[i];
    const auto match = std::find_if(eval.expected.begin(), eval.expected.end(),
                                    [&](const ExpectedSeries& series) { return series.labels == sample.labels; });
    if (match == eval.expected.end()) {
      return fmt::format("unexpected series {} in result:{}", sample.labels.ToString(), Describe(got));
    }
    const auto index = static_cast<size_t>(match - eval.expected.begin());
    if (seen[index]) return fmt::format("series {} occurs twice in result", sample.labels.ToString());
    seen[index] = true;
    if (in_order && match->position != i) {
      return fmt::format("expected series {} at position {}, got it at {}", sample.labels.ToString(), match->position,
                         i);
    }
    if (match->values.empty() || match->values.front().omitted) {
      return fmt::format("the script gives no value for {}", sample.labels.ToString());
    }
    const SequenceValue& expected = match->values.front();
    const bool same = expected.histogram && sample.histogram
                          ? SameHistogram(expected, *sample.histogram)
                          : !expected.histogram && !sample.histogram && AlmostEqual(expected.value, sample.value);
    if (!same) {
      return fmt::format("{}: expected {}, got {}", sample.labels.ToString(),
                         DescribeValue(expected.value, expected.histogram.get()),
                         DescribeValue(sample.value, sample.histogram.get()));
    }
  }
  for (size_t i = 0; i < seen.size(); ++i) {
    if (!seen[i]) {
      return fmt::format("expected series {} is missing; got:{}", eval.expected[i].labels.ToString(), Describe(got));
    }
  }
  return std::nullopt;
}

std::optional<std::string> CompareMatrix(const EvalCommand& eval, const promql::Matrix& got) {
  if (eval.ordered) return "expected ordered result, but the query returned a matrix";
  if (eval.expected_string) return "expected a string, got a matrix";
  if (!std::is_sorted(got.begin(), got.end(), [](const auto& a, const auto& b) { return a.labels < b.labels; })) {
    return "the matrix is not sorted by labels";
  }
  std::vector<bool> seen(eval.expected.size(), false);
  for (const promql::MatrixSeries& series : got) {
    const auto match = std::find_if(eval.expected.begin(), eval.expected.end(),
                                    [&](const ExpectedSeries& other) { return other.labels == series.labels; });
    if (match == eval.expected.end()) {
      return fmt::format("unexpected series {} in result of {} series", series.labels.ToString(), got.size());
    }
    const auto index = static_cast<size_t>(match - eval.expected.begin());
    if (seen[index]) return fmt::format("series {} occurs twice in result", series.labels.ToString());
    seen[index] = true;
    std::vector<std::pair<TimestampMs, double>> floats;
    std::vector<std::pair<TimestampMs, const SequenceValue*>> histograms;
    for (size_t i = 0; i < match->values.size(); ++i) {
      const SequenceValue& value = match->values[i];
      if (value.omitted) continue;
      const TimestampMs time = eval.start + static_cast<int64_t>(i) * eval.step_ms;
      if (time > eval.end) {
        return fmt::format("expected point {} of {} is behind the end of the range", i, series.labels.ToString());
      }
      if (value.histogram) {
        histograms.emplace_back(time, &value);
      } else {
        floats.emplace_back(time, value.value);
      }
    }
    auto wrong = CompareFloats(floats, series);
    if (!wrong) wrong = CompareHistograms(histograms, series);
    if (wrong) return fmt::format("{}: {}", series.labels.ToString(), *wrong);
  }
  for (size_t i = 0; i < seen.size(); ++i) {
    if (!seen[i]) return fmt::format("expected series {} is missing", eval.expected[i].labels.ToString());
  }
  return std::nullopt;
}

}  // namespace millstream::promqltest

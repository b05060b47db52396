// Reads what DecodeOtlp made of a request as text, one line a sample.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "millstream/model/histogram_math.h"
#include "millstream/model/value.h"
#include "millstream/wire/labels_decoder.h"
#include "millstream/wire/otlp.h"

namespace millstream::wire {

using OtlpOptionMap = std::map<std::string, std::string, std::less<>>;

inline Result<DecodedWrite> DecodeWith(std::string_view body, OtlpEncoding encoding, const OtlpOptionMap& options) {
  MS_ASSIGN_OR_RETURN(const OtlpOptions parsed, OtlpOptions::Parse(options));
  return DecodeOtlp(body, encoding, parsed);
}

// "name{…} value@timestamp", with "<start" where a start is known and " delta" where it is.
inline std::vector<std::string> Lines(const DecodedWrite& decoded) {
  std::vector<std::string> out;
  const auto start = [](const std::vector<TimestampMs>& column, size_t i) {
    return i < column.size() && column[i] != 0 ? fmt::format("<{}", column[i]) : std::string();
  };
  for (const DecodedSeries& series : decoded.series) {
    const Result<model::Labels> labels = DecodeLabels(decoded.encoding, series.raw_labels);
    const std::string name = labels.ok() ? labels->ToString() : labels.status().ToString();
    const std::string_view delta = series.delta ? " delta" : "";
    for (uint32_t i = series.floats_begin; i < series.floats_end; ++i) {
      const std::string value = model::IsStaleNan(decoded.values[i]) ? "stale" : fmt::format("{}", decoded.values[i]);
      out.push_back(
          fmt::format("{} {}@{}{}{}", name, value, decoded.timestamps[i], start(decoded.start_timestamps, i), delta));
    }
    for (uint32_t i = series.histograms_begin; i < series.histograms_end; ++i) {
      const model::Histogram& histogram = decoded.histograms[i];
      const std::string value = model::IsStaleNan(histogram.sum) ? "stale" : model::ToString(histogram);
      out.push_back(fmt::format("{} {}@{}{}{}", name, value, decoded.histogram_timestamps[i],
                                start(decoded.histogram_start_timestamps, i), delta));
    }
  }
  return out;
}

inline std::vector<std::string> JsonLines(std::string_view body, const OtlpOptionMap& options = {}) {
  const Result<DecodedWrite> decoded = DecodeWith(body, OtlpEncoding::kJson, options);
  if (!decoded.ok()) return {decoded.status().ToString()};
  std::vector<std::string> out = Lines(*decoded);
  for (const ItemError& error : decoded->errors)
    out.push_back(fmt::format("{}: {}", error.item, error.reason.message()));
  return out;
}

// One metric of one resource that has nothing but a name for its job.
inline std::string MetricBody(std::string_view metric) {
  return fmt::format(
      R"({{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"j"}}}}]}},)"
      R"("scopeMetrics":[{{"metrics":[{}]}}]}}]}})",
      metric);
}

// One gauge of one point with these members beside its value and time.
inline std::string GaugeBody(std::string_view name, std::string_view unit, std::string_view attributes = "") {
  return MetricBody(fmt::format(
      R"({{"name":"{}","unit":"{}","gauge":{{"dataPoints":[{{"asDouble":1,"timeUnixNano":"1000000000","attributes":[{}]}}]}}}})",
      name, unit, attributes));
}

inline std::string TextAttribute(std::string_view key, std::string_view value) {
  return fmt::format(R"({{"key":"{}","value":{{"stringValue":"{}"}}}})", key, value);
}

}  // namespace millstream::wire

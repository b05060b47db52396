#include <variant>

#include "millstream/engine/database.h"
#include "millstream/model/histogram_math.h"
#include "millstream/wire/json_writer.h"

namespace millstream::engine {
namespace {

using wire::AppendFloat;
using wire::AppendJsonLabels;
using wire::AppendJsonString;
using wire::AppendSamplePair;
using wire::AppendTimestamp;

void AppendQuotedFloat(double value, std::string* out) {
  *out += '"';
  AppendFloat(value, out);
  *out += '"';
}

// [1435781451,{"count":"6","sum":"10","buckets":[[0,"1","2","6"]]}], empty buckets left out.
void AppendHistogramPair(TimestampMs timestamp, const model::Histogram& histogram, std::string* out) {
  *out += '[';
  AppendTimestamp(timestamp, out);
  *out += ",{\"count\":";
  AppendQuotedFloat(histogram.count, out);
  *out += ",\"sum\":";
  AppendQuotedFloat(histogram.sum, out);
  bool any = false;
  for (const model::Bucket& bucket : model::AllBuckets(histogram)) {
    if (bucket.count == 0) continue;
    *out += any ? ",[" : ",\"buckets\":[[";
    any = true;
    *out += static_cast<char>('0' + bucket.boundary_rule());
    for (const double number : {bucket.lower, bucket.upper, bucket.count}) {
      *out += ',';
      AppendQuotedFloat(number, out);
    }
    *out += ']';
  }
  *out += any ? "]}]" : "}]";
}

void AppendMetric(const model::Labels& labels, std::string* out) {
  *out += "{\"metric\":";
  AppendJsonLabels(labels, out);
}

void AppendVector(const promql::Vector& vector, std::string* out) {
  bool first = true;
  for (const promql::VectorSample& sample : vector) {
    if (!first) *out += ',';
    first = false;
    AppendMetric(sample.labels, out);
    if (sample.histogram != nullptr) {
      *out += ",\"histogram\":";
      AppendHistogramPair(sample.timestamp, *sample.histogram, out);
    } else {
      *out += ",\"value\":";
      AppendSamplePair(sample.timestamp, sample.value, out);
    }
    *out += '}';
  }
}

void AppendMatrix(const promql::Matrix& matrix, std::string* out) {
  bool first = true;
  for (const promql::MatrixSeries& series : matrix) {
    if (!first) *out += ',';
    first = false;
    AppendMetric(series.labels, out);
    if (!series.timestamps.empty()) {
      *out += ",\"values\":[";
      for (size_t i = 0; i < series.timestamps.size(); ++i) {
        if (i > 0) *out += ',';
        AppendSamplePair(series.timestamps[i], series.values[i], out);
      }
      *out += ']';
    }
    if (!series.histogram_timestamps.empty()) {
      *out += ",\"histograms\":[";
      for (size_t i = 0; i < series.histogram_timestamps.size(); ++i) {
        if (i > 0) *out += ',';
        AppendHistogramPair(series.histogram_timestamps[i], *series.histograms[i], out);
      }
      *out += ']';
    }
    *out += '}';
  }
}

}  // namespace

std::string ExemplarsJson(const std::vector<model::SeriesExemplars>& exemplars) {
  std::string out = "[";
  for (const model::SeriesExemplars& of_series : exemplars) {
    out += out.size() == 1 ? "{\"seriesLabels\":" : ",{\"seriesLabels\":";
    AppendJsonLabels(of_series.series, &out);
    out += ",\"exemplars\":[";
    bool first = true;
    for (const model::Exemplar& exemplar : of_series.exemplars) {
      out += first ? "{\"labels\":" : ",{\"labels\":";
      first = false;
      AppendJsonLabels(exemplar.labels, &out);
      out += ",\"value\":";
      AppendQuotedFloat(exemplar.value, &out);
      out += ",\"timestamp\":";
      AppendTimestamp(exemplar.timestamp, &out);
      out += '}';
    }
    out += "]}";
  }
  out += ']';
  return out;
}

std::string ResultJson(const promql::QueryResult& result) {
  std::string out = "{\"resultType\":";
  if (const auto* scalar = std::get_if<promql::Scalar>(&result.value)) {
    out += "\"scalar\",\"result\":";
    AppendSamplePair(scalar->timestamp, scalar->value, &out);
  } else if (const auto* text = std::get_if<promql::String>(&result.value)) {
    out += "\"string\",\"result\":[";
    AppendTimestamp(text->timestamp, &out);
    out += ',';
    AppendJsonString(text->value, &out);
    out += ']';
  } else if (const auto* vector = std::get_if<promql::Vector>(&result.value)) {
    out += "\"vector\",\"result\":[";
    AppendVector(*vector, &out);
    out += ']';
  } else {
    out += "\"matrix\",\"result\":[";
    AppendMatrix(std::get<promql::Matrix>(result.value), &out);
    out += ']';
  }
  return out + "}";
}

}  // namespace millstream::engine

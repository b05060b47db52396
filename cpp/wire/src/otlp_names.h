// The names that OTLP's metrics, attributes and units get in Prometheus's model.
//
// Source      OpenTelemetry specification, "Prometheus and OpenMetrics compatibility"; Prometheus's otlptranslator for
//             the order of the steps. docs/ingest.md has the tables.
#pragma once

#include <string>
#include <string_view>

#include "millstream/base/result.h"
#include "otlp_model.h"

namespace millstream::wire::otlp {

// kInvalidArgument when nothing is left of the name.
Result<std::string> MetricName(const Metric& metric, const OtlpOptions& options);

// kInvalidArgument when the key is empty, or only underscores are left of it.
Result<std::string> LabelName(std::string_view key, const OtlpOptions& options);

// The unit of the metadata: "By/s" is "bytes_per_second".
std::string UnitName(std::string_view unit);

// A double in decimals without an exponent, the shortest that reads back the same: values of le and quantile.
std::string DecimalText(double value);

}  // namespace millstream::wire::otlp

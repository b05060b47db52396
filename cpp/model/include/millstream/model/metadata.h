// Metadata of a metric: what a person is told about it. It never takes part in a series' identity.
#pragma once

#include <string>

namespace millstream::model {

struct MetricMetadata {
  std::string metric;
  std::string type;  // counter, gauge, histogram, gaugehistogram, summary, info, stateset, unknown
  std::string help;
  std::string unit;

  friend bool operator==(const MetricMetadata&, const MetricMetadata&) = default;
};

}  // namespace millstream::model

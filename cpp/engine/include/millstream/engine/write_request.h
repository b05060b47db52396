// WriteRequest: a body as it came from a client, and the name of the format that it is in.
//
// Formats     remote_write   remote write 1.0: a prometheus.WriteRequest in a snappy block; items are series, from 0
//             remote_write_2 remote write 2.0: an io.prometheus.write.v2.Request in a snappy block; items likewise
//             text           text exposition of Prometheus; items are lines, from 1. Option stale=true: every sample is
//                            a staleness marker, whatever its value
//             open_metrics   text exposition of OpenMetrics 1.0; items are lines, from 1
//             json           {"metrics":[…]}; items are its elements, from 0
//             otlp           an ExportMetricsServiceRequest; items are data points, from 0. Options: as `otlp.*` of the
//                            gateway's settings; a switch is true or false, a list is separated by commas
//             otlp_json      the same in JSON
//             influx         line protocol; items are lines, from 1. Option precision: unit of its timestamps
//             opentsdb       OpenTSDB's JSON put, a point or an array; items are points, from 0
//             columns        a column batch (docs/formats/native.md); items are series, from 0
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "millstream/base/result.h"
#include "millstream/base/status.h"
#include "millstream/base/strong_int.h"
#include "millstream/storage/series_filter.h"
#include "millstream/storage/series_limits.h"

namespace millstream::engine {

// What a format lets its caller choose, by name. One that the format does not know is kInvalidArgument.
using WriteOptions = std::map<std::string, std::string, std::less<>>;

struct WriteRequest {
  std::string_view format;
  std::string_view body;
  TimestampMs default_timestamp = 0;  // of samples that have none
  WriteOptions options = {};
  // What the writer may write; series outside are refused by themselves.
  storage::SeriesFilter filter = {};
  // New series of the tenant beyond them are refused by themselves.
  storage::SeriesLimits series = {};
};

// kInvalidArgument unless the format is known and takes these options.
Status CheckWriteOptions(std::string_view format, const WriteOptions& options);

// How many of its series the filter of a request refuses; nothing is written.
Result<uint64_t> CountForbidden(const WriteRequest& request);

}  // namespace millstream::engine

// OTLP metrics: an ExportMetricsServiceRequest as protobuf or as JSON, and its translation into Prometheus's model.
//
// docs/ingest.md has the mapping as tables: names, units, resource and scope attributes, every kind of point.
// Errors      kInvalidArgument: the body as a whole is malformed, or says more than a limit allows, which sending it
//             again cannot change; nothing of it may be stored. A data point that breaks a rule is refused by itself;
//             items count data points from 0, in the order of the request.
// Delta       Series of delta temporality come out as they are, with DecodedSeries::delta set: whoever stores them adds
//             them up first.
// Limits      Below; a label set's own limits are those of labels_decoder.h.
// Source      opentelemetry-proto 1.x; the OpenTelemetry specification, "Prometheus and OpenMetrics compatibility";
//             Prometheus's OTLP receiver for what that leaves open.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/wire/decoded_write.h"

namespace millstream::wire {

inline constexpr size_t kOtlpBytesMax = 64 << 20;
inline constexpr size_t kOtlpSamplesMax = 2'000'000;
// A point's labels repeat what its resource and scope say, so that a small body can ask for a lot.
inline constexpr size_t kOtlpLabelBytesMax = size_t{128} << 20;
inline constexpr size_t kOtlpAttributesMax = 128;    // of a resource, a scope or a point
inline constexpr int kOtlpValueDepthMax = 16;        // of arrays and maps in an attribute's value
inline constexpr size_t kOtlpTargetInfoMax = 1'000;  // samples of target_info for one resource

enum class OtlpEncoding : uint8_t { kProtobuf, kJson };

struct OtlpOptions {
  // The name translation strategy, as its two halves.
  bool escape_names = true;
  bool add_suffixes = true;
  // Both only where names are escaped.
  bool label_name_underscore_sanitization = true;
  bool label_name_preserve_multiple_underscores = true;

  bool promote_all_resource_attributes = false;
  std::vector<std::string> promote_resource_attributes;
  std::vector<std::string> ignore_resource_attributes;  // of all that are promoted
  bool keep_identifying_resource_attributes = false;
  bool promote_scope_metadata = false;
  bool convert_histograms_to_nhcb = false;
  bool accept_delta = true;
  DeltaLimits delta_limits;

  // By name, as the gateway's `otlp.*` settings write them: lists are separated by commas, switches are true or false.
  // Absent ones have their defaults. kInvalidArgument names what is not understood.
  static Result<OtlpOptions> Parse(const std::map<std::string, std::string, std::less<>>& options);
};

Result<DecodedWrite> DecodeOtlp(std::string_view body, OtlpEncoding encoding, const OtlpOptions& options);

}  // namespace millstream::wire

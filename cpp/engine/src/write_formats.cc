#include "write_formats.h"

#include <algorithm>
#include <optional>
#include <span>
#include <string>

#include "millstream/model/value.h"
#include "millstream/wire/column_batch.h"
#include "millstream/wire/json_metrics.h"
#include "millstream/wire/line_protocol.h"
#include "millstream/wire/opentsdb_json.h"
#include "millstream/wire/otlp.h"
#include "millstream/wire/remote_write.h"
#include "millstream/wire/text_exposition.h"

namespace millstream::engine {
namespace {

using Decoder = Result<wire::DecodedWrite> (*)(const WriteRequest&);

struct Format {
  std::string_view name;
  Decoder decode;
  std::span<const std::string_view> options = {};
  Status (*check)(const WriteOptions& options) = nullptr;  // of their values
};

Result<wire::DecodedWrite> RemoteWrite(const WriteRequest& request) {
  return wire::DecodeRemoteWrite(request.body);
}

Result<wire::DecodedWrite> RemoteWrite2(const WriteRequest& request) {
  return wire::DecodeRemoteWriteV2(request.body);
}

constexpr std::string_view kTextOptions[] = {"stale"};

template <wire::TextFormat kFormat>
Result<wire::DecodedWrite> Text(const WriteRequest& request) {
  wire::DecodedWrite decoded =
      wire::DecodeTextExposition(std::string(request.body), kFormat, request.default_timestamp);
  if (const auto stale = request.options.find("stale"); stale != request.options.end()) {
    if (stale->second != "true") return InvalidArgument("the option stale can only be true");
    std::ranges::fill(decoded.values, model::StaleNan());
  }
  return decoded;
}

Result<wire::DecodedWrite> Json(const WriteRequest& request) {
  return wire::DecodeJsonMetrics(request.body, request.default_timestamp);
}

constexpr std::string_view kOtlpOptions[] = {
    "convert_histograms_to_nhcb",
    "delta",
    "delta_series",
    "delta_stale_ms",
    "ignore_resource_attributes",
    "keep_identifying_resource_attributes",
    "label_name_preserve_multiple_underscores",
    "label_name_underscore_sanitization",
    "promote_all_resource_attributes",
    "promote_resource_attributes",
    "promote_scope_metadata",
    "translation_strategy",
};

template <wire::OtlpEncoding kEncoding>
Result<wire::DecodedWrite> Otlp(const WriteRequest& request) {
  MS_ASSIGN_OR_RETURN(const wire::OtlpOptions options, wire::OtlpOptions::Parse(request.options));
  return wire::DecodeOtlp(request.body, kEncoding, options);
}

Status CheckOtlp(const WriteOptions& options) {
  return wire::OtlpOptions::Parse(options).status();
}

constexpr std::string_view kInfluxOptions[] = {"precision"};

Result<wire::DecodedWrite> Influx(const WriteRequest& request) {
  const auto given = request.options.find("precision");
  const std::string_view name = given == request.options.end() ? std::string_view() : given->second;
  const std::optional<wire::LinePrecision> precision = wire::ParseLinePrecision(name);
  if (!precision) return InvalidArgument("precision \"{}\" is none of ns, us, ms, s, m, h", name);
  return wire::DecodeLineProtocol(request.body, *precision, request.default_timestamp);
}

Result<wire::DecodedWrite> OpenTsdb(const WriteRequest& request) {
  return wire::DecodeOpenTsdbJson(request.body);
}

Result<wire::DecodedWrite> Columns(const WriteRequest& request) {
  return wire::DecodeColumnBatch(std::string(request.body));
}

constexpr Format kFormats[] = {
    {"remote_write", RemoteWrite},
    {"remote_write_2", RemoteWrite2},
    {"text", Text<wire::TextFormat::kPrometheus>, kTextOptions},
    {"open_metrics", Text<wire::TextFormat::kOpenMetrics>},
    {"json", Json},
    {"otlp", Otlp<wire::OtlpEncoding::kProtobuf>, kOtlpOptions, CheckOtlp},
    {"otlp_json", Otlp<wire::OtlpEncoding::kJson>, kOtlpOptions, CheckOtlp},
    {"influx", Influx, kInfluxOptions},
    {"opentsdb", OpenTsdb},
    {"columns", Columns},
};

Result<const Format*> Find(std::string_view name, const WriteOptions& options) {
  const auto* const format = std::ranges::find(kFormats, name, &Format::name);
  if (format == std::end(kFormats)) return InvalidArgument("there is no write format \"{}\"", name);
  for (const auto& [option, value] : options) {
    if (std::ranges::find(format->options, option) == format->options.end()) {
      return InvalidArgument("the write format {} has no option \"{}\"", format->name, option);
    }
  }
  return format;
}

}  // namespace

Result<wire::DecodedWrite> Decode(const WriteRequest& request) {
  MS_ASSIGN_OR_RETURN(const Format* const format, Find(request.format, request.options));
  return format->decode(request);
}

Status CheckWriteOptions(std::string_view format, const WriteOptions& options) {
  MS_ASSIGN_OR_RETURN(const Format* const found, Find(format, options));
  return found->check == nullptr ? Status::Ok() : found->check(options);
}

}  // namespace millstream::engine

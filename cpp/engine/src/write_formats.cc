#include "write_formats.h"

#include <algorithm>
#include <span>
#include <string>

#include "millstream/wire/json_metrics.h"
#include "millstream/wire/remote_write.h"
#include "millstream/wire/text_exposition.h"

namespace millstream::engine {
namespace {

using Decoder = Result<wire::DecodedWrite> (*)(const WriteRequest&);

struct Format {
  std::string_view name;
  Decoder decode;
  std::span<const std::string_view> options = {};
};

Result<wire::DecodedWrite> RemoteWrite(const WriteRequest& request) {
  return wire::DecodeRemoteWrite(request.body);
}

Result<wire::DecodedWrite> RemoteWrite2(const WriteRequest& request) {
  return wire::DecodeRemoteWriteV2(request.body);
}

template <wire::TextFormat kFormat>
Result<wire::DecodedWrite> Text(const WriteRequest& request) {
  return wire::DecodeTextExposition(std::string(request.body), kFormat, request.default_timestamp);
}

Result<wire::DecodedWrite> Json(const WriteRequest& request) {
  return wire::DecodeJsonMetrics(request.body, request.default_timestamp);
}

constexpr Format kFormats[] = {
    {"remote_write", RemoteWrite},
    {"remote_write_2", RemoteWrite2},
    {"text", Text<wire::TextFormat::kPrometheus>},
    {"open_metrics", Text<wire::TextFormat::kOpenMetrics>},
    {"json", Json},
};

}  // namespace

Result<wire::DecodedWrite> Decode(const WriteRequest& request) {
  const auto* const format = std::ranges::find(kFormats, request.format, &Format::name);
  if (format == std::end(kFormats)) return InvalidArgument("there is no write format \"{}\"", request.format);
  for (const auto& [option, value] : request.options) {
    if (std::ranges::find(format->options, option) == format->options.end()) {
      return InvalidArgument("the write format {} has no option \"{}\"", format->name, option);
    }
  }
  return format->decode(request);
}

}  // namespace millstream::engine

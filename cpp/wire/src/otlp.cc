#include "millstream/wire/otlp.h"

#include <algorithm>
#include <charconv>

#include "otlp_model.h"
#include "otlp_translator.h"

namespace millstream::wire {
namespace {

Status ReadSwitch(std::string_view name, std::string_view text, bool* out) {
  if (text != "true" && text != "false") {
    return InvalidArgument("{} must be true or false, not \"{}\"", name, text);
  }
  *out = text == "true";
  return Status::Ok();
}

std::vector<std::string> List(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    if (comma != 0) out.emplace_back(text.substr(0, comma));
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
  }
  return out;
}

Status ReadStrategy(std::string_view text, OtlpOptions* out) {
  struct Strategy {
    std::string_view name;
    bool escape;
    bool suffixes;
  };
  constexpr Strategy kStrategies[] = {
      {"UnderscoreEscapingWithSuffixes", true, true},
      {"UnderscoreEscapingWithoutSuffixes", true, false},
      {"NoUTF8EscapingWithSuffixes", false, true},
      {"NoTranslation", false, false},
  };
  const auto* const found = std::ranges::find(kStrategies, text, &Strategy::name);
  if (found == std::end(kStrategies)) return InvalidArgument("unknown translation_strategy \"{}\"", text);
  out->escape_names = found->escape;
  out->add_suffixes = found->suffixes;
  return Status::Ok();
}

Status ReadDelta(std::string_view text, OtlpOptions* out) {
  if (text != "convert" && text != "refuse")
    return InvalidArgument("delta must be convert or refuse, not \"{}\"", text);
  out->accept_delta = text == "convert";
  return Status::Ok();
}

template <typename Integer>
Status ReadNumber(std::string_view name, std::string_view text, Integer* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  if (error != std::errc() || end != text.data() + text.size() || *out < 0) {
    return InvalidArgument("{} must be a whole number, not \"{}\"", name, text);
  }
  return Status::Ok();
}

}  // namespace

Result<OtlpOptions> OtlpOptions::Parse(const std::map<std::string, std::string, std::less<>>& options) {
  OtlpOptions out;
  const std::pair<std::string_view, bool*> switches[] = {
      {"label_name_underscore_sanitization", &out.label_name_underscore_sanitization},
      {"label_name_preserve_multiple_underscores", &out.label_name_preserve_multiple_underscores},
      {"promote_all_resource_attributes", &out.promote_all_resource_attributes},
      {"keep_identifying_resource_attributes", &out.keep_identifying_resource_attributes},
      {"promote_scope_metadata", &out.promote_scope_metadata},
      {"convert_histograms_to_nhcb", &out.convert_histograms_to_nhcb},
  };
  for (const auto& [name, value] : options) {
    const auto* const found =
        std::ranges::find(switches, std::string_view(name), &std::pair<std::string_view, bool*>::first);
    if (found != std::end(switches)) {
      MS_RETURN_IF_ERROR(ReadSwitch(name, value, found->second));
    } else if (name == "translation_strategy") {
      MS_RETURN_IF_ERROR(ReadStrategy(value, &out));
    } else if (name == "delta") {
      MS_RETURN_IF_ERROR(ReadDelta(value, &out));
    } else if (name == "delta_stale_ms") {
      MS_RETURN_IF_ERROR(ReadNumber(name, value, &out.delta_limits.stale_ms));
    } else if (name == "delta_series") {
      MS_RETURN_IF_ERROR(ReadNumber(name, value, &out.delta_limits.series_max));
    } else if (name == "promote_resource_attributes") {
      out.promote_resource_attributes = List(value);
    } else if (name == "ignore_resource_attributes") {
      out.ignore_resource_attributes = List(value);
    } else {
      return InvalidArgument("OTLP has no option \"{}\"", name);
    }
  }
  return out;
}

Result<DecodedWrite> DecodeOtlp(std::string_view body, OtlpEncoding encoding, const OtlpOptions& options) {
  if (body.size() > kOtlpBytesMax) {
    return InvalidArgument("the body has {} bytes; the limit is {}", body.size(), kOtlpBytesMax);
  }
  otlp::Translator translator(options);
  MS_RETURN_IF_ERROR(encoding == OtlpEncoding::kProtobuf ? otlp::ReadProtobuf(body, translator)
                                                         : otlp::ReadJson(body, translator));
  return translator.Take();
}

}  // namespace millstream::wire

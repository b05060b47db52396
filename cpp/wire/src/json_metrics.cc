#include "millstream/wire/json_metrics.h"

#include <simdjson.h>

#include <cmath>
#include <utility>

#include "millstream/model/labels.h"
#include "millstream/wire/labels_decoder.h"

namespace millstream::wire {
namespace {

namespace dom = simdjson::dom;

std::string_view TypeName(dom::element element) {
  switch (element.type()) {
    case dom::element_type::ARRAY:
      return "an array";
    case dom::element_type::OBJECT:
      return "an object";
    case dom::element_type::STRING:
      return "a string";
    case dom::element_type::BOOL:
      return "a boolean";
    case dom::element_type::NULL_VALUE:
      return "null";
    default:
      return "a number";
  }
}

Status WrongType(std::string_view field, std::string_view expected, dom::element got) {
  return InvalidArgument("{} must be {}, not {}", model::Quote(field), expected, TypeName(got));
}

// Reads one item: its labels as pairs into *raw, its sample into the rest.
Status ReadItem(dom::element item, std::string* raw, double* value, TimestampMs* timestamp) {
  dom::object object;
  if (item.get(object) != simdjson::SUCCESS)
    return InvalidArgument("an item must be an object, not {}", TypeName(item));
  bool has_name = false;
  bool has_value = false;
  for (const auto [key, field] : object) {
    std::string_view text;
    if (key == "name") {
      if (field.get(text) != simdjson::SUCCESS) return WrongType(key, "a string", field);
      if (has_name) return InvalidArgument("\"name\" occurs twice");
      has_name = true;
      AppendPairString(model::kMetricName, raw);
      AppendPairString(text, raw);
    } else if (key == "value") {
      if (field.get(*value) != simdjson::SUCCESS) return WrongType(key, "a number", field);
      has_value = true;
    } else if (key == "timestamp") {
      double number = 0;
      if (field.is_null()) continue;
      if (field.get(*timestamp) == simdjson::SUCCESS) continue;
      if (field.get(number) != simdjson::SUCCESS) return WrongType(key, "a whole number of milliseconds", field);
      if (number != std::floor(number) || std::abs(number) > 9e18) {
        return InvalidArgument("\"timestamp\" {} is not a whole number of milliseconds", number);
      }
      *timestamp = static_cast<TimestampMs>(number);
    } else if (key == "labels") {
      dom::object labels;
      if (field.is_null()) continue;
      if (field.get(labels) != simdjson::SUCCESS) return WrongType(key, "an object", field);
      for (const auto [name, label] : labels) {
        if (label.get(text) != simdjson::SUCCESS) {
          return InvalidArgument("label {} must be a string, not {}", model::Quote(name), TypeName(label));
        }
        if (name == model::kMetricName) return InvalidArgument("label \"__name__\" is given by \"name\"");
        AppendPairString(name, raw);
        AppendPairString(text, raw);
      }
    } else if (key == "client_id") {
      if (field.is_null()) continue;
      if (field.get(text) != simdjson::SUCCESS) return WrongType(key, "a string", field);
      AppendPairString("client_id", raw);
      AppendPairString(text, raw);
    } else {
      return InvalidArgument("unknown field {}", model::Quote(key));
    }
  }
  if (!has_name) return InvalidArgument("\"name\" is missing");
  if (!has_value) return InvalidArgument("\"value\" is missing");
  return Status::Ok();
}

}  // namespace

Result<DecodedWrite> DecodeJsonMetrics(std::string_view text, TimestampMs default_timestamp) {
  if (text.size() > kJsonBytesMax) {
    return ResourceExhausted("the body has {} bytes; the limit is {}", text.size(), kJsonBytesMax);
  }
  dom::parser parser(kJsonBytesMax);
  if (const auto error = parser.allocate(std::max<size_t>(text.size(), 1), kJsonDepthMax); error != simdjson::SUCCESS) {
    return ResourceExhausted("no memory to parse a body of {} bytes", text.size());
  }
  dom::element document;
  if (const auto error = parser.parse(text.data(), text.size()).get(document); error != simdjson::SUCCESS) {
    return InvalidArgument("the body is not JSON: {}", simdjson::error_message(error));
  }
  dom::object object;
  if (document.get(object) != simdjson::SUCCESS) {
    return InvalidArgument("the body must be an object, not {}", TypeName(document));
  }
  dom::array metrics;
  dom::element field;
  if (object["metrics"].get(field) != simdjson::SUCCESS) return InvalidArgument("\"metrics\" is missing");
  if (field.get(metrics) != simdjson::SUCCESS) return WrongType("metrics", "an array", field);

  DecodedWrite out;
  out.encoding = LabelEncoding::kPairs;
  std::vector<std::pair<size_t, size_t>> raw_ranges;
  out.bytes = std::make_unique<std::string>();
  uint32_t index = 0;
  std::string raw;
  for (const dom::element item : metrics) {
    raw.clear();
    double value = 0;
    TimestampMs timestamp = default_timestamp;
    if (Status status = ReadItem(item, &raw, &value, &timestamp); !status.ok()) {
      out.Reject(index++, std::move(status));
      continue;
    }
    DecodedSeries series;
    series.item = index++;
    series.floats_begin = static_cast<uint32_t>(out.timestamps.size());
    series.floats_end = series.floats_begin + 1;
    raw_ranges.emplace_back(out.bytes->size(), raw.size());
    out.bytes->append(raw);
    out.timestamps.push_back(timestamp);
    out.values.push_back(value);
    out.series.push_back(series);
  }
  for (size_t i = 0; i < out.series.size(); ++i) {
    out.series[i].raw_labels = std::string_view(*out.bytes).substr(raw_ranges[i].first, raw_ranges[i].second);
  }
  return out;
}

}  // namespace millstream::wire

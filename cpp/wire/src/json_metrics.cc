#include "millstream/wire/json_metrics.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <cmath>
#include <utility>

#include "json_body.h"
#include "millstream/model/labels.h"
#include "millstream/wire/labels_decoder.h"
#include "pairs_batch.h"

namespace millstream::wire {
namespace {

namespace ondemand = simdjson::ondemand;

Result<std::string_view> TypeName(ondemand::value value) {
  ondemand::json_type type;
  if (const auto error = value.type().get(type)) return NotJson(error);
  switch (type) {
    case ondemand::json_type::array:
      return "an array";
    case ondemand::json_type::object:
      return "an object";
    case ondemand::json_type::string:
      return "a string";
    case ondemand::json_type::boolean:
      return "a boolean";
    case ondemand::json_type::null:
      return "null";
    case ondemand::json_type::number:
      return "a number";
  }
  return "of no known type";
}

// Reads one item. `refusal` says what is wrong with the item alone; the calls return what is wrong with the whole body.
class ItemReader {
 public:
  std::string raw;  // the labels as pairs
  double value = 0;
  TimestampMs timestamp = 0;
  Status refusal;

  Status Read(ondemand::value item, TimestampMs default_timestamp) {
    raw.clear();
    timestamp = default_timestamp;
    refusal = Status::Ok();
    has_name_ = false;
    has_value_ = false;
    ondemand::object object;
    if (item.get_object().get(object) != simdjson::SUCCESS) {
      MS_ASSIGN_OR_RETURN(const std::string_view type, TypeName(item));
      return Refuse(InvalidArgument("an item must be an object, not {}", type));
    }
    for (auto entry : object) {
      ondemand::field field;
      if (const auto error = std::move(entry).get(field)) return NotJson(error);
      std::string_view key;
      if (field.unescaped_key().get(key) != simdjson::SUCCESS)
        return Refuse(InvalidArgument("a key is not UTF-8 text"));
      MS_RETURN_IF_ERROR(ReadField(key, field.value()));
      if (!refusal.ok()) return Status::Ok();
    }
    if (!has_name_) return Refuse(InvalidArgument("\"name\" is missing"));
    if (!has_value_) return Refuse(InvalidArgument("\"value\" is missing"));
    return Status::Ok();
  }

 private:
  Status Refuse(Status reason) {
    refusal = std::move(reason);
    return Status::Ok();
  }

  Status ReadField(std::string_view key, ondemand::value field) {
    if (key == "name") {
      if (has_name_) return Refuse(InvalidArgument("\"name\" occurs twice"));
      has_name_ = true;
      return ReadLabel(model::kMetricName, field, [&] { return key; });
    }
    if (key == "value") {
      has_value_ = true;
      return ReadNumber(key, "a number", field, &value);
    }
    if (key != "timestamp" && key != "labels" && key != "client_id") {
      return Refuse(InvalidArgument("unknown field {}", model::Quote(key)));
    }
    bool is_null = false;
    if (const auto error = field.is_null().get(is_null)) return NotJson(error);
    if (is_null) return Status::Ok();
    if (key == "timestamp") return ReadTimestamp(field);
    if (key == "labels") return ReadLabels(field);
    return ReadLabel(key, field, [&] { return key; });
  }

  Status ReadNumber(std::string_view key, std::string_view expected, ondemand::value field, double* number) {
    if (field.get_double().get(*number) == simdjson::SUCCESS) return Status::Ok();
    MS_ASSIGN_OR_RETURN(const std::string_view type, TypeName(field));
    if (type != "a number") {
      return Refuse(InvalidArgument("{} must be {}, not {}", model::Quote(key), expected, type));
    }
    return Refuse(InvalidArgument("{} is no number that a double can hold", model::Quote(key)));
  }

  Status ReadTimestamp(ondemand::value field) {
    if (field.get_int64().get(timestamp) == simdjson::SUCCESS) return Status::Ok();
    double number = 0;
    MS_RETURN_IF_ERROR(ReadNumber("timestamp", "a whole number of milliseconds", field, &number));
    if (refusal.ok() && (number != std::floor(number) || std::abs(number) > 9e18)) {
      refusal = InvalidArgument("\"timestamp\" {} is not a whole number of milliseconds in 64 bits", number);
    }
    timestamp = refusal.ok() ? static_cast<TimestampMs>(number) : 0;
    return Status::Ok();
  }

  Status ReadLabels(ondemand::value field) {
    ondemand::object labels;
    if (field.get_object().get(labels) != simdjson::SUCCESS) {
      MS_ASSIGN_OR_RETURN(const std::string_view type, TypeName(field));
      return Refuse(InvalidArgument("\"labels\" must be an object, not {}", type));
    }
    for (auto entry : labels) {
      ondemand::field label;
      if (const auto error = std::move(entry).get(label)) return NotJson(error);
      std::string_view name;
      if (label.unescaped_key().get(name) != simdjson::SUCCESS) {
        return Refuse(InvalidArgument("a label name is not UTF-8 text"));
      }
      if (name == model::kMetricName) return Refuse(InvalidArgument("label \"__name__\" is given by \"name\""));
      MS_RETURN_IF_ERROR(ReadLabel(name, label.value(), [&] { return fmt::format("label {}", model::Quote(name)); }));
      if (!refusal.ok()) return Status::Ok();
    }
    return Status::Ok();
  }

  // `describe` says in a refusal what the text is of: most texts are good, and need no words.
  template <typename Describe>
  Status ReadLabel(std::string_view name, ondemand::value field, Describe describe) {
    std::string_view text;
    if (field.get_string().get(text) == simdjson::SUCCESS) {
      AppendPairString(name, &raw);
      AppendPairString(text, &raw);
      return Status::Ok();
    }
    MS_ASSIGN_OR_RETURN(const std::string_view type, TypeName(field));
    return Refuse(type == "a string" ? InvalidArgument("{} is not UTF-8 text", describe())
                                     : InvalidArgument("{} must be a string, not {}", describe(), type));
  }

  bool has_name_ = false;
  bool has_value_ = false;
};

Status ReadItems(ondemand::array metrics, TimestampMs default_timestamp, PairsBatch* out) {
  ItemReader item;
  uint32_t index = 0;
  for (auto entry : metrics) {
    ondemand::value element;
    if (const auto error = std::move(entry).get(element)) return NotJson(error);
    MS_RETURN_IF_ERROR(item.Read(element, default_timestamp));
    if (!item.refusal.ok()) {
      out->Reject(index++, std::move(item.refusal));
      continue;
    }
    out->Add(index++, item.raw, item.timestamp, item.value);
  }
  return Status::Ok();
}

Result<DecodedWrite> ReadMetrics(std::string_view text, TimestampMs default_timestamp) {
  JsonBody body;
  MS_RETURN_IF_ERROR(body.Open(text));
  ondemand::object object;
  if (const auto error = body.document().get_object().get(object)) {
    return error == simdjson::INCORRECT_TYPE ? InvalidArgument("the body must be a JSON object") : NotJson(error);
  }
  PairsBatch out;
  bool has_metrics = false;
  for (auto entry : object) {
    ondemand::field field;
    if (const auto error = std::move(entry).get(field)) return NotJson(error);
    if (field.key() != "metrics") continue;
    if (has_metrics) return InvalidArgument("\"metrics\" occurs twice");
    has_metrics = true;
    ondemand::array metrics;
    if (field.value().get_array().get(metrics) != simdjson::SUCCESS) {
      MS_ASSIGN_OR_RETURN(const std::string_view type, TypeName(field.value()));
      return InvalidArgument("\"metrics\" must be an array, not {}", type);
    }
    MS_RETURN_IF_ERROR(ReadItems(metrics, default_timestamp, &out));
  }
  if (!has_metrics) return InvalidArgument("\"metrics\" is missing");
  MS_RETURN_IF_ERROR(body.CheckEnd());
  return out.Take();
}

}  // namespace

Result<DecodedWrite> DecodeJsonMetrics(std::string_view text, TimestampMs default_timestamp) {
  Result<DecodedWrite> read = ReadMetrics(text, default_timestamp);
  if (!read.ok()) return Explain(text, std::move(read).status());
  return read;
}

}  // namespace millstream::wire

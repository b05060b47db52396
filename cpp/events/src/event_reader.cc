#include "event_reader.h"

#include <string>

#include "json_value.h"

namespace millstream::events {

EventReader::Value EventReader::ValueOf(const Filter::Operand& operand) {
  if (const auto* literal = std::get_if<Filter::Literal>(&operand)) {
    if (const bool* truth = std::get_if<bool>(&literal->value)) return *truth;
    if (const Exact* number = std::get_if<Exact>(&literal->value)) return *number;
    if (const auto* text = std::get_if<std::string>(&literal->value)) return std::string_view(*text);
    return Null();
  }
  if (std::holds_alternative<Filter::Topic>(operand)) return topic_;
  if (std::holds_alternative<Filter::Key>(operand)) {
    if (!event_.key.has_value()) return Null();
    return *event_.key;
  }
  if (const auto* header = std::get_if<Filter::Header>(&operand)) {
    for (const auto& [name, value] : event_.headers) {
      if (name == header->name) return value;
    }
    return Absent();
  }
  return FieldOf(std::get<Filter::Field>(operand));
}

EventReader::Value EventReader::FieldOf(const Filter::Field& field) {
  if (!event_.is_json) return Absent();
  if (!parsed_) {
    parsed_ = true;
    // One for each thread: it keeps its buffers, which are bounded by the largest event.
    thread_local simdjson::dom::parser parser;
    simdjson::dom::element root;
    const std::string_view payload = event_.payload;
    if (parser.parse(payload.data(), payload.size(), true).get(root) == simdjson::SUCCESS) root_ = root;
  }
  if (!root_.has_value()) return Absent();
  simdjson::dom::element at = *root_;
  for (const auto& step : field.path) {
    const auto next = std::holds_alternative<std::string>(step) ? at.at_key(std::get<std::string>(step))
                                                                : at.at(std::get<size_t>(step));
    if (next.get(at) != simdjson::SUCCESS) return Absent();
  }
  switch (at.type()) {
    case simdjson::dom::element_type::NULL_VALUE:
      return Null();
    case simdjson::dom::element_type::BOOL:
      return bool{at};
    case simdjson::dom::element_type::INT64:
    case simdjson::dom::element_type::UINT64:
    case simdjson::dom::element_type::DOUBLE:
      return ExactOf(at);
    case simdjson::dom::element_type::STRING: {
      std::string_view text;
      if (at.get(text) != simdjson::SUCCESS) return Absent();
      return text;
    }
    default:
      return Other();
  }
}

}  // namespace millstream::events

#include "json_body.h"

#include <algorithm>
#include <optional>

#include "millstream/base/utf8.h"
#include "millstream/wire/json_metrics.h"

namespace millstream::wire {
namespace {

namespace ondemand = simdjson::ondemand;

// Reads all of a value, and keeps where the first scalar is that is none.
class JsonWalk {
 public:
  simdjson::error_code Read(ondemand::value value, size_t depth) {
    if (depth == 0) return simdjson::DEPTH_ERROR;
    ondemand::json_type type;
    if (const auto error = value.type().get(type)) return error;
    if (type == ondemand::json_type::object) return ReadObject(value, depth);
    if (type == ondemand::json_type::array) return ReadArray(value, depth);
    const char* const begin = value.raw_json_token().data();
    const simdjson::error_code error = ReadScalar(type, value);
    if (error != simdjson::SUCCESS) scalar_ = begin;
    return error;
  }
  const char* scalar() const { return scalar_; }

 private:
  simdjson::error_code ReadObject(ondemand::value value, size_t depth) {
    ondemand::object object;
    if (const auto error = value.get_object().get(object)) return error;
    for (auto entry : object) {
      ondemand::field field;
      if (const auto error = std::move(entry).get(field)) return error;
      std::string_view key;
      if (const auto error = field.unescaped_key().get(key)) return error;
      if (const auto error = Read(field.value(), depth - 1)) return error;
    }
    return simdjson::SUCCESS;
  }

  simdjson::error_code ReadArray(ondemand::value value, size_t depth) {
    ondemand::array array;
    if (const auto error = value.get_array().get(array)) return error;
    for (auto entry : array) {
      ondemand::value element;
      if (const auto error = std::move(entry).get(element)) return error;
      if (const auto error = Read(element, depth - 1)) return error;
    }
    return simdjson::SUCCESS;
  }

  static simdjson::error_code ReadScalar(ondemand::json_type type, ondemand::value value) {
    bool is_null = false;
    switch (type) {
      case ondemand::json_type::string:
        return value.get_string().error();
      case ondemand::json_type::number:
        return value.get_number().error();
      case ondemand::json_type::boolean:
        return value.get_bool().error();
      default:
        return value.is_null().get(is_null);
    }
  }

  const char* scalar_ = nullptr;
};

// Where the string begins that no quote ends.
size_t UnclosedString(std::string_view text) {
  size_t begin = 0;
  bool inside = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && inside) {
      ++i;
    } else if (text[i] == '"') {
      inside = !inside;
      begin = i;
    }
  }
  return begin;
}

Status NotJsonAt(size_t byte, std::string_view why) {
  return InvalidArgument("the body is not JSON at byte {}: {}", byte, why);
}

}  // namespace

Status Explain(std::string_view text, Status status) {
  if (status.code() != StatusCode::kInvalidArgument) return status;
  if (const size_t at = FirstInvalidUtf8(text); at != std::string_view::npos) return NotJsonAt(at, "it is not UTF-8");
  const simdjson::padded_string padded(text);
  ondemand::parser parser;
  ondemand::document document;
  const auto opened = parser.iterate(padded).get(document);
  if (opened == simdjson::UNCLOSED_STRING) return NotJsonAt(UnclosedString(text), simdjson::error_message(opened));
  ondemand::value root;
  // A body that is one scalar has no place worth telling.
  if (opened != simdjson::SUCCESS || document.get_value().get(root) != simdjson::SUCCESS) return status;
  JsonWalk walk;
  const simdjson::error_code error = walk.Read(root, kJsonDepthMax);
  const char* at = walk.scalar();
  if (at == nullptr && document.current_location().get(at) != simdjson::SUCCESS) at = padded.data() + text.size();
  const auto byte = std::min(static_cast<size_t>(at - padded.data()), text.size());
  if (error != simdjson::SUCCESS) return NotJsonAt(byte, simdjson::error_message(error));
  return byte < text.size() ? NotJsonAt(byte, "something follows its end") : status;
}

JsonBody::JsonBody() : parser_(kJsonBytesMax) {}

Status JsonBody::Open(std::string_view text) {
  if (text.size() > kJsonBytesMax) {
    return ResourceExhausted("the body has {} bytes; the limit is {}", text.size(), kJsonBytesMax);
  }
  if (parser_.allocate(std::max<size_t>(text.size(), 1), kJsonDepthMax) != simdjson::SUCCESS) {
    return ResourceExhausted("no memory to parse a body of {} bytes", text.size());
  }
  padded_ = simdjson::padded_string(text);
  if (const auto error = parser_.iterate(padded_).get(document_)) return NotJson(error);
  return Status::Ok();
}

Status JsonBody::CheckEnd() {
  if (document_.current_location().error() == simdjson::OUT_OF_BOUNDS) return Status::Ok();
  return InvalidArgument("the body is not JSON: something follows its end");
}

}  // namespace millstream::wire

// Values of attributes, and the words of OTLP's enumerations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/wire/otlp.h"
#include "otlp_model.h"

namespace millstream::wire::otlp {

// Elements of all arrays and maps in one attribute's value.
inline constexpr size_t kValueElementsMax = 4096;
// More buckets or quantiles than a point may have are read no further than this one too many.
inline constexpr size_t kQuantilesMax = 1024;

struct Value {
  enum class Kind : uint8_t { kEmpty, kText, kBool, kInteger, kDouble, kArray, kMap, kBytes };

  Kind kind = Kind::kEmpty;
  std::string_view key;  // of an element of a map
  std::string_view text;
  int64_t integer = 0;
  double number = 0;
  std::vector<Value> elements;
};

// How much more may be in one attribute's value.
struct ValueRoom {
  int depth = kOtlpValueDepthMax;
  size_t* elements;
};

// As a label has it: text as it is, arrays and maps as JSON with keys in order, bytes in base64, nothing as nothing.
std::string TextOf(const Value& value);

// An id's bytes in hexadecimal; empty when they are all zero, which is no id.
std::string HexText(std::string_view bytes);

Temporality TemporalityOf(uint64_t number);

}  // namespace millstream::wire::otlp

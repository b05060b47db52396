// What JSON Schema asks about parsed JSON: exact comparison of numbers, equality of values, multiples of decimals.
//
// Threads     Pure functions over parsed JSON that nobody changes.
// Cost        Work counts steps against a budget; recursion is bounded by the depth that the parser takes.
#pragma once

#include <simdjson.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "exact.h"

namespace millstream::events {

// What is left of the steps that a check may take.
class Work {
 public:
  explicit Work(int64_t steps) : left_(steps) {}
  // False, from then on, when there are not so many left.
  bool Spend(size_t steps) {
    left_ -= static_cast<int64_t>(steps);
    return left_ >= 0;
  }
  bool exhausted() const { return left_ < 0; }

 private:
  int64_t left_;
};

bool IsNumber(simdjson::dom::element value);
// Of a number.
Exact ExactOf(simdjson::dom::element value);
bool IsIntegral(Exact number);
std::string NumberText(simdjson::dom::element value);

// A number as it is written: mantissa * 10^exponent, without its sign.
struct Decimal {
  uint64_t mantissa = 0;
  int exponent = 0;
};
Decimal DecimalOf(simdjson::dom::element number);
// `step` must not be zero.
bool IsMultiple(const Decimal& value, const Decimal& step);

// As JSON Schema has it: 1 is 1.0, and the order of an object's members says nothing. False once work is exhausted.
bool SameJson(simdjson::dom::element a, simdjson::dom::element b, Work* work);
// Alike for what is the same.
uint64_t HashJson(simdjson::dom::element value, Work* work);
// No two the same. False once work is exhausted.
bool AllDiffer(simdjson::dom::array items, Work* work);

// In code points; `text` must be UTF-8.
size_t CodePoints(std::string_view text);
// As JSON, and at most about 200 bytes of it.
std::string Quoted(std::string_view text);
// Puts `token` in front of a JSON pointer.
void PrependToken(std::string_view token, std::string* pointer);

}  // namespace millstream::events

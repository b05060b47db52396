// What a topic's schema costs a publisher: checking that a payload is JSON, and that it matches as well.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <string_view>

#include "millstream/events/event_json.h"
#include "millstream/events/topic_schema.h"

namespace millstream {
namespace {

constexpr int kRounds = 5;
constexpr int kEvents = 400'000;

constexpr std::string_view kSchema = R"({
  "type": "object", "required": ["id", "amount", "currency", "items"], "additionalProperties": false,
  "properties": {
    "id": {"type": "string", "minLength": 8, "maxLength": 64},
    "amount": {"type": "number", "exclusiveMinimum": 0},
    "currency": {"enum": ["EUR", "USD", "GBP", "JPY"]},
    "paid": {"type": "boolean"},
    "email": {"type": "string", "pattern": "^[^@ ]+@[^@ ]+$"},
    "items": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/item"}}},
  "$defs": {"item": {"type": "object", "required": ["sku"], "properties": {
    "sku": {"type": "string"}, "count": {"type": "integer", "minimum": 1}, "price": {"multipleOf": 0.01}}}}})";

constexpr std::string_view kPayload =
    R"({"id":"0199a3c2-6c1e","amount":41.9,"currency":"EUR","paid":true,"email":"someone@example.com",)"
    R"("items":[{"sku":"a-1","count":2,"price":19.99},{"sku":"b-22","count":1,"price":1.92},)"
    R"({"sku":"c-333","count":10,"price":0.5}]})";

template <typename Check>
double NanosecondsEach(Check check) {
  double best = 1e300;
  for (int round = 0; round < kRounds; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    int good = 0;
    for (int i = 0; i < kEvents; ++i) good += check() ? 1 : 0;
    const std::chrono::duration<double, std::nano> taken = std::chrono::steady_clock::now() - begin;
    if (good != kEvents) return -1;
    best = std::min(best, taken.count() / kEvents);
  }
  return best;
}

int Run() {
  const auto schema = events::TopicSchema::Compile(kSchema);
  if (!schema.ok()) {
    fmt::print(stderr, "{}\n", schema.status().ToString());
    return 1;
  }
  const auto plain = events::TopicSchema::Compile(R"({"type": "object", "required": ["id"]})");
  if (!plain.ok()) return 1;
  const double json = NanosecondsEach([] { return events::CheckJson(kPayload).ok(); });
  const double small = NanosecondsEach([&] { return plain->Check(kPayload).ok(); });
  const double whole = NanosecondsEach([&] { return schema->Check(kPayload).ok(); });
  const double compile = NanosecondsEach(
      [n = 0, &schema]() mutable { return ++n % 400 != 0 || events::TopicSchema::Compile(schema->text()).ok(); });
  fmt::print("payload of {} bytes, best of {} rounds\n", kPayload.size(), kRounds);
  fmt::print("is JSON                   {:7.0f} ns\n", json);
  fmt::print("and has one property      {:7.0f} ns\n", small);
  fmt::print("and matches all of it     {:7.0f} ns\n", whole);
  fmt::print("the schema is compiled in {:7.0f} us\n", compile * 400 / 1000);
  return 0;
}

}  // namespace
}  // namespace millstream

int main() {
  return millstream::Run();
}

#include "json_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>
#include <vector>

#include "millstream/base/hash.h"
#include "millstream/wire/json_writer.h"

namespace millstream::events {
namespace {

using simdjson::dom::element_type;

// Two of 64 bits each multiply into it.
__extension__ using Wide = unsigned __int128;

constexpr int kDigitsOf64Bits = 19;  // 10^19 is the largest power of ten that fits
constexpr size_t kQuotedBytesMax = 200;

uint64_t MultiplyModulo(uint64_t a, uint64_t b, uint64_t modulus) {
  return static_cast<uint64_t>(static_cast<Wide>(a) * b % modulus);
}

uint64_t PowerOfTenModulo(int exponent, uint64_t modulus) {
  uint64_t out = 1 % modulus;
  for (uint64_t base = 10 % modulus; exponent > 0; exponent /= 2) {
    if (exponent % 2 == 1) out = MultiplyModulo(out, base, modulus);
    base = MultiplyModulo(base, base, modulus);
  }
  return out;
}

uint64_t Mix(uint64_t a, uint64_t b) {
  const uint64_t both[2] = {a, b};
  return Hash64(std::string_view(reinterpret_cast<const char*>(both), sizeof(both)));
}

uint64_t HashNumber(Exact number) {
  // What is whole hashes alike however it is written.
  if (IsIntegral(number) && number > -9.2e18L && number < 1.8e19L) {
    return number < 0 ? Mix(1, static_cast<uint64_t>(static_cast<int64_t>(number)))
                      : Mix(2, static_cast<uint64_t>(number));
  }
  const auto narrow = static_cast<double>(number);
  return Hash64(std::string_view(reinterpret_cast<const char*>(&narrow), sizeof(narrow)));
}

}  // namespace

bool IsNumber(simdjson::dom::element value) {
  const element_type type = value.type();
  return type == element_type::INT64 || type == element_type::UINT64 || type == element_type::DOUBLE;
}

Exact ExactOf(simdjson::dom::element value) {
  switch (value.type()) {
    case element_type::INT64:
      return static_cast<Exact>(int64_t{value});
    case element_type::UINT64:
      return static_cast<Exact>(uint64_t{value});
    default:
      return static_cast<Exact>(double{value});
  }
}

bool IsIntegral(Exact number) {
  return std::trunc(number) == number;
}

std::string NumberText(simdjson::dom::element value) {
  switch (value.type()) {
    case element_type::INT64:
      return fmt::to_string(int64_t{value});
    case element_type::UINT64:
      return fmt::to_string(uint64_t{value});
    default:
      return fmt::to_string(double{value});
  }
}

Decimal DecimalOf(simdjson::dom::element number) {
  if (number.type() == element_type::UINT64) return {uint64_t{number}, 0};
  if (number.type() == element_type::INT64) {
    const int64_t value{number};
    return {value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value), 0};
  }
  // The shortest digits that mean this double, "1.999e+01": at most 17 of them.
  const std::string text = fmt::format("{:e}", std::fabs(double{number}));
  const size_t e = text.find('e');
  Decimal out;
  for (const char c : std::string_view(text).substr(0, e)) {
    if (c != '.') out.mantissa = out.mantissa * 10 + static_cast<uint64_t>(c - '0');
  }
  const size_t sign = e + 1;
  std::from_chars(text.data() + sign + 1, text.data() + text.size(), out.exponent);
  if (text[sign] == '-') out.exponent = -out.exponent;
  const size_t point = text.find('.');
  if (point != std::string::npos) out.exponent -= static_cast<int>(e - point - 1);
  return out;
}

bool IsMultiple(const Decimal& value, const Decimal& step) {
  if (value.mantissa == 0) return true;
  const int shift = value.exponent - step.exponent;
  if (shift >= 0) {
    return MultiplyModulo(value.mantissa % step.mantissa, PowerOfTenModulo(shift, step.mantissa), step.mantissa) == 0;
  }
  if (-shift > kDigitsOf64Bits) return false;
  Wide scaled = step.mantissa;
  for (int i = 0; i < -shift; ++i) scaled *= 10;
  return value.mantissa % scaled == 0;
}

bool SameJson(simdjson::dom::element a, simdjson::dom::element b, Work* work) {
  if (!work->Spend(1)) return false;
  if (IsNumber(a) || IsNumber(b)) return IsNumber(a) && IsNumber(b) && ExactOf(a) == ExactOf(b);
  if (a.type() != b.type()) return false;
  switch (a.type()) {
    case element_type::NULL_VALUE:
      return true;
    case element_type::BOOL:
      return bool{a} == bool{b};
    case element_type::STRING: {
      const std::string_view text{a};
      return work->Spend(text.size() / 64) && text == std::string_view{b};
    }
    case element_type::ARRAY: {
      const simdjson::dom::array left{a};
      const simdjson::dom::array right{b};
      auto other = right.begin();
      for (const simdjson::dom::element item : left) {
        if (other == right.end() || !SameJson(item, *other, work)) return false;
        ++other;
      }
      return other == right.end();
    }
    default: {
      const simdjson::dom::object left{a};
      const simdjson::dom::object right{b};
      if (left.size() != right.size()) return false;
      for (const auto [key, value] : left) {
        simdjson::dom::element other;
        if (!work->Spend(right.size()) || right.at_key(key).get(other) != simdjson::SUCCESS ||
            !SameJson(value, other, work)) {
          return false;
        }
      }
      return true;
    }
  }
}

uint64_t HashJson(simdjson::dom::element value, Work* work) {
  if (!work->Spend(1)) return 0;
  if (IsNumber(value)) return HashNumber(ExactOf(value));
  switch (value.type()) {
    case element_type::NULL_VALUE:
      return Mix(3, 0);
    case element_type::BOOL:
      return Mix(4, bool{value} ? 1 : 0);
    case element_type::STRING: {
      const std::string_view text{value};
      return work->Spend(text.size() / 64) ? Mix(5, Hash64(text)) : 0;
    }
    case element_type::ARRAY: {
      uint64_t hash = 6;
      for (const simdjson::dom::element item : simdjson::dom::array{value}) hash = Mix(hash, HashJson(item, work));
      return hash;
    }
    default: {
      uint64_t hash = 7;
      for (const auto [key, member] : simdjson::dom::object{value}) hash += Mix(Hash64(key), HashJson(member, work));
      return hash;
    }
  }
}

bool AllDiffer(simdjson::dom::array items, Work* work) {
  std::vector<std::pair<uint64_t, simdjson::dom::element>> hashed;
  for (const simdjson::dom::element item : items) {
    hashed.emplace_back(HashJson(item, work), item);
    if (work->exhausted()) return false;
  }
  std::ranges::sort(hashed, {}, [](const auto& one) { return one.first; });
  for (size_t i = 0; i < hashed.size(); ++i) {
    for (size_t j = i + 1; j < hashed.size() && hashed[j].first == hashed[i].first; ++j) {
      if (SameJson(hashed[i].second, hashed[j].second, work) || work->exhausted()) return false;
    }
  }
  return true;
}

size_t CodePoints(std::string_view text) {
  return static_cast<size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string Quoted(std::string_view text) {
  std::string out;
  if (text.size() <= kQuotedBytesMax) {
    wire::AppendJsonString(text, &out);
    return out;
  }
  size_t cut = kQuotedBytesMax;
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) --cut;
  wire::AppendJsonString(fmt::format("{}…", text.substr(0, cut)), &out);
  return out;
}

void PrependToken(std::string_view token, std::string* pointer) {
  std::string out = "/";
  for (const char c : token) {
    if (c == '~') {
      out += "~0";
    } else if (c == '/') {
      out += "~1";
    } else {
      out += c;
    }
  }
  *pointer = out + *pointer;
}

}  // namespace millstream::events

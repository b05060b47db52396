#include "millstream/events/metric_rule.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "event_reader.h"
#include "filter.h"
#include "json_value.h"
#include "millstream/base/utf8.h"
#include "millstream/codec/byte_io.h"
#include "millstream/events/limits.h"
#include "millstream/wire/labels_decoder.h"

namespace millstream::events {
namespace {

bool IsLetter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

bool IsIdentifier(std::string_view name, bool colons) {
  const auto is_start = [&](char c) { return IsLetter(c) || (colons && c == ':'); };
  return !name.empty() && name.size() <= kRuleNameBytesMax && is_start(name.front()) &&
         std::ranges::all_of(name, [&](char c) { return is_start(c) || (c >= '0' && c <= '9'); });
}

// Whole numbers of 64 bits in full, others as doubles.
std::string NumberLabel(Exact number) {
  if (IsIntegral(number) && number >= -0x1p63L && number < 0x1p63L) return fmt::to_string(static_cast<int64_t>(number));
  if (IsIntegral(number) && number > 0 && number < 0x1p64L) return fmt::to_string(static_cast<uint64_t>(number));
  return fmt::to_string(static_cast<double>(number));
}

// None for what gives no label; false in the second when it cannot be one.
std::optional<std::string> LabelText(const EventReader::Value& value, bool* fits) {
  if (const bool* truth = std::get_if<bool>(&value)) return *truth ? "true" : "false";
  if (const Exact* number = std::get_if<Exact>(&value)) return NumberLabel(*number);
  const auto* text = std::get_if<std::string_view>(&value);
  if (text == nullptr || text->empty()) return std::nullopt;
  *fits = text->size() <= kRuleLabelValueBytesMax && IsValidUtf8(*text);
  return *fits ? std::optional<std::string>(*text) : std::nullopt;
}

Result<Filter::Operand> ParseField(std::string_view text) {
  if (text.empty() || text.size() > kRuleFieldBytesMax) {
    return InvalidArgument("the name of a field has 1 to {} bytes, not {}", kRuleFieldBytesMax, text.size());
  }
  return Filter::ParseOperand(text);
}

}  // namespace

bool SameRule(const MetricRule& a, const MetricRule& b) {
  return a.metric == b.metric && a.type == b.type && a.value == b.value && a.labels == b.labels && a.filter == b.filter;
}

std::string EncodeMetricRule(const MetricRule& rule) {
  std::string out;
  codec::ByteWriter writer(&out);
  writer.Bytes(rule.metric);
  writer.U8(static_cast<uint8_t>(rule.type));
  writer.Bytes(rule.value);
  writer.Bytes(rule.filter);
  writer.Varint(rule.labels.size());
  for (const auto& [name, field] : rule.labels) {
    writer.Bytes(name);
    writer.Bytes(field);
  }
  writer.Varint(rule.since.size());
  for (const uint64_t offset : rule.since) writer.Varint(offset);
  return out;
}

bool DecodeMetricRule(codec::ByteReader* reader, MetricRule* rule) {
  std::string_view metric;
  std::string_view value;
  std::string_view filter;
  uint8_t type = 0;
  uint64_t labels = 0;
  uint64_t partitions = 0;
  if (!reader->Bytes(&metric) || !reader->U8(&type) || type > static_cast<uint8_t>(MetricType::kGauge) ||
      !reader->Bytes(&value) || !reader->Bytes(&filter) || !reader->Count(&labels, kRuleLabelsMax)) {
    return false;
  }
  rule->metric = metric;
  rule->type = static_cast<MetricType>(type);
  rule->value = value;
  rule->filter = filter;
  for (uint64_t i = 0; i < labels; ++i) {
    std::string_view name;
    std::string_view field;
    if (!reader->Bytes(&name) || !reader->Bytes(&field)) return false;
    rule->labels.emplace(name, field);
  }
  if (!reader->Count(&partitions, std::min<uint64_t>(reader->remaining(), kTopicPartitionsMax))) return false;
  rule->since.resize(partitions);
  return std::ranges::all_of(rule->since, [&](uint64_t& offset) { return reader->Varint(&offset); });
}

std::string_view MetricTypeName(MetricType type) {
  return type == MetricType::kCounter ? "counter" : "gauge";
}

Result<MetricType> ParseMetricType(std::string_view name) {
  for (const auto type : {MetricType::kCounter, MetricType::kGauge}) {
    if (name == MetricTypeName(type)) return type;
  }
  return InvalidArgument("the type of a metric is \"counter\" or \"gauge\"");
}

MetricRules::MetricRules(std::vector<MetricRule> rules) {
  if (!rules.empty()) rules_ = std::make_shared<const std::vector<MetricRule>>(std::move(rules));
}

const std::vector<MetricRule>& MetricRules::list() const {
  static const std::vector<MetricRule> none;
  return rules_ == nullptr ? none : *rules_;
}

struct CompiledRules::Rule {
  MetricType type = MetricType::kCounter;
  std::string prefix;  // the metric's name as the first label
  std::optional<Filter::Operand> value;
  std::vector<std::pair<std::string, Filter::Operand>> labels;
  std::unique_ptr<const Filter> filter;

  static Result<Rule> Make(const MetricRule& rule) {
    if (!IsIdentifier(rule.metric, true)) {
      return InvalidArgument("\"metric\" has 1 to {} letters, digits, '_' and ':', and does not begin with a digit",
                             kRuleNameBytesMax);
    }
    Rule out;
    out.type = rule.type;
    wire::AppendPairString("__name__", &out.prefix);
    wire::AppendPairString(rule.metric, &out.prefix);
    if (!rule.value.empty()) {
      auto value = ParseField(rule.value);
      if (!value.ok()) return std::move(value).status().WithContext("\"value\"");
      if (!std::holds_alternative<Filter::Field>(*value)) {
        return InvalidArgument("\"value\" is a field of the payload, such as \"payload.amount\", not \"{}\"",
                               rule.value);
      }
      out.value = std::move(*value);
    } else if (rule.type == MetricType::kGauge) {
      return InvalidArgument("a gauge needs a \"value\", such as \"payload.temperature\"");
    }
    if (rule.labels.size() > kRuleLabelsMax) {
      return InvalidArgument("a rule has at most {} labels, not {}", kRuleLabelsMax, rule.labels.size());
    }
    for (const auto& [name, field] : rule.labels) {
      if (!IsIdentifier(name, false) || name.starts_with("__")) {
        return InvalidArgument(
            "a label's name has 1 to {} letters, digits and '_', and begins with neither a digit nor \"__\"",
            kRuleNameBytesMax);
      }
      auto operand = ParseField(field);
      if (!operand.ok()) return std::move(operand).status().WithContext(fmt::format("label {}", name));
      out.labels.emplace_back(name, std::move(*operand));
    }
    if (!rule.filter.empty()) {
      MS_ASSIGN_OR_RETURN(out.filter, Filter::Parse(rule.filter));
    }
    return out;
  }

  Outcome Run(EventReader& reader) const {
    Outcome out;
    if (filter != nullptr && !filter->Matches(reader)) return {.skip = RuleSkip::kFiltered, .value = 0, .labels = {}};
    out.skip = ValueOf(reader, &out.value);
    if (out.skip != RuleSkip::kNone) return out;
    out.labels = prefix;
    for (const auto& [name, operand] : labels) {
      bool fits = true;
      const std::optional<std::string> text = LabelText(reader.ValueOf(operand), &fits);
      if (!fits) {
        out.skip = RuleSkip::kLabel;
        return out;
      }
      if (!text.has_value()) continue;
      wire::AppendPairString(name, &out.labels);
      wire::AppendPairString(*text, &out.labels);
    }
    return out;
  }

 private:
  RuleSkip ValueOf(EventReader& reader, double* number) const {
    *number = 1;
    if (!value.has_value()) return RuleSkip::kNone;
    if (!reader.event().is_json) return RuleSkip::kBytes;
    const EventReader::Value found = reader.ValueOf(*value);
    if (std::holds_alternative<EventReader::Absent>(found) || std::holds_alternative<EventReader::Null>(found)) {
      return RuleSkip::kMissing;
    }
    const Exact* given = std::get_if<Exact>(&found);
    if (given == nullptr || !std::isfinite(*given)) return RuleSkip::kType;
    if (type == MetricType::kCounter && *given < 0) return RuleSkip::kNegative;
    *number = static_cast<double>(*given);
    return RuleSkip::kNone;
  }
};

CompiledRules::CompiledRules() = default;
CompiledRules::~CompiledRules() = default;

Result<std::unique_ptr<const CompiledRules>> CompiledRules::Compile(const MetricRules& rules) {
  if (rules.list().size() > kMetricRulesMax) {
    return InvalidArgument("a topic has at most {} rules in \"metrics\", not {}", kMetricRulesMax, rules.list().size());
  }
  std::unique_ptr<CompiledRules> out(new CompiledRules());
  std::set<std::string_view> metrics;
  for (const MetricRule& rule : rules.list()) {
    auto made = Rule::Make(rule);
    if (!made.ok()) {
      // Only what a name may be is shown as it is.
      const std::string which = IsIdentifier(rule.metric, true) ? rule.metric : fmt::to_string(out->rules_.size());
      return std::move(made).status().WithContext(fmt::format("rule {} of \"metrics\"", which));
    }
    if (!metrics.insert(rule.metric).second) {
      return InvalidArgument("two rules of \"metrics\" give the same metric {}", rule.metric);
    }
    out->rules_.push_back(std::move(*made));
  }
  return std::unique_ptr<const CompiledRules>(std::move(out));
}

Status CheckMetricRules(const MetricRules& rules) {
  return rules.empty() ? Status::Ok() : CompiledRules::Compile(rules).status();
}

void CompiledRules::Evaluate(std::string_view topic, const StoredEvent& event, const std::vector<bool>& wanted,
                             std::vector<Outcome>* out) const {
  EventReader reader(topic, event.view());
  out->clear();
  for (size_t i = 0; i < rules_.size(); ++i) {
    if (wanted[i]) {
      out->push_back(rules_[i].Run(reader));
    } else {
      out->push_back({.skip = RuleSkip::kFiltered, .value = 0, .labels = {}});
    }
  }
}

}  // namespace millstream::events

// MetricRule: how the events of a topic become samples of a metric, by fields of their key, headers and JSON payload.
//
//   {"metric": "orders_amount_total", "type": "counter", "value": "payload.amount",
//    "labels": {"region": "payload.region"}, "filter": "payload.paid == true"}
//
// Fields      Operands of a filter (src/filter.h): "payload.a.b", "payload.items[0]", "key", "headers.x", "topic", and
//             "\"text\"" for a constant. A value comes from the payload; a counter without one counts events.
// Labels      Texts as they are, numbers and truths as JSON writes them. What is absent, null, empty or an array or
//             object gives no label.
// Threads     Values; CompiledRules is immutable, and Evaluate may be called from any thread.
// Errors      kInvalidArgument names the rule and what is wrong with it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/events/event.h"

namespace millstream::codec {
class ByteReader;
}  // namespace millstream::codec

namespace millstream::events {

inline constexpr size_t kMetricRulesMax = 16;  // of one topic
inline constexpr size_t kRuleLabelsMax = 16;
inline constexpr size_t kRuleNameBytesMax = 256;        // of a metric or a label
inline constexpr size_t kRuleFieldBytesMax = 1024;      // of the text that names a field
inline constexpr size_t kRuleLabelValueBytesMax = 256;  // of what an event gives a label

enum class MetricType : uint8_t {
  kCounter = 0,  // the sum of the values, or the number of events
  kGauge = 1,    // the value, at the event's timestamp
};

struct MetricRule {
  std::string metric;
  MetricType type = MetricType::kCounter;
  std::string value;  // empty: each event counts one
  std::map<std::string, std::string> labels;
  std::string filter;  // empty takes every event
  // Of each partition the first offset that is the rule's; partitions behind its end begin at 0. The broker's.
  std::vector<uint64_t> since = {};
  friend bool operator==(const MetricRule&, const MetricRule&) = default;
};

// Whether they are the same to whoever set them: all but `since`.
bool SameRule(const MetricRule& a, const MetricRule& b);

// All that the rule says, as bytes that no other rule has: docs/formats/events.md.
std::string EncodeMetricRule(const MetricRule& rule);
// False when the bytes are no such rule.
bool DecodeMetricRule(codec::ByteReader* reader, MetricRule* rule);

std::string_view MetricTypeName(MetricType type);
Result<MetricType> ParseMetricType(std::string_view name);

// The rules of a topic: a value that is cheap to copy.
class MetricRules {
 public:
  MetricRules() = default;
  explicit MetricRules(std::vector<MetricRule> rules);
  const std::vector<MetricRule>& list() const;
  bool empty() const { return rules_ == nullptr; }
  friend bool operator==(const MetricRules& a, const MetricRules& b) { return a.list() == b.list(); }

 private:
  std::shared_ptr<const std::vector<MetricRule>> rules_;  // null: none
};

Status CheckMetricRules(const MetricRules& rules);

// Why an event gives no sample.
enum class RuleSkip : uint8_t {
  kNone,      // it gives one
  kFiltered,  // the rule does not want it
  kBytes,     // the payload is no JSON
  kMissing,   // the field is not there
  kType,      // it is no number
  kNegative,  // a counter does not go down
  kLabel,     // a label's value is no UTF-8 or too long
};

class CompiledRules {
 public:
  struct Outcome {
    RuleSkip skip = RuleSkip::kNone;
    double value = 0;
    std::string labels;  // with the metric's name, as wire::LabelEncoding::kPairs
  };

  static Result<std::unique_ptr<const CompiledRules>> Compile(const MetricRules& rules);
  ~CompiledRules();
  CompiledRules(const CompiledRules&) = delete;
  CompiledRules& operator=(const CompiledRules&) = delete;

  // One outcome for each rule, in order; those whose `wanted` is false are kFiltered unseen.
  void Evaluate(std::string_view topic, const StoredEvent& event, const std::vector<bool>& wanted,
                std::vector<Outcome>* out) const;

 private:
  struct Rule;
  CompiledRules();
  std::vector<Rule> rules_;
};

}  // namespace millstream::events

// SchemaNode: one schema within a schema, compiled: what each of its keywords demands, and where the others lead.
//
// Ownership   TopicSchema::Compiled owns the nodes and the parsed text that their values point into.
#pragma once

#include <re2/re2.h>
#include <simdjson.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "json_value.h"
#include "millstream/base/hash.h"
#include "millstream/events/topic_schema.h"

namespace millstream::events {

// Of the nodes of a schema; kNoNode where a keyword is absent.
using NodeIndex = int32_t;
inline constexpr NodeIndex kNoNode = -1;

enum SchemaType : uint8_t {
  kTypeNull = 1,
  kTypeBoolean = 2,
  kTypeInteger = 4,
  kTypeNumber = 8,
  kTypeString = 16,
  kTypeArray = 32,
  kTypeObject = 64,
};

struct NumberBound {
  Exact value = 0;
  simdjson::dom::element written;
};

struct CountRange {
  uint64_t min = 0;
  uint64_t max = UINT64_MAX;
};

struct SchemaProperty {
  NodeIndex node = kNoNode;
  int32_t required = -1;  // its place in SchemaNode::required
};

struct SchemaDependency {
  std::string property;
  std::vector<std::string> required;
  NodeIndex node = kNoNode;
  std::string_view keyword;
};

struct NameHash {
  using is_transparent = void;
  size_t operator()(std::string_view name) const { return Hash64(name); }
};

struct SchemaNode {
  bool never = false;  // the schema `false`
  NodeIndex reference = kNoNode;
  uint8_t types = 0;  // SchemaType bits; none allow all

  // By hash; `const` is one alone.
  std::vector<std::pair<uint64_t, simdjson::dom::element>> values;
  bool has_values = false;
  std::string_view values_keyword;

  std::optional<NumberBound> minimum;
  std::optional<NumberBound> maximum;
  std::optional<NumberBound> exclusive_minimum;
  std::optional<NumberBound> exclusive_maximum;
  std::optional<simdjson::dom::element> multiple_of;
  Decimal step;

  CountRange length;
  std::unique_ptr<re2::RE2> pattern;

  CountRange item_count;
  std::vector<NodeIndex> first_items;
  NodeIndex items = kNoNode;  // behind first_items
  std::string_view items_keyword;
  NodeIndex contains = kNoNode;
  CountRange contains_count{.min = 1};
  bool unique_items = false;

  CountRange property_count;
  std::unordered_map<std::string, SchemaProperty, NameHash, std::equal_to<>> properties;
  std::vector<std::string> required;
  std::vector<std::pair<std::unique_ptr<re2::RE2>, NodeIndex>> pattern_properties;
  NodeIndex additional_properties = kNoNode;
  NodeIndex property_names = kNoNode;
  std::vector<SchemaDependency> dependencies;

  std::vector<NodeIndex> all_of;
  std::vector<NodeIndex> any_of;
  std::vector<NodeIndex> one_of;
  NodeIndex negated = kNoNode;
  NodeIndex condition = kNoNode;
  NodeIndex then_node = kNoNode;
  NodeIndex else_node = kNoNode;

  bool LooksAtObjects() const {
    return !properties.empty() || !pattern_properties.empty() || additional_properties != kNoNode ||
           property_names != kNoNode || !required.empty();
  }
};

struct TopicSchema::Compiled {
  std::string text;
  simdjson::dom::parser parser;  // owns what nodes point into
  std::vector<std::unique_ptr<SchemaNode>> nodes;
  NodeIndex root = 0;
};

}  // namespace millstream::events

// TopicSchema::Check: a payload against the nodes of a schema.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "schema_node.h"

namespace millstream::events {
namespace {

using simdjson::dom::element;
using simdjson::dom::element_type;

constexpr size_t kStepBytes = 64;  // of a text count as one step

constexpr std::array<std::pair<SchemaType, std::string_view>, 7> kTypeNames{{{kTypeNull, "null"},
                                                                             {kTypeBoolean, "boolean"},
                                                                             {kTypeInteger, "integer"},
                                                                             {kTypeNumber, "number"},
                                                                             {kTypeString, "string"},
                                                                             {kTypeArray, "array"},
                                                                             {kTypeObject, "object"}}};

// Of a number both `number` and, for what is whole, `integer`.
uint8_t TypesOf(element value) {
  switch (value.type()) {
    case element_type::NULL_VALUE:
      return kTypeNull;
    case element_type::BOOL:
      return kTypeBoolean;
    case element_type::STRING:
      return kTypeString;
    case element_type::ARRAY:
      return kTypeArray;
    case element_type::OBJECT:
      return kTypeObject;
    case element_type::DOUBLE:
      return IsIntegral(ExactOf(value)) ? kTypeNumber | kTypeInteger : kTypeNumber;
    default:
      return kTypeNumber | kTypeInteger;
  }
}

std::string TypeNames(uint8_t types) {
  std::string out;
  for (const auto& [type, name] : kTypeNames) {
    if ((types & type) == 0) continue;
    if (!out.empty()) out += " or ";
    out += name;
  }
  return out;
}

// Which of a node's required names were seen.
class Seen {
 public:
  explicit Seen(size_t names) : many_(names > 64 ? names : 0) {}
  void Add(size_t name) {
    if (many_.empty()) {
      few_ |= uint64_t{1} << name;
    } else {
      many_[name] = true;
    }
  }
  bool Has(size_t name) const { return many_.empty() ? (few_ >> name & 1) != 0 : many_[name]; }

 private:
  uint64_t few_ = 0;
  std::vector<bool> many_;
};

// A payload's way through the schema. The first thing that is wrong ends it, unless it is only asked whether something
// matches.
class Checker {
 public:
  Checker(const std::vector<std::unique_ptr<SchemaNode>>& nodes, size_t bytes)
      : nodes_(nodes), work_(kSchemaStepsMin + kSchemaStepsPerByte * static_cast<int64_t>(bytes)) {}

  Status Run(NodeIndex root, element payload) {
    const bool matches = Check(root, payload);
    if (work_.exhausted()) {
      return InvalidArgument(
          "the payload takes more steps to check against the topic's schema than the {} + {} for "
          "each byte that are allowed",
          kSchemaStepsMin, kSchemaStepsPerByte);
    }
    if (too_deep_) {
      return InvalidArgument("the payload leads the topic's schema through more than {} schemas within each other",
                             kSchemaDepthMax);
    }
    if (matches) return Status::Ok();
    return InvalidArgument("the payload does not match the topic's schema: at {}: {}: {}", Quoted(pointer_),
                           Quoted(keyword_), reason_);
  }

 private:
  const SchemaNode& Node(NodeIndex index) const { return *nodes_[static_cast<size_t>(index)]; }

  template <typename... Args>
  bool Fail(std::string_view keyword, fmt::format_string<Args...> format, Args&&... args) {
    if (silent_ > 0) return false;
    keyword_ = keyword;
    reason_ = fmt::format(format, std::forward<Args>(args)...);
    pointer_.clear();
    return false;
  }

  // The way to what is wrong, from its end.
  bool FailedAt(std::string_view token) {
    if (silent_ == 0) PrependToken(token, &pointer_);
    return false;
  }
  bool FailedAt(size_t item) { return silent_ > 0 ? false : FailedAt(fmt::to_string(item)); }

  bool Matches(NodeIndex index, element value) {
    ++silent_;
    const bool matches = Check(index, value);
    --silent_;
    return matches;
  }

  bool Check(NodeIndex index, element value) {
    if (!work_.Spend(1)) return false;
    if (depth_ >= kSchemaDepthMax) {
      too_deep_ = true;
      return false;
    }
    ++depth_;
    const bool matches = !too_deep_ && CheckAll(Node(index), value);
    --depth_;
    return matches;
  }

  bool CheckAll(const SchemaNode& node, element value) {
    if (node.never) return Fail("false", "nothing is allowed here");
    const uint8_t types = TypesOf(value);
    if (node.types != 0 && (node.types & types) == 0) {
      return Fail("type", "it must be {}, not {}", TypeNames(node.types),
                  TypeNames((types & kTypeInteger) != 0 ? uint8_t{kTypeInteger} : types));
    }
    if (node.has_values && !CheckValues(node, value)) return false;
    if ((types & kTypeNumber) != 0) {
      if (!CheckNumber(node, value)) return false;
    } else if ((types & kTypeString) != 0) {
      if (!CheckString(node, std::string_view{value})) return false;
    } else if ((types & kTypeArray) != 0) {
      if (!CheckArray(node, simdjson::dom::array{value})) return false;
    } else if ((types & kTypeObject) != 0) {
      if (!CheckObject(node, value)) return false;
    }
    if (node.reference != kNoNode && !Check(node.reference, value)) return false;
    return CheckCombined(node, value);
  }

  bool CheckValues(const SchemaNode& node, element value) {
    const uint64_t hash = HashJson(value, &work_);
    for (auto same = std::ranges::lower_bound(node.values, hash, {}, [](const auto& one) { return one.first; });
         same != node.values.end() && same->first == hash; ++same) {
      if (SameJson(value, same->second, &work_)) return true;
    }
    if (node.values_keyword == "const") return Fail("const", "it is not the one value that is allowed");
    return Fail("enum", "it is none of the {} values that are allowed", node.values.size());
  }

  bool CheckNumber(const SchemaNode& node, element value) {
    const Exact number = ExactOf(value);
    const auto fail = [&](std::string_view keyword, std::string_view relation, const NumberBound& bound) {
      return silent_ > 0
                 ? false
                 : Fail(keyword, "it must be {} {}, not {}", relation, NumberText(bound.written), NumberText(value));
    };
    if (node.minimum.has_value() && number < node.minimum->value) return fail("minimum", "at least", *node.minimum);
    if (node.maximum.has_value() && number > node.maximum->value) return fail("maximum", "at most", *node.maximum);
    if (node.exclusive_minimum.has_value() && number <= node.exclusive_minimum->value) {
      return fail("exclusiveMinimum", "above", *node.exclusive_minimum);
    }
    if (node.exclusive_maximum.has_value() && number >= node.exclusive_maximum->value) {
      return fail("exclusiveMaximum", "below", *node.exclusive_maximum);
    }
    if (node.multiple_of.has_value() && !IsMultiple(DecimalOf(value), node.step)) {
      return Fail("multipleOf", "it must be a multiple of {}, not {}", NumberText(*node.multiple_of),
                  NumberText(value));
    }
    return true;
  }

  bool CheckString(const SchemaNode& node, std::string_view text) {
    if (node.length.min > 0 || node.length.max != UINT64_MAX) {
      if (!work_.Spend(text.size() / kStepBytes)) return false;
      const size_t length = CodePoints(text);
      if (length < node.length.min) return Fail("minLength", "it has {} characters, not {}", length, node.length.min);
      if (length > node.length.max) {
        return Fail("maxLength", "it has {} characters; at most {} are allowed", length, node.length.max);
      }
    }
    if (node.pattern == nullptr) return true;
    if (!work_.Spend(1 + text.size() / kStepBytes)) return false;
    if (re2::RE2::PartialMatch(re2::StringPiece(text.data(), text.size()), *node.pattern)) return true;
    return Fail("pattern", "it does not match {}", Quoted(node.pattern->pattern()));
  }

  bool CheckArray(const SchemaNode& node, simdjson::dom::array items) {
    const bool looks_inside = !node.first_items.empty() || node.items != kNoNode || node.contains != kNoNode;
    uint64_t count = 0;
    uint64_t contained = 0;
    if (looks_inside) {
      for (const element item : items) {
        if (!work_.Spend(1)) return false;
        const NodeIndex one = count < node.first_items.size() ? node.first_items[count] : node.items;
        if (one != kNoNode && count >= node.first_items.size() && Node(one).never) {
          return Fail(node.items_keyword, "there are more than {} items", count) || FailedAt(count);
        }
        if (one != kNoNode && !Check(one, item)) return FailedAt(count);
        if (node.contains != kNoNode && Matches(node.contains, item)) ++contained;
        ++count;
      }
    } else {
      // The parser counts up to 2^24 items; whoever has more is counted here.
      count = items.size();
      if (count >= 0xFFFFFF) count = static_cast<uint64_t>(std::distance(items.begin(), items.end()));
    }
    if (count < node.item_count.min) return Fail("minItems", "it has {} items, not {}", count, node.item_count.min);
    if (count > node.item_count.max) {
      return Fail("maxItems", "it has {} items; at most {} are allowed", count, node.item_count.max);
    }
    if (node.contains != kNoNode && contained < node.contains_count.min) {
      return Fail(node.contains_count.min == 1 ? "contains" : "minContains", "{} items match \"contains\", not {}",
                  contained, node.contains_count.min);
    }
    if (node.contains != kNoNode && contained > node.contains_count.max) {
      return Fail("maxContains", "{} items match \"contains\"; at most {} are allowed", contained,
                  node.contains_count.max);
    }
    if (node.unique_items && !AllDiffer(items, &work_)) return Fail("uniqueItems", "two items are the same");
    return true;
  }

  bool CheckObject(const SchemaNode& node, element value) {
    const simdjson::dom::object object{value};
    Seen seen(node.required.size());
    uint64_t count = 0;
    if (node.LooksAtObjects()) {
      for (const auto [name, member] : object) {
        ++count;
        if (!CheckMember(node, name, member, &seen)) return FailedAt(name);
      }
    } else if (node.property_count.min > 0 || node.property_count.max != UINT64_MAX) {
      for ([[maybe_unused]] const auto member : object) ++count;
    }
    if (count < node.property_count.min) {
      return Fail("minProperties", "it has {} properties, not {}", count, node.property_count.min);
    }
    if (count > node.property_count.max) {
      return Fail("maxProperties", "it has {} properties; at most {} are allowed", count, node.property_count.max);
    }
    for (size_t i = 0; i < node.required.size(); ++i) {
      if (!seen.Has(i)) return Fail("required", "there is no property {}", Quoted(node.required[i]));
    }
    return std::ranges::all_of(node.dependencies, [&](const SchemaDependency& dependency) {
      return CheckDependency(dependency, object, value);
    });
  }

  bool CheckMember(const SchemaNode& node, std::string_view name, element member, Seen* seen) {
    if (!work_.Spend(1 + name.size() / kStepBytes)) return false;
    bool is_known = false;
    if (const auto property = node.properties.find(name); property != node.properties.end()) {
      if (property->second.required >= 0) seen->Add(static_cast<size_t>(property->second.required));
      if (property->second.node != kNoNode) {
        is_known = true;
        if (!Check(property->second.node, member)) return false;
      }
    }
    for (const auto& [pattern, one] : node.pattern_properties) {
      if (!work_.Spend(1 + name.size() / kStepBytes)) return false;
      if (!re2::RE2::PartialMatch(re2::StringPiece(name.data(), name.size()), *pattern)) continue;
      is_known = true;
      if (!Check(one, member)) return false;
    }
    if (!is_known && node.additional_properties != kNoNode) {
      if (Node(node.additional_properties).never) return Fail("additionalProperties", "there may be no such property");
      if (!Check(node.additional_properties, member)) return false;
    }
    if (node.property_names == kNoNode || CheckName(node.property_names, name)) return true;
    return Fail("propertyNames", "a property may not have this name");
  }

  bool CheckName(NodeIndex index, std::string_view name) {
    std::string text;
    text.reserve(name.size() + 2);
    AppendExactString(name, &text);
    element value;
    if (name_parser_.parse(text).get(value) != simdjson::SUCCESS) return false;
    return Matches(index, value);
  }

  // AppendJsonString would do as well, but that it escapes for HTML, too.
  static void AppendExactString(std::string_view text, std::string* out) {
    *out += '"';
    for (const char c : text) {
      if (static_cast<unsigned char>(c) < 0x20) {
        *out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
        continue;
      }
      if (c == '"' || c == '\\') *out += '\\';
      *out += c;
    }
    *out += '"';
  }

  bool CheckDependency(const SchemaDependency& dependency, simdjson::dom::object object, element value) {
    const auto has = [&](const std::string& name) {
      return work_.Spend(1 + object.size()) && object.at_key(name).error() == simdjson::SUCCESS;
    };
    if (!has(dependency.property)) return true;
    for (const std::string& name : dependency.required) {
      if (has(name)) continue;
      return Fail(dependency.keyword, "with the property {} there must be {}", Quoted(dependency.property),
                  Quoted(name));
    }
    return dependency.node == kNoNode || Check(dependency.node, value);
  }

  bool CheckCombined(const SchemaNode& node, element value) {
    for (const NodeIndex one : node.all_of) {
      if (!Check(one, value)) return false;
    }
    if (!node.any_of.empty() && std::ranges::none_of(node.any_of, [&](NodeIndex one) { return Matches(one, value); })) {
      return Fail("anyOf", "it matches none of the {} schemas", node.any_of.size());
    }
    if (!node.one_of.empty()) {
      const auto matching = std::ranges::count_if(node.one_of, [&](NodeIndex one) { return Matches(one, value); });
      if (matching != 1) {
        return Fail("oneOf", "it matches {} of the {} schemas, not one", matching, node.one_of.size());
      }
    }
    if (node.negated != kNoNode && Matches(node.negated, value)) return Fail("not", "it matches what it must not");
    if (node.condition == kNoNode) return true;
    const NodeIndex rest = Matches(node.condition, value) ? node.then_node : node.else_node;
    return rest == kNoNode || Check(rest, value);
  }

  const std::vector<std::unique_ptr<SchemaNode>>& nodes_;
  Work work_;
  size_t depth_ = 0;
  bool too_deep_ = false;
  int silent_ = 0;
  std::string keyword_;
  std::string reason_;
  std::string pointer_;
  simdjson::dom::parser name_parser_;
};

}  // namespace

Status TopicSchema::Check(std::string_view payload) const {
  // One for each thread: it keeps its buffers, which are bounded by the largest event.
  thread_local simdjson::dom::parser parser;
  element root;
  const simdjson::error_code error = parser.parse(payload.data(), payload.size(), true).get(root);
  if (error != simdjson::SUCCESS) {
    return InvalidArgument("the payload is not JSON: {}", simdjson::error_message(error));
  }
  return Checker(compiled_->nodes, payload.size()).Run(compiled_->root, root);
}

}  // namespace millstream::events

// TopicSchema::Compile: from the text of a JSON Schema to its nodes.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <set>
#include <span>

#include "schema_node.h"

namespace millstream::events {
namespace {

using simdjson::dom::element;
using simdjson::dom::element_type;

constexpr std::string_view kDraft7 = "http://json-schema.org/draft-07/schema";
constexpr std::string_view kDraft2020 = "https://json-schema.org/draft/2020-12/schema";

constexpr std::array<std::pair<std::string_view, SchemaType>, 7> kTypes{{{"null", kTypeNull},
                                                                         {"boolean", kTypeBoolean},
                                                                         {"integer", kTypeInteger},
                                                                         {"number", kTypeNumber},
                                                                         {"string", kTypeString},
                                                                         {"array", kTypeArray},
                                                                         {"object", kTypeObject}}};

Status Wrong(const std::string& at, std::string_view what) {
  return InvalidArgument("the schema is wrong at {}: {}", Quoted(at), what);
}

std::string Below(const std::string& at, std::string_view token) {
  std::string out;
  PrependToken(token, &out);
  return at + out;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// "%41" as "A"; what is no escape stays.
std::string PercentDecoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && HexDigit(text[i + 1]) >= 0 && HexDigit(text[i + 2]) >= 0) {
      out += static_cast<char>(HexDigit(text[i + 1]) * 16 + HexDigit(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

// How RE2 spells an expression of ECMA-262: \u0041 as \x{0041}, \cA as \x{01}, (?<name> as (?P<name>, \d, \w and \s as
// they are.
std::string PatternForRe2(std::string_view pattern) {
  std::string out;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const std::string_view rest = pattern.substr(i);
    if (rest.starts_with("\\u") && rest.size() >= 6 &&
        std::ranges::all_of(rest.substr(2, 4), [](char c) { return HexDigit(c) >= 0; })) {
      out += fmt::format("\\x{{{}}}", rest.substr(2, 4));
      i += 5;
    } else if (rest.starts_with("\\c") && rest.size() >= 3) {
      out += fmt::format("\\x{{{:02x}}}", static_cast<unsigned char>(rest[2]) % 32);
      i += 2;
    } else if (rest.front() == '\\' && rest.size() >= 2) {
      out += rest.substr(0, 2);
      i += 1;
    } else if (rest.starts_with("(?<") && !rest.starts_with("(?<=") && !rest.starts_with("(?<!")) {
      out += "(?P<";
      i += 2;
    } else {
      out += rest.front();
    }
  }
  return out;
}

std::string_view UriWithoutFragment(std::string_view uri) {
  return uri.substr(0, uri.find('#'));
}

}  // namespace

// Compiles every schema within the text that a keyword leads to, then those that only references lead to. Recursion is
// bounded by the nesting of the text: references wait in a list.
class SchemaCompiler {
 public:
  explicit SchemaCompiler(TopicSchema::Compiled* out) : out_(*out) {}

  Status Run() {
    const auto error = out_.parser.allocate(out_.text.size(), kSchemaNestingMax);
    if (error != simdjson::SUCCESS) return ResourceExhausted("no memory for the schema");
    if (const auto parsed = out_.parser.parse(out_.text).get(document_); parsed != simdjson::SUCCESS) {
      if (parsed == simdjson::DEPTH_ERROR) {
        return InvalidArgument("the schema is nested deeper than {} levels", kSchemaNestingMax);
      }
      return InvalidArgument("the schema is not JSON: {}", simdjson::error_message(parsed));
    }
    simdjson::dom::object root;
    if (document_.get(root) != simdjson::SUCCESS) return InvalidArgument("a schema is a JSON object");
    MS_RETURN_IF_ERROR(ReadDraft(root));
    MS_ASSIGN_OR_RETURN(out_.root, NodeAt("", document_));
    // Grows while it is worked off.
    for (size_t i = 0; i < references_.size(); ++i) {
      const Reference reference = references_[i];
      MS_ASSIGN_OR_RETURN(const NodeIndex target, Resolve(reference));
      Node(reference.from).reference = target;
    }
    return CheckCircles();
  }

 private:
  struct Reference {
    NodeIndex from = kNoNode;
    std::string uri;
    std::string at;
  };
  using Handler = Status (SchemaCompiler::*)(SchemaNode& node, element value, const std::string& at);
  enum Drafts : uint8_t { kOld = 1, kNew = 2, kBoth = 3 };
  struct Keyword {
    Handler handler;
    Drafts drafts = kBoth;
  };

  SchemaNode& Node(NodeIndex index) { return *out_.nodes[static_cast<size_t>(index)]; }

  Status ReadDraft(simdjson::dom::object root) {
    element given;
    if (root.at_key("$schema").get(given) == simdjson::SUCCESS) {
      std::string_view uri;
      if (given.get(uri) != simdjson::SUCCESS) return Wrong("/$schema", "it must be a text");
      if (uri.ends_with('#')) uri.remove_suffix(1);
      if (uri == kDraft7) {
        drafts_ = kOld;
      } else if (uri == kDraft2020) {
        drafts_ = kNew;
      } else {
        return Wrong("/$schema", fmt::format("{} is no draft that is known here: \"{}#\" and \"{}\" are", Quoted(uri),
                                             kDraft7, kDraft2020));
      }
    }
    if (root.at_key("$id").get(given) == simdjson::SUCCESS) {
      std::string_view uri;
      if (given.get(uri) != simdjson::SUCCESS) return Wrong("/$id", "it must be a text");
      id_ = UriWithoutFragment(uri);
    }
    return Status::Ok();
  }

  Result<NodeIndex> NodeAt(const std::string& at, element schema) {
    const auto known = by_place_.find(at);
    if (known != by_place_.end()) return known->second;
    if (schema.type() != element_type::OBJECT && schema.type() != element_type::BOOL) {
      return Wrong(at, "a schema is an object, true or false");
    }
    if (out_.nodes.size() >= kSchemaNodesMax) {
      return InvalidArgument("there are more than {} schemas in the schema", kSchemaNodesMax);
    }
    const auto index = static_cast<NodeIndex>(out_.nodes.size());
    out_.nodes.push_back(std::make_unique<SchemaNode>());
    by_place_.emplace(at, index);
    if (schema.type() == element_type::BOOL) {
      Node(index).never = !bool{schema};
      return index;
    }
    MS_RETURN_IF_ERROR(Fill(index, simdjson::dom::object{schema}, at));
    return index;
  }

  Status Fill(NodeIndex index, simdjson::dom::object schema, const std::string& at) {
    SchemaNode& node = Node(index);
    element reference;
    if (schema.at_key("$ref").get(reference) == simdjson::SUCCESS) {
      std::string_view uri;
      if (reference.get(uri) != simdjson::SUCCESS) return Wrong(Below(at, "$ref"), "it must be a text");
      references_.push_back({.from = index, .uri = std::string(uri), .at = Below(at, "$ref")});
      // What stands beside a reference counts since 2019-09. Schemas that are only defined there count anyway.
      if (drafts_ == kOld) {
        for (const std::string_view keyword : {"definitions", "$defs"}) {
          element definitions;
          if (schema.at_key(keyword).get(definitions) != simdjson::SUCCESS) continue;
          MS_RETURN_IF_ERROR(Definitions(node, definitions, Below(at, keyword)));
        }
        return Status::Ok();
      }
    }
    MS_RETURN_IF_ERROR(Named(index, schema, at));
    for (const auto [keyword, value] : schema) {
      const auto known = Keywords().find(keyword);
      if (known == Keywords().end() || (known->second.drafts & drafts_) == 0) continue;
      MS_RETURN_IF_ERROR((this->*known->second.handler)(node, value, Below(at, keyword)));
    }
    MS_RETURN_IF_ERROR(Items(node, schema, at));
    // A property that must be there is found with the others.
    for (size_t i = 0; i < node.required.size(); ++i) {
      node.properties[node.required[i]].required = static_cast<int32_t>(i);
    }
    return Status::Ok();
  }

  // "$id": "#name" of old, "$anchor" of new.
  Status Named(NodeIndex index, simdjson::dom::object schema, const std::string& at) {
    element given;
    std::string_view name;
    if (schema.at_key("$id").get(given) == simdjson::SUCCESS && !at.empty()) {
      if (given.get(name) != simdjson::SUCCESS) return Wrong(Below(at, "$id"), "it must be a text");
      if ((drafts_ & kOld) == 0 || !name.starts_with('#') || name.size() < 2) {
        return Wrong(Below(at, "$id"), "an \"$id\" within a schema is not taken: refer to its place (\"#/$defs/…\")");
      }
      MS_RETURN_IF_ERROR(AddAnchor(index, name.substr(1), Below(at, "$id")));
    }
    if ((drafts_ & kNew) != 0 && schema.at_key("$anchor").get(given) == simdjson::SUCCESS) {
      if (given.get(name) != simdjson::SUCCESS || name.empty()) {
        return Wrong(Below(at, "$anchor"), "it must be a text that is not empty");
      }
      return AddAnchor(index, name, Below(at, "$anchor"));
    }
    return Status::Ok();
  }

  Status AddAnchor(NodeIndex index, std::string_view name, const std::string& at) {
    if (anchors_.emplace(name, index).second) return Status::Ok();
    return Wrong(at, fmt::format("two schemas are named {}", Quoted(name)));
  }

  static const std::map<std::string_view, Keyword>& Keywords() {
    using C = SchemaCompiler;
    static const std::map<std::string_view, Keyword> keywords{
        {"type", {&C::Type}},
        {"enum", {&C::Enum}},
        {"const", {&C::Const}},
        {"minimum", {&C::Bound<&SchemaNode::minimum>}},
        {"maximum", {&C::Bound<&SchemaNode::maximum>}},
        {"exclusiveMinimum", {&C::Bound<&SchemaNode::exclusive_minimum>}},
        {"exclusiveMaximum", {&C::Bound<&SchemaNode::exclusive_maximum>}},
        {"multipleOf", {&C::MultipleOf}},
        {"minLength", {&C::Count<&SchemaNode::length, &CountRange::min>}},
        {"maxLength", {&C::Count<&SchemaNode::length, &CountRange::max>}},
        {"minItems", {&C::Count<&SchemaNode::item_count, &CountRange::min>}},
        {"maxItems", {&C::Count<&SchemaNode::item_count, &CountRange::max>}},
        {"minProperties", {&C::Count<&SchemaNode::property_count, &CountRange::min>}},
        {"maxProperties", {&C::Count<&SchemaNode::property_count, &CountRange::max>}},
        {"minContains", {&C::Count<&SchemaNode::contains_count, &CountRange::min>, kNew}},
        {"maxContains", {&C::Count<&SchemaNode::contains_count, &CountRange::max>, kNew}},
        {"pattern", {&C::Pattern}},
        {"uniqueItems", {&C::UniqueItems}},
        {"required", {&C::Required}},
        {"properties", {&C::Properties}},
        {"patternProperties", {&C::PatternProperties}},
        {"additionalProperties", {&C::One<&SchemaNode::additional_properties>}},
        {"propertyNames", {&C::One<&SchemaNode::property_names>}},
        {"contains", {&C::One<&SchemaNode::contains>}},
        {"not", {&C::One<&SchemaNode::negated>}},
        {"if", {&C::One<&SchemaNode::condition>}},
        {"then", {&C::One<&SchemaNode::then_node>}},
        {"else", {&C::One<&SchemaNode::else_node>}},
        {"allOf", {&C::Several<&SchemaNode::all_of>}},
        {"anyOf", {&C::Several<&SchemaNode::any_of>}},
        {"oneOf", {&C::Several<&SchemaNode::one_of>}},
        {"dependencies", {&C::Dependencies, kOld}},
        {"dependentRequired", {&C::DependentRequired, kNew}},
        {"dependentSchemas", {&C::DependentSchemas, kNew}},
        {"definitions", {&C::Definitions}},
        {"$defs", {&C::Definitions}},
        {"unevaluatedProperties", {&C::Unsupported, kNew}},
        {"unevaluatedItems", {&C::Unsupported, kNew}},
        {"$dynamicRef", {&C::Unsupported, kNew}},
        {"$recursiveRef", {&C::Unsupported, kNew}},
    };
    return keywords;
  }

  Status Unsupported(SchemaNode& /*node*/, element /*value*/, const std::string& at) {
    return Wrong(at, "this keyword is not supported");
  }

  Status Type(SchemaNode& node, element value, const std::string& at) {
    const auto add = [&](element one) {
      std::string_view name;
      const auto type = one.get(name) == simdjson::SUCCESS
                            ? std::ranges::find(kTypes, name, [](const auto& known) { return known.first; })
                            : kTypes.end();
      if (type == kTypes.end()) {
        return Wrong(at,
                     "a type is \"null\", \"boolean\", \"integer\", \"number\", \"string\", \"array\" or \"object\"");
      }
      node.types |= type->second;
      return Status::Ok();
    };
    simdjson::dom::array several;
    if (value.get(several) != simdjson::SUCCESS) return add(value);
    if (several.size() == 0) return Wrong(at, "there must be a type at least");
    for (const element one : several) MS_RETURN_IF_ERROR(add(one));
    return Status::Ok();
  }

  Status Values(SchemaNode& node, std::span<const element> values, std::string_view keyword) {
    // Both keywords at once: what is in both. A schema that has them is rare enough for the plain way.
    Work work(kSchemaStepsMin + kSchemaStepsPerByte * static_cast<int64_t>(out_.text.size()));
    std::vector<std::pair<uint64_t, element>> hashed;
    for (const element value : values) {
      const bool is_in_both = !node.has_values || std::ranges::any_of(node.values, [&](const auto& known) {
        return SameJson(known.second, value, &work);
      });
      if (is_in_both) hashed.emplace_back(HashJson(value, &work), value);
    }
    if (work.exhausted()) return InvalidArgument("the values of \"{}\" take too many steps to compare", keyword);
    std::ranges::sort(hashed, {}, [](const auto& one) { return one.first; });
    node.values = std::move(hashed);
    node.has_values = true;
    node.values_keyword = keyword;
    return Status::Ok();
  }

  Status Enum(SchemaNode& node, element value, const std::string& at) {
    simdjson::dom::array several;
    if (value.get(several) != simdjson::SUCCESS) return Wrong(at, "it must be an array");
    const std::vector<element> values(several.begin(), several.end());
    return Values(node, values, "enum");
  }

  Status Const(SchemaNode& node, element value, const std::string& /*at*/) {
    return Values(node, std::span(&value, 1), "const");
  }

  template <std::optional<NumberBound> SchemaNode::* kMember>
  Status Bound(SchemaNode& node, element value, const std::string& at) {
    if (!IsNumber(value)) return Wrong(at, "it must be a number");
    node.*kMember = NumberBound{.value = ExactOf(value), .written = value};
    return Status::Ok();
  }

  Status MultipleOf(SchemaNode& node, element value, const std::string& at) {
    if (!IsNumber(value) || ExactOf(value) <= 0) return Wrong(at, "it must be a number above 0");
    node.multiple_of = value;
    node.step = DecimalOf(value);
    return Status::Ok();
  }

  template <CountRange SchemaNode::* kRange, uint64_t CountRange::* kEnd>
  Status Count(SchemaNode& node, element value, const std::string& at) {
    if (!IsNumber(value) || !IsIntegral(ExactOf(value)) || ExactOf(value) < 0) {
      return Wrong(at, "it must be a whole number, 0 or above");
    }
    // Nothing has more than this many.
    const Exact count = std::min<Exact>(ExactOf(value), static_cast<Exact>(UINT64_MAX - 1));
    node.*kRange.*kEnd = static_cast<uint64_t>(count);
    return Status::Ok();
  }

  Result<std::unique_ptr<re2::RE2>> MakePattern(std::string_view pattern, const std::string& at) {
    if (++patterns_ > kSchemaPatternsMax) {
      return Wrong(at, fmt::format("there are more than {} patterns in the schema", kSchemaPatternsMax));
    }
    re2::RE2::Options options(re2::RE2::Quiet);
    options.set_max_mem(kSchemaPatternMemoryBytes);
    auto compiled = std::make_unique<re2::RE2>(PatternForRe2(pattern), options);
    if (compiled->ok()) return compiled;
    return Wrong(at,
                 fmt::format("{} is no pattern that is taken (lookaround, references back and counts above 1000 are "
                             "not): {}",
                             Quoted(pattern), compiled->error()));
  }

  Status Pattern(SchemaNode& node, element value, const std::string& at) {
    std::string_view pattern;
    if (value.get(pattern) != simdjson::SUCCESS) return Wrong(at, "it must be a text");
    MS_ASSIGN_OR_RETURN(node.pattern, MakePattern(pattern, at));
    return Status::Ok();
  }

  Status UniqueItems(SchemaNode& node, element value, const std::string& at) {
    return value.get(node.unique_items) == simdjson::SUCCESS ? Status::Ok() : Wrong(at, "it must be true or false");
  }

  Result<std::vector<std::string>> Names(element value, const std::string& at) {
    simdjson::dom::array several;
    if (value.get(several) != simdjson::SUCCESS) return Wrong(at, "it must be an array of names");
    std::vector<std::string> names;
    std::set<std::string_view> seen;
    for (const element one : several) {
      std::string_view name;
      if (one.get(name) != simdjson::SUCCESS) return Wrong(at, "it must be an array of names");
      if (seen.insert(name).second) names.emplace_back(name);
    }
    return names;
  }

  Status Required(SchemaNode& node, element value, const std::string& at) {
    MS_ASSIGN_OR_RETURN(node.required, Names(value, at));
    return Status::Ok();
  }

  template <NodeIndex SchemaNode::* kMember>
  Status One(SchemaNode& node, element value, const std::string& at) {
    MS_ASSIGN_OR_RETURN(node.*kMember, NodeAt(at, value));
    return Status::Ok();
  }

  Result<std::vector<NodeIndex>> NodesOf(element value, const std::string& at) {
    simdjson::dom::array several;
    if (value.get(several) != simdjson::SUCCESS || several.size() == 0) {
      return Wrong(at, "it must be an array of schemas that is not empty");
    }
    std::vector<NodeIndex> nodes;
    for (const element one : several) {
      MS_ASSIGN_OR_RETURN(const NodeIndex node, NodeAt(Below(at, fmt::to_string(nodes.size())), one));
      nodes.push_back(node);
    }
    return nodes;
  }

  template <std::vector<NodeIndex> SchemaNode::* kMember>
  Status Several(SchemaNode& node, element value, const std::string& at) {
    MS_ASSIGN_OR_RETURN(node.*kMember, NodesOf(value, at));
    return Status::Ok();
  }

  Result<simdjson::dom::object> ObjectOf(element value, const std::string& at) {
    simdjson::dom::object object;
    if (value.get(object) != simdjson::SUCCESS) return Wrong(at, "it must be an object");
    return object;
  }

  Status Properties(SchemaNode& node, element value, const std::string& at) {
    MS_ASSIGN_OR_RETURN(const auto object, ObjectOf(value, at));
    for (const auto [name, schema] : object) {
      MS_ASSIGN_OR_RETURN(node.properties[std::string(name)].node, NodeAt(Below(at, name), schema));
    }
    return Status::Ok();
  }

  Status PatternProperties(SchemaNode& node, element value, const std::string& at) {
    MS_ASSIGN_OR_RETURN(const auto object, ObjectOf(value, at));
    for (const auto [pattern, schema] : object) {
      MS_ASSIGN_OR_RETURN(auto compiled, MakePattern(pattern, Below(at, pattern)));
      MS_ASSIGN_OR_RETURN(const NodeIndex one, NodeAt(Below(at, pattern), schema));
      node.pattern_properties.emplace_back(std::move(compiled), one);
    }
    return Status::Ok();
  }

  Status Definitions(SchemaNode& /*node*/, element value, const std::string& at) {
    MS_ASSIGN_OR_RETURN(const auto object, ObjectOf(value, at));
    for (const auto [name, schema] : object) MS_RETURN_IF_ERROR(NodeAt(Below(at, name), schema).status());
    return Status::Ok();
  }

  Status AddDependency(SchemaNode& node, std::string_view name, element value, const std::string& at,
                       std::string_view keyword) {
    SchemaDependency dependency{.property = std::string(name), .required = {}, .node = kNoNode, .keyword = keyword};
    if (value.type() == element_type::ARRAY && keyword != "dependentSchemas") {
      MS_ASSIGN_OR_RETURN(dependency.required, Names(value, at));
    } else if (keyword == "dependentRequired") {
      return Wrong(at, "it must be an array of names");
    } else {
      MS_ASSIGN_OR_RETURN(dependency.node, NodeAt(at, value));
    }
    node.dependencies.push_back(std::move(dependency));
    return Status::Ok();
  }

  Status AllDependencies(SchemaNode& node, element value, const std::string& at, std::string_view keyword) {
    MS_ASSIGN_OR_RETURN(const auto object, ObjectOf(value, at));
    for (const auto [name, one] : object) {
      MS_RETURN_IF_ERROR(AddDependency(node, name, one, Below(at, name), keyword));
    }
    return Status::Ok();
  }
  Status Dependencies(SchemaNode& node, element value, const std::string& at) {
    return AllDependencies(node, value, at, "dependencies");
  }
  Status DependentRequired(SchemaNode& node, element value, const std::string& at) {
    return AllDependencies(node, value, at, "dependentRequired");
  }
  Status DependentSchemas(SchemaNode& node, element value, const std::string& at) {
    return AllDependencies(node, value, at, "dependentSchemas");
  }

  // "items" with "additionalItems" of old, "prefixItems" with "items" of new.
  Status Items(SchemaNode& node, simdjson::dom::object schema, const std::string& at) {
    element items;
    const bool has_items = schema.at_key("items").get(items) == simdjson::SUCCESS;
    element first;
    if ((drafts_ & kNew) != 0 && schema.at_key("prefixItems").get(first) == simdjson::SUCCESS) {
      MS_ASSIGN_OR_RETURN(node.first_items, NodesOf(first, Below(at, "prefixItems")));
    }
    if (!has_items) return Status::Ok();
    if (items.type() != element_type::ARRAY || (drafts_ & kOld) == 0 || !node.first_items.empty()) {
      node.items_keyword = "items";
      return One<&SchemaNode::items>(node, items, Below(at, "items"));
    }
    if (simdjson::dom::array{items}.size() > 0) {
      MS_ASSIGN_OR_RETURN(node.first_items, NodesOf(items, Below(at, "items")));
    }
    element more;
    if (schema.at_key("additionalItems").get(more) != simdjson::SUCCESS) return Status::Ok();
    node.items_keyword = "additionalItems";
    return One<&SchemaNode::items>(node, more, Below(at, "additionalItems"));
  }

  // --- references ---

  Result<NodeIndex> Resolve(const Reference& reference) {
    const std::string_view uri = reference.uri;
    const std::string_view document = UriWithoutFragment(uri);
    if (!document.empty() && document != id_) {
      return Wrong(reference.at,
                   fmt::format("{} leads out of the schema, and nothing is fetched: put it under \"$defs\" "
                               "and refer to \"#/$defs/…\"",
                               Quoted(uri)));
    }
    const std::string fragment = document.size() == uri.size() ? "" : PercentDecoded(uri.substr(document.size() + 1));
    if (!fragment.empty() && fragment.front() != '/') {
      const auto anchor = anchors_.find(fragment);
      if (anchor != anchors_.end()) return anchor->second;
      return Wrong(reference.at, fmt::format("no schema is named {}", Quoted(fragment)));
    }
    element at = document_;
    std::string place;
    std::string_view rest = fragment;
    while (!rest.empty()) {
      rest.remove_prefix(1);
      std::string token(rest.substr(0, rest.find('/')));
      rest.remove_prefix(token.size());
      token = Unescaped(token);
      if (!Step(token, &at)) {
        return Wrong(reference.at, fmt::format("there is nothing at {}", Quoted(fragment)));
      }
      place = Below(place, token);
    }
    auto node = NodeAt(place, at);
    if (!node.ok()) return std::move(node).status().WithContext(fmt::format("referred to at {}", Quoted(reference.at)));
    return node;
  }

  static std::string Unescaped(std::string_view token) {
    std::string out;
    for (size_t i = 0; i < token.size(); ++i) {
      const std::string_view rest = token.substr(i);
      const bool is_escape = rest.starts_with("~0") || rest.starts_with("~1");
      out += !is_escape ? rest[0] : rest[1] == '0' ? '~' : '/';
      i += is_escape ? 1 : 0;
    }
    return out;
  }

  static bool Step(const std::string& token, element* at) {
    simdjson::dom::array array;
    if (at->get(array) != simdjson::SUCCESS) {
      simdjson::dom::object object;
      return at->get(object) == simdjson::SUCCESS && object.at_key(token).get(*at) == simdjson::SUCCESS;
    }
    size_t index = 0;
    const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), index);
    return error == std::errc() && end == token.data() + token.size() && array.at(index).get(*at) == simdjson::SUCCESS;
  }

  // --- circles ---

  // The schemas that apply to the same value as this one.
  std::vector<NodeIndex> Beside(NodeIndex index) {
    const SchemaNode& node = Node(index);
    std::vector<NodeIndex> out{node.reference, node.negated, node.condition, node.then_node, node.else_node};
    for (const auto* several : {&node.all_of, &node.any_of, &node.one_of}) {
      out.insert(out.end(), several->begin(), several->end());
    }
    for (const SchemaDependency& dependency : node.dependencies) out.push_back(dependency.node);
    std::erase(out, kNoNode);
    return out;
  }

  // A schema that applies to a value because it applies to it: no payload would ever be through.
  Status CheckCircles() {
    enum class State : uint8_t { kNew, kOpen, kDone };
    std::vector<State> states(out_.nodes.size(), State::kNew);
    struct Open {
      NodeIndex node;
      std::vector<NodeIndex> left;
    };
    for (size_t start = 0; start < states.size(); ++start) {
      if (states[start] != State::kNew) continue;
      std::vector<Open> path;
      const auto enter = [&](NodeIndex node) {
        states[static_cast<size_t>(node)] = State::kOpen;
        path.push_back({node, Beside(node)});
      };
      enter(static_cast<NodeIndex>(start));
      while (!path.empty()) {
        if (path.back().left.empty()) {
          states[static_cast<size_t>(path.back().node)] = State::kDone;
          path.pop_back();
          continue;
        }
        const NodeIndex next = path.back().left.back();
        path.back().left.pop_back();
        if (states[static_cast<size_t>(next)] == State::kOpen) {
          const auto place = std::ranges::find(by_place_, next, [](const auto& one) { return one.second; });
          return Wrong(place == by_place_.end() ? "" : place->first, "its references lead in a circle to itself");
        }
        if (states[static_cast<size_t>(next)] == State::kNew) enter(next);
      }
    }
    return Status::Ok();
  }

  TopicSchema::Compiled& out_;
  element document_;
  Drafts drafts_ = kBoth;
  std::string id_;
  size_t patterns_ = 0;
  std::map<std::string, NodeIndex> by_place_;  // by the pointer in the text
  std::map<std::string, NodeIndex, std::less<>> anchors_;
  std::vector<Reference> references_;
};

Result<TopicSchema> TopicSchema::Compile(std::string_view text) {
  if (text.size() > kSchemaBytesMax) {
    return InvalidArgument("the schema has {} bytes; at most {} are taken", text.size(), kSchemaBytesMax);
  }
  auto compiled = std::make_shared<Compiled>();
  compiled->text = text;
  MS_RETURN_IF_ERROR(SchemaCompiler(compiled.get()).Run());
  TopicSchema out;
  out.compiled_ = std::move(compiled);
  return out;
}

const std::string& TopicSchema::text() const {
  static const std::string none;
  return compiled_ == nullptr ? none : compiled_->text;
}

}  // namespace millstream::events

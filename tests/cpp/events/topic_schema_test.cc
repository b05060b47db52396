// What schemas may be, and what they say of payloads.
#include "millstream/events/topic_schema.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "events_fixture.h"
#include "meta_record.h"

namespace millstream::events {
namespace {

// "" when the payload matches; what is wrong with it, or with the schema.
std::string Checked(std::string_view schema, std::string_view payload) {
  const auto compiled = TopicSchema::Compile(schema);
  if (!compiled.ok()) return compiled.status().ToString();
  const Status status = compiled->Check(payload);
  return status.ok() ? "" : status.ToString();
}

bool Fits(std::string_view schema, std::string_view payload) {
  const std::string found = Checked(schema, payload);
  EXPECT_TRUE(found.empty() || found.starts_with("INVALID_ARGUMENT: the payload does not match")) << found;
  return found.empty();
}

std::string Refused(std::string_view schema) {
  const auto compiled = TopicSchema::Compile(schema);
  return compiled.ok() ? "taken" : std::string(compiled.status().message());
}

std::string Repeated(std::string_view text, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i) out += text;
  return out;
}

TEST(TopicSchema, SaysThePointerAndTheKeywordOfWhatIsWrong) {
  const std::string_view schema = R"({
    "type": "object", "required": ["id", "items"], "additionalProperties": false,
    "properties": {
      "id": {"type": "string", "pattern": "^[a-z]+$"},
      "items": {"type": "array", "minItems": 1, "items": {"type": "object", "properties": {
        "price": {"type": "number", "minimum": 0.5}, "a/b~c": {"const": 1}}}}}})";
  const std::string before = "INVALID_ARGUMENT: the payload does not match the topic's schema: at ";
  EXPECT_EQ(Checked(schema, R"({"id": "a", "items": [{"price": 1}]})"), "");
  EXPECT_EQ(Checked(schema, "[]"), before + R"("": "type": it must be object, not array)");
  EXPECT_EQ(Checked(schema, R"({"id": "a"})"), before + R"("": "required": there is no property "items")");
  EXPECT_EQ(Checked(schema, R"({"id": "A", "items": [{}]})"),
            before + R"("/id": "pattern": it does not match "^[a-z]+$")");
  EXPECT_EQ(Checked(schema, R"({"id": "a", "items": [{}, {"price": 0.25}]})"),
            before + R"("/items/1/price": "minimum": it must be at least 0.5, not 0.25)");
  EXPECT_EQ(Checked(schema, R"({"id": "a", "items": [{"a/b~c": 2}]})"),
            before + R"("/items/0/a~1b~0c": "const": it is not the one value that is allowed)");
  EXPECT_EQ(Checked(schema, R"({"id": "a", "items": [{}], "x": 1})"),
            before + R"("/x": "additionalProperties": there may be no such property)");
  EXPECT_EQ(Checked(schema, R"({"id": )").substr(0, 45), "INVALID_ARGUMENT: the payload is not JSON: Th");
}

TEST(TopicSchema, WhatAPayloadIsCalledIsWrittenSafely) {
  const std::string found = Checked(R"({"additionalProperties": false})", R"({"a\n<b>\"": 1})");
  EXPECT_EQ(found.find('\n'), std::string::npos);
  EXPECT_EQ(found.find('<'), std::string::npos);
  const std::string name = Repeated("ü", 5000);
  EXPECT_LT(Checked(R"({"additionalProperties": false})", fmt::format(R"({{"{}": 1}})", name)).size(), 500U);
}

TEST(TopicSchema, NumbersAreComparedExactly) {
  EXPECT_TRUE(Fits(R"({"maximum": 9007199254740993})", "9007199254740993"));
  EXPECT_FALSE(Fits(R"({"maximum": 9007199254740992})", "9007199254740993"));
  EXPECT_FALSE(Fits(R"({"maximum": 18446744073709551614})", "18446744073709551615"));
  EXPECT_TRUE(Fits(R"({"const": 1})", "1.0"));
  EXPECT_TRUE(Fits(R"({"type": "integer"})", "1.0"));
  EXPECT_FALSE(Fits(R"({"type": "integer"})", "1.5"));
  EXPECT_TRUE(Fits(R"({"multipleOf": 0.01})", "19.99"));
  EXPECT_FALSE(Fits(R"({"multipleOf": 0.01})", "19.999"));
  EXPECT_TRUE(Fits(R"({"multipleOf": 1e-8})", "12391239123.0"));
  EXPECT_TRUE(Fits(R"({"multipleOf": 3})", "-9"));
  EXPECT_FALSE(Fits(R"({"multipleOf": 1e300})", "1e299"));
  EXPECT_TRUE(Fits(R"({"multipleOf": 0.5})", "1e308"));
  // What has no double is no JSON here, with a schema or without.
  EXPECT_NE(Checked("{}", "1e400").find("is not JSON"), std::string::npos);
  EXPECT_NE(Refused(R"({"maximum": 1e400})").find("is not JSON"), std::string::npos);
}

TEST(TopicSchema, NothingIsFetched) {
  for (const std::string_view uri :
       {"http://127.0.0.1:1/x.json", "https://example.com/a.json#/$defs/a", "file:///etc/passwd", "other.json",
        "//host/share", "http://json-schema.org/draft-07/schema#"}) {
    const std::string found = Refused(fmt::format(R"({{"properties": {{"a": {{"$ref": "{}"}}}}}})", uri));
    EXPECT_NE(found.find("leads out of the schema, and nothing is fetched"), std::string::npos) << uri << found;
    EXPECT_NE(found.find("/properties/a/$ref"), std::string::npos) << found;
  }
  // The schema's own name leads nowhere else.
  EXPECT_FALSE(Fits(R"({"$id": "https://example.com/a.json", "$defs": {"n": {"type": "number"}},
                           "items": {"$ref": "https://example.com/a.json#/$defs/n"}})",
                    R"(["x"])"));
}

TEST(TopicSchema, ReferencesLeadWithinTheSchema) {
  const std::string_view tree = R"({"$defs": {"tree": {"type": "object", "required": ["n"], "properties": {
    "n": {"type": "integer"}, "left": {"$ref": "#/$defs/tree"}, "right": {"$ref": "#/$defs/tree"}}}},
    "$ref": "#/$defs/tree"})";
  EXPECT_TRUE(Fits(tree, R"({"n": 1, "left": {"n": 2, "right": {"n": 3}}})"));
  EXPECT_NE(Checked(tree, R"({"n": 1, "left": {"n": 2, "right": {"n": "x"}}})").find("\"/left/right/n\": \"type\""),
            std::string::npos);
  EXPECT_FALSE(Fits(R"({"definitions": {"a/b%": {"type": "null"}}, "$ref": "#/definitions/a~1b%25"})", "1"));
  EXPECT_FALSE(Fits(R"({"$defs": {"x": {"$anchor": "name", "type": "null"}}, "items": {"$ref": "#name"}})", "[1]"));
  EXPECT_FALSE(Fits(R"({"definitions": {"x": {"$id": "#name", "type": "null"}}, "items": {"$ref": "#name"}})", "[1]"));
  EXPECT_FALSE(Fits(R"({"$comment": {"here": {"type": "null"}}, "items": {"$ref": "#/$comment/here"}})", "[1]"));
  EXPECT_NE(Refused(R"({"$ref": "#/$defs/none"})").find("there is nothing at \"/$defs/none\""), std::string::npos);
  EXPECT_NE(Refused(R"({"$ref": "#none"})").find("no schema is named \"none\""), std::string::npos);
}

TEST(TopicSchema, CirclesOfReferencesAreRefusedWhenTheSchemaIsMade) {
  for (const std::string_view schema :
       {R"({"$ref": "#"})", R"({"allOf": [{"$ref": "#"}]})", R"({"not": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}})",
        R"({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}})",
        R"({"dependentSchemas": {"x": {"$ref": "#"}}})", R"({"if": {"$ref": "#"}})"}) {
    EXPECT_NE(Refused(schema).find("circle"), std::string::npos) << schema << Refused(schema);
  }
}

TEST(TopicSchema, DeepPayloadsAndLongChainsEndWithinBounds) {
  const std::string_view lists = R"({"items": {"$ref": "#"}})";
  EXPECT_TRUE(Fits(lists, Repeated("[", 1000) + Repeated("]", 1000)));
  const std::string deep = Checked(lists, Repeated("[", 200'000) + Repeated("]", 200'000));
  EXPECT_TRUE(deep.starts_with("INVALID_ARGUMENT: the payload is not JSON")) << deep;

  const std::string_view many = R"({"allOf": [{"anyOf": [{"not": {"not": {"items": {"$ref": "#"}}}}]}]})";
  EXPECT_TRUE(Fits(many, Repeated("[", 300) + Repeated("]", 300)));
  const std::string too_many = Checked(many, Repeated("[", 1000) + Repeated("]", 1000));
  EXPECT_NE(too_many.find("more than 2048 schemas within each other"), std::string::npos) << too_many;
}

TEST(TopicSchema, ASchemaThatDoublesTheWorkWithEachLevelEndsWithinBounds) {
  const std::string_view doubling = R"({"anyOf": [
    {"properties": {"a": {"$ref": "#"}}, "required": ["x"]}, {"properties": {"a": {"$ref": "#"}}, "required": ["y"]}]})";
  const std::string payload = Repeated(R"({"a":)", 60) + "{}" + Repeated("}", 60);
  const auto begin = std::chrono::steady_clock::now();
  const std::string found = Checked(doubling, payload);
  EXPECT_TRUE(found.starts_with("INVALID_ARGUMENT: the payload takes more steps")) << found;
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

TEST(TopicSchema, PatternsTakeTimeInProportionToTheText) {
  const std::string text = "\"" + Repeated("a", 500'000) + "!\"";
  EXPECT_FALSE(Fits(R"({"pattern": "^(a|a)*$"})", text));
  EXPECT_FALSE(Fits(R"({"pattern": "^(a+)+$"})", text));
  EXPECT_TRUE(Fits(R"({"pattern": "a!$"})", text));
  EXPECT_TRUE(Fits(R"({"pattern": "^\\u00e9\\d{2}(?<rest>[\\w-]*)$"})", "\"é12ab-c\""));
  EXPECT_TRUE(Fits(R"({"pattern": "\\\\u0041"})", R"("\\u0041")"));
  EXPECT_TRUE(Fits(R"({"patternProperties": {"^x-": {"type": "integer"}}})", R"({"x-a": 1, "y": "z"})"));
  EXPECT_FALSE(Fits(R"({"patternProperties": {"^x-": {"type": "integer"}}})", R"({"x-a": "1"})"));
  for (const std::string_view pattern : {"(?=a)b", "(?!a)", "(?<=a)b", "(a)\\\\1", "a{1001}", "(", "[z-a]", "\\\\q"}) {
    const std::string found = Refused(fmt::format(R"({{"properties": {{"p": {{"pattern": "{}"}}}}}})", pattern));
    EXPECT_NE(found.find("is no pattern that is taken"), std::string::npos) << pattern << " " << found;
    EXPECT_NE(found.find("/properties/p/pattern"), std::string::npos) << found;
  }
  // Neither long to compile nor large.
  EXPECT_NE(Refused(R"({"pattern": "((((x{100}){10}){10}){10}){10}"})").find("no pattern"), std::string::npos);
  EXPECT_NE(Refused(R"({"pattern": "[\\p{L}\\p{N}]{900}"})").find("no pattern"), std::string::npos);
}

TEST(TopicSchema, LimitsOfASchemaAreNamed) {
  EXPECT_EQ(Refused(Repeated(" ", kSchemaBytesMax) + "{}"), "the schema has 65538 bytes; at most 65536 are taken");
  EXPECT_EQ(Refused(Repeated(R"({"not":)", 200) + "{}" + Repeated("}", 200)),
            "the schema is nested deeper than 128 levels");
  EXPECT_EQ(Refused(R"({"const":)" + Repeated("[", 60'000)).substr(0, 13), "the schema is");
  std::string several = R"({"allOf": [{})";
  for (int i = 0; i < 5000; ++i) several += ",{}";
  EXPECT_EQ(Refused(several + "]}"), "there are more than 4096 schemas in the schema");
  std::string patterns = R"({"patternProperties": {"a": {})";
  for (int i = 0; i < 100; ++i) patterns += fmt::format(R"(,"a{}":{{}})", i);
  EXPECT_NE(Refused(patterns + "}}").find("more than 100 patterns"), std::string::npos);
}

TEST(TopicSchema, DraftsThatAreNotKnownAreRefusedAndUnknownKeywordsAreNot) {
  EXPECT_TRUE(
      Fits(R"({"$schema": "http://json-schema.org/draft-07/schema#", "color": "red", "format": "email"})", "1"));
  EXPECT_TRUE(Fits(R"({"$schema": "https://json-schema.org/draft/2020-12/schema", "dependencies": 3})", "1"));
  for (const std::string_view draft : {"http://json-schema.org/draft-04/schema#", "https://example.com/mine", ""}) {
    EXPECT_NE(Refused(fmt::format(R"({{"$schema": "{}"}})", draft)).find("is no draft that is known here"),
              std::string::npos);
  }
  EXPECT_NE(Refused(R"({"$schema": 7})").find("/$schema"), std::string::npos);
  EXPECT_NE(Refused(R"({"unevaluatedProperties": false})").find("not supported"), std::string::npos);
  EXPECT_NE(Refused(R"({"$defs": {"a": {"$id": "a.json"}}})").find("not taken"), std::string::npos);
  for (const std::string_view wrong : {"[]",
                                       "true",
                                       "3",
                                       "",
                                       "{",
                                       R"({"type": "strin"})",
                                       R"({"type": []})",
                                       R"({"required": "a"})",
                                       R"({"minimum": "1"})",
                                       R"({"exclusiveMinimum": true})",
                                       R"({"minLength": -1})",
                                       R"({"minLength": 1.5})",
                                       R"({"properties": []})",
                                       R"({"properties": {"a": 1}})",
                                       R"({"allOf": []})",
                                       R"({"allOf": {}})",
                                       R"({"enum": 1})",
                                       R"({"multipleOf": 0})",
                                       R"({"items": 1})",
                                       R"({"uniqueItems": 1})",
                                       R"({"pattern": 1})",
                                       R"({"$ref": 1})",
                                       R"({"not": null})"}) {
    EXPECT_NE(Refused(wrong), "taken") << wrong;
  }
}

TEST(TopicSchema, EachDraftHasItsOwnWayWithArraysAndReferences) {
  const auto with = [](std::string_view draft, std::string_view rest) {
    return fmt::format(R"({{"$schema": "{}", {}}})", draft, rest);
  };
  const std::string_view old = "http://json-schema.org/draft-07/schema#";
  const std::string_view now = "https://json-schema.org/draft/2020-12/schema";
  const std::string_view tuple = R"("items": [{"type": "integer"}], "additionalItems": false)";
  EXPECT_FALSE(Fits(with(old, tuple), "[1, 2]"));
  EXPECT_FALSE(Fits(with(old, tuple), R"(["a"])"));
  EXPECT_NE(Refused(with(now, tuple)), "taken");
  const std::string_view prefix = R"("prefixItems": [{"type": "integer"}], "items": false)";
  EXPECT_FALSE(Fits(with(now, prefix), "[1, 2]"));
  EXPECT_TRUE(Fits(with(now, prefix), "[1]"));
  EXPECT_FALSE(Fits(with(old, prefix), "[1]"));
  const std::string_view beside = R"("$defs": {"a": {"minimum": 1}}, "$ref": "#/$defs/a", "maximum": 3)";
  EXPECT_TRUE(Fits(with(old, beside), "4"));
  EXPECT_FALSE(Fits(with(now, beside), "4"));
  EXPECT_FALSE(Fits(with(now, beside), "0"));
}

TEST(TopicSchema, ValuesThatOccurTwiceAreFoundWhateverTheyAre) {
  EXPECT_FALSE(Fits(R"({"uniqueItems": true})", R"([{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}])"));
  EXPECT_TRUE(Fits(R"({"uniqueItems": true})", R"([1, true, "1", [1], {"1": 1}, null, 0, false])"));
  std::string many = "[0";
  for (int i = 1; i < 100'000; ++i) many += fmt::format(",{}", i);
  EXPECT_TRUE(Fits(R"({"uniqueItems": true})", many + "]"));
  EXPECT_FALSE(Fits(R"({"uniqueItems": true})", many + ",99.0]"));
  // A name that occurs twice: both of its values count.
  EXPECT_FALSE(Fits(R"({"properties": {"a": {"type": "integer"}}})", R"({"a": 1, "a": "x"})"));
  EXPECT_FALSE(Fits(R"({"properties": {"a": {"type": "integer"}}})", R"({"a": "x", "a": 1})"));
}

TEST(TopicSchema, IsKeptInTheRecordOfItsTopic) {
  PutTopic put{.topic = {.name = "orders", .tenant = TenantId(3), .number = 7, .created_ms = 5, .options = {}}};
  const std::string without = EncodeChange(put);
  const auto schema = TopicSchema::Compile(R"({ "type": "object" })");
  ASSERT_TRUE(schema.ok());
  put.topic.options.schema = *schema;
  const std::string with = EncodeChange(put);
  EXPECT_EQ(with[0], 16);
  const auto decoded = DecodeChange(with);
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ(std::get<PutTopic>(*decoded), put);
  EXPECT_EQ(std::get<PutTopic>(*decoded).topic.options.schema.text(), R"({ "type": "object" })");
  EXPECT_EQ(without[0], 1);
  EXPECT_TRUE(std::get<PutTopic>(*DecodeChange(without)).topic.options.schema.empty());
  // A record whose schema is none is not read as one without.
  std::string wrong = with;
  wrong[wrong.find("type")] = '"';
  EXPECT_EQ(DecodeChange(wrong).status().code(), StatusCode::kDataLoss);
}

PublishEvent JsonEvent(std::string_view payload, std::optional<std::string_view> key = {}) {
  PublishEvent event = Text("orders", payload);
  event.event.is_json = true;
  event.event.key = key;
  return event;
}

std::vector<std::string> Outcomes(Broker& broker, const std::vector<PublishEvent>& events) {
  std::vector<std::string> out;
  for (const auto& answer : broker.Publish(kTenant, events)) {
    out.emplace_back(answer.ok() ? "stored" : StatusCodeName(answer.status().code()));
  }
  return out;
}

TEST(TopicSchema, RefusesAnEventByItselfAlsoAfterACrash) {
  SimMachine machine(71);
  const auto schema = TopicSchema::Compile(R"({"required": ["n"], "properties": {"n": {"type": "integer"}}})");
  ASSERT_TRUE(schema.ok());
  const std::vector<PublishEvent> events{JsonEvent(R"({"n": 1})"), JsonEvent(R"({"n": "x"})"), Text("orders", "bytes"),
                                         JsonEvent(R"({"n": 2})"), JsonEvent("{")};
  const std::vector<std::string> outcomes{"stored", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "stored",
                                          "INVALID_ARGUMENT"};
  {
    const auto broker = machine.MustOpen();
    MustCreate(*broker, "orders", {.schema = *schema});
    EXPECT_EQ(Outcomes(*broker, events), outcomes);
  }
  machine.files.PowerCut();
  const auto broker = machine.MustOpen();
  EXPECT_EQ(broker->DescribeTopic(kTenant, "orders")->info.options.schema, *schema);
  EXPECT_EQ(Outcomes(*broker, events), outcomes);
  EXPECT_EQ(ReadAll(*broker, "orders"),
            std::vector<std::string>({R"({"n": 1})", R"({"n": 2})", R"({"n": 1})", R"({"n": 2})"}));
}

TEST(TopicSchema, AChangeHoldsFromThenOn) {
  SimMachine machine(72);
  auto broker = machine.MustOpen();
  MustCreate(*broker, "orders");
  EXPECT_EQ(Outcomes(*broker, {JsonEvent("1")}), std::vector<std::string>({"stored"}));
  ASSERT_TRUE(broker->AlterTopic(kTenant, "orders", {.schema = *TopicSchema::Compile(R"({"minimum": 2})")}).ok());
  EXPECT_EQ(Outcomes(*broker, {JsonEvent("1"), JsonEvent("2")}),
            std::vector<std::string>({"INVALID_ARGUMENT", "stored"}));
  // Other changes leave it.
  ASSERT_TRUE(broker->AlterTopic(kTenant, "orders", {.retention_ms = 1'000'000}).ok());
  EXPECT_EQ(Outcomes(*broker, {JsonEvent("1")}), std::vector<std::string>({"INVALID_ARGUMENT"}));
  ASSERT_TRUE(broker->AlterTopic(kTenant, "orders", {.schema = TopicSchema()}).ok());
  EXPECT_EQ(Outcomes(*broker, {JsonEvent("1"), Text("orders", "bytes")}),
            std::vector<std::string>({"stored", "stored"}));
  broker.reset();
  machine.files.PowerCut();
  broker = machine.MustOpen();
  EXPECT_TRUE(broker->DescribeTopic(kTenant, "orders")->info.options.schema.empty());
  EXPECT_EQ(ReadAll(*broker, "orders"), std::vector<std::string>({"1", "2", "1", "bytes"}));
}

TEST(TopicSchema, WhatDeletesItsKeyNeedNotMatch) {
  SimMachine machine(73);
  const auto broker = machine.MustOpen();
  MustCreate(*broker, "orders",
             {.cleanup = TopicCleanup::kCompact, .schema = *TopicSchema::Compile(R"({"type": "object"})")});
  PublishEvent empty = Text("orders", "");
  empty.event.key = "a";
  EXPECT_EQ(Outcomes(*broker, {JsonEvent("{}", "a"), JsonEvent("null", "a"), empty, JsonEvent("1", "a")}),
            std::vector<std::string>({"stored", "stored", "stored", "INVALID_ARGUMENT"}));
}

TEST(TopicSchema, SchemasOfAllTopicsTogetherAreBounded) {
  SimMachine machine(74);
  const auto broker = machine.MustOpen(storage::Durability::kProcess);
  const std::string padding(kSchemaBytesMax - 2, ' ');
  const auto largest = TopicSchema::Compile("{" + padding + "}");
  ASSERT_TRUE(largest.ok());
  constexpr size_t kRoom = kSchemaBytesTotalMax / kSchemaBytesMax;
  for (size_t i = 0; i < kRoom; ++i) MustCreate(*broker, fmt::format("t{}", i), {.schema = *largest});
  MustCreate(*broker, "more");
  EXPECT_EQ(broker->AlterTopic(kTenant, "more", {.schema = *largest}).status().code(), StatusCode::kResourceExhausted);
  // One that has a schema may get another of its size; a topic that goes makes room.
  EXPECT_TRUE(broker->AlterTopic(kTenant, "t0", {.schema = *largest}).ok());
  ASSERT_TRUE(broker->DeleteTopic(kTenant, "t0").ok());
  EXPECT_TRUE(broker->AlterTopic(kTenant, "more", {.schema = *largest}).ok());
}

}  // namespace
}  // namespace millstream::events

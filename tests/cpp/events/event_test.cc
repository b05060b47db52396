// Ids, records and names: what is pure about events.
#include "millstream/events/event.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "millstream/env/random.h"
#include "millstream/events/event_id.h"
#include "millstream/events/event_json.h"
#include "millstream/events/limits.h"
#include "millstream/events/topic.h"

namespace millstream::events {
namespace {

TEST(EventId, SaysWhereTheEventIs) {
  const EventId id{.taken_ms = 1'732'000'000'123, .topic = 0xFEDCBA98, .partition = 1023, .offset_low = 0xDEADBEEF};
  const std::string text = FormatEventId(id);
  EXPECT_EQ(text, "0193433e-a87b-7fed-b2ea-63ffdeadbeef");
  EXPECT_EQ(ParseEventId(text), id);
  std::string upper = text;
  std::ranges::transform(upper, upper.begin(), [](char c) { return static_cast<char>(std::toupper(c)); });
  EXPECT_EQ(ParseEventId(upper), id);
}

TEST(EventId, EveryDigitStandsWhereItBelongs) {
  env::SeededRandom random(11);
  for (int i = 0; i < 10'000; ++i) {
    const EventId id{.taken_ms = static_cast<TimestampMs>(random.Below(uint64_t{1} << 48)),
                     .topic = static_cast<uint32_t>(random.Below(uint64_t{1} << 32)),
                     .partition = static_cast<uint32_t>(random.Below(1024)),
                     .offset_low = static_cast<uint32_t>(random.Below(uint64_t{1} << 32))};
    const auto time = static_cast<uint64_t>(id.taken_ms);
    const uint64_t behind = uint64_t{2} << 62 | uint64_t{id.topic & 0xFFFFF} << 42 | uint64_t{id.partition} << 32;
    ASSERT_EQ(FormatEventId(id), fmt::format("{:08x}-{:04x}-7{:03x}-{:04x}-{:04x}{:08x}", time >> 16, time & 0xFFFF,
                                             id.topic >> 20, behind >> 48, behind >> 32 & 0xFFFF, id.offset_low));
    ASSERT_EQ(ParseEventId(FormatEventId(id)), id);
  }
}

TEST(EventId, SortsByTimeThenByPlace) {
  std::vector<std::string> texts;
  for (const TimestampMs time : {1, 2}) {
    for (const uint32_t topic : {1U, 1U << 25}) {
      for (const uint32_t partition : {0U, 1000U}) {
        for (const uint32_t offset : {0U, 1U, UINT32_MAX}) {
          texts.push_back(FormatEventId({time, topic, partition, offset}));
        }
      }
    }
  }
  EXPECT_TRUE(std::ranges::is_sorted(texts));
}

TEST(EventId, RefusesWhatIsNoUuidOfVersionSeven) {
  EXPECT_FALSE(ParseEventId("").has_value());
  EXPECT_FALSE(ParseEventId("01934335-ce7b-4fed-b2ea-63ffdeadbeef").has_value());
  EXPECT_FALSE(ParseEventId("01934335-ce7b-7fed-32ea-63ffdeadbeef").has_value());
  EXPECT_FALSE(ParseEventId("01934335ace7b-7fed-b2ea-63ffdeadbeef").has_value());
  EXPECT_FALSE(ParseEventId("01934335-ce7b-7fed-b2ea-63ffdeadbeeg").has_value());
}

TEST(EventId, IsWhatTheClientNamedTheEventWhereItDid) {
  const EventId id{.taken_ms = 1'732'000'000'123, .topic = 1, .partition = 2, .offset_low = 3};
  EventIdText room;
  const std::string_view own = IdOf("", id, &room);
  EXPECT_EQ(own, FormatEventId(id));
  EXPECT_EQ(own.data(), room.data());
  const std::string_view named = "order:1";
  EXPECT_EQ(IdOf(named, id, &room).data(), named.data());
}

EventView Full() {
  EventView event;
  event.taken_ms = 1'700'000'000'000;
  event.timestamp = -5;
  event.is_json = true;
  event.client_id = "order:1";
  event.producer = ProducerStamp{.id = "p", .epoch = 3, .sequence = 1'000'000'000'000};
  event.key = "k";
  event.headers = {{"a", "1"}, {"a", ""}};
  event.payload = R"({"x":1})";
  return event;
}

TEST(EventRecord, ReadsBackWhatWasWritten) {
  EXPECT_EQ(*DecodeEvent(EncodeEvent(Full())), Full());
  EventView bare;
  bare.taken_ms = 7;
  bare.timestamp = 7;
  EXPECT_EQ(*DecodeEvent(EncodeEvent(bare, false)), bare);
  bare.key = "";
  EXPECT_EQ(*DecodeEvent(EncodeEvent(bare, false)), bare);
}

TEST(EventRecord, KeepsItsLayout) {
  EventView event;
  event.taken_ms = 1;
  event.timestamp = 2;
  event.key = "k";
  event.headers = {{"h", "v"}};
  event.payload = "p";
  const std::string expected("\x01\x12\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01k\x01\x01h\x01vp", 26);
  EXPECT_EQ(EncodeEvent(event), expected);
}

TEST(EventRecord, RefusesEveryPrefixOfItsHead) {
  const std::string record = EncodeEvent(Full());
  const size_t head = record.size() - Full().payload.size();
  for (size_t size = 0; size < head; ++size) {
    const auto decoded = DecodeEvent(std::string_view(record).substr(0, size));
    ASSERT_EQ(decoded.status().code(), StatusCode::kDataLoss) << size;
  }
}

TEST(EventRecord, TakenTimeIsWrittenIntoTheRecord) {
  EventView event = Full();
  auto given = StoredEvent::Make(EncodeEvent(event, true));
  ASSERT_TRUE(given.ok());
  (*given)->SetTaken(42);
  EXPECT_EQ((*given)->view().timestamp, -5);
  EXPECT_EQ(DecodeEvent((*given)->record())->taken_ms, 42);
  auto none = StoredEvent::Make(EncodeEvent(event, false));
  ASSERT_TRUE(none.ok());
  (*none)->SetTaken(42);
  EXPECT_EQ((*none)->view().timestamp, 42);
  EXPECT_EQ(DecodeEvent((*none)->record())->timestamp, 42);
}

TEST(EventJson, BytesThatAreNoTextComeAsBase64) {
  EventView event;
  event.key = "\xFF";
  event.payload = "ab";
  auto stored = StoredEvent::Make(EncodeEvent(event));
  ASSERT_TRUE(stored.ok());
  (*stored)->SetPlace(1, 2, 3);
  std::string json;
  AppendEventJson("t", **stored, &json);
  EXPECT_EQ(json, R"({"type":"event","id":"00000000-0000-7000-8000-040200000003","topic":"t","partition":2,"offset":3,)"
                  R"("timestamp":0,"key_base64":"/w==","headers":{},"payload_base64":"YWI="})");
  EXPECT_TRUE(CheckJson(json).ok());
}

TEST(EventJson, AnAbsentKeyIsNullAndAnEmptyOneIsEmpty) {
  EventView event;
  event.payload = "1";
  event.is_json = true;
  std::string json;
  AppendEventJson("t", **StoredEvent::Make(EncodeEvent(event)), &json);
  EXPECT_NE(json.find(R"("timestamp":0,"key":null,"headers":{},"payload":1})"), std::string::npos) << json;
  event.key = "";
  json.clear();
  AppendEventJson("t", **StoredEvent::Make(EncodeEvent(event)), &json);
  EXPECT_NE(json.find(R"("timestamp":0,"key":"","headers":{},"payload":1})"), std::string::npos) << json;
}

TEST(EventJson, PayloadGoesOutAsItCameIn) {
  EventView event = Full();
  auto stored = StoredEvent::Make(EncodeEvent(event));
  std::string json;
  AppendEventJson("t", **stored, &json);
  EXPECT_NE(json.find(R"("key":"k","headers":{"a":"1","a":""},"payload":{"x":1}})"), std::string::npos) << json;
  EXPECT_EQ(CheckJson("{\"x\":").code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckJson("1 2").code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckJson("\"\xFF\"").code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(CheckJson("null").ok());
}

TEST(EventJson, APayloadIsNestedNoDeeperThanEveryDoorCanRead) {
  const auto nested = [](size_t levels) { return std::string(levels, '[') + "1" + std::string(levels, ']'); };
  EXPECT_TRUE(CheckJson(nested(128)).ok());
  EXPECT_EQ(CheckJson(nested(129)).ToString(), "INVALID_ARGUMENT: the payload is nested more than 128 levels deep");
  // Also where the parser's memory has grown meanwhile.
  EXPECT_TRUE(CheckJson("\"" + std::string(100'000, 'x') + "\"").ok());
  EXPECT_TRUE(CheckJson(nested(128)).ok());
  EXPECT_FALSE(CheckJson(nested(129)).ok());
}

TEST(TopicName, TakesOnlyWhatIsSafeEverywhere) {
  EXPECT_TRUE(CheckTopicName("orders.eu-1_x").ok());
  EXPECT_TRUE(CheckTopicName(std::string(249, 'a')).ok());
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("a/b"), std::string("a b"), std::string("ä"),
        std::string("a*"), std::string(250, 'a'), std::string("a\0b", 3)}) {
    EXPECT_EQ(CheckTopicName(name).code(), StatusCode::kInvalidArgument) << name;
  }
}

TEST(TopicName, StarMatchesAnything) {
  EXPECT_TRUE(TopicMatches("*", "orders"));
  EXPECT_TRUE(TopicMatches("orders.*", "orders.eu.1"));
  EXPECT_TRUE(TopicMatches("*.eu", "orders.eu"));
  EXPECT_TRUE(TopicMatches("a*b*c", "axxbyybc"));
  EXPECT_FALSE(TopicMatches("orders.*", "orders"));
  EXPECT_FALSE(TopicMatches("a*b", "abc"));
  EXPECT_FALSE(TopicMatches("*", "__internal"));
  EXPECT_TRUE(TopicMatches("__*", "__internal"));
}

}  // namespace
}  // namespace millstream::events

#include "filter.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "events_fixture.h"
#include "millstream/env/random.h"

namespace millstream::events {
namespace {

std::shared_ptr<StoredEvent> Event(std::string_view payload, bool is_json = true) {
  EventView view;
  view.is_json = is_json;
  view.payload = payload;
  view.key = "a";
  view.headers = {{"region", "eu"}, {"region", "us"}};
  auto stored = StoredEvent::Make(EncodeEvent(view));
  EXPECT_TRUE(stored.ok());
  return *stored;
}

bool Matches(std::string_view text, std::string_view payload, bool is_json = true) {
  const auto filter = Filter::Parse(text);
  EXPECT_TRUE(filter.ok()) << text << ": " << filter.status().ToString();
  return filter.ok() && (*filter)->Matches("orders", Event(payload, is_json)->view());
}

constexpr std::string_view kOrder = R"({"amount":12.5,"gift":false,"note":null,"items":[{"id":"x"},2],"a b":1})";

TEST(Filter, ComparesFieldsKeyHeadersAndTopic) {
  for (const char* text :
       {"payload.amount > 10", "payload.amount >= 12.5 && payload.amount <= 12.5", "payload.amount == 12.5",
        "10 < payload.amount", "key == \"a\"", "headers.region == \"eu\"", "headers[\"region\"] != \"us\"",
        "topic == \"orders\"", "payload.items[0].id == \"x\"", "payload.items[1] == 2", "payload[\"a b\"] == 1",
        "payload.note == null", "payload.gift == false", "!payload.gift", "payload.items", "key < \"b\"",
        "payload.amount > 100 || key == \"a\"", "!(payload.amount > 100) && !payload.none",
        "payload.amount == -1 || payload.amount == 1.25e1"}) {
    EXPECT_TRUE(Matches(text, kOrder)) << text;
  }
}

TEST(Filter, WhatIsAbsentOrOfAnotherKindIsUnequalAndNeverAbove) {
  for (const char* text : {"payload.none == null", "payload.none > 0", "payload.none", "payload.note", "payload.gift",
                           "payload.amount == \"12.5\"", "payload.amount < \"z\"", "payload.items == payload.items",
                           "payload.items[2] == 2", "payload.amount.x == 1", "headers.none == \"\"",
                           "payload.note < null", "false <= false"}) {
    EXPECT_FALSE(Matches(text, kOrder)) << text;
  }
  EXPECT_TRUE(Matches("payload.none != 1", kOrder));
  EXPECT_TRUE(Matches("payload.amount != \"12.5\"", kOrder));
  EXPECT_FALSE(Matches("payload == 1", "1", false));
  EXPECT_TRUE(Matches("payload == 1", "1"));
}

TEST(Filter, WholeNumbersAreComparedExactly) {
  for (const char* text : {"payload == 1234567890123456789", "payload > 1234567890123456788",
                           "payload < 1234567890123456790", "payload != 1234567890123456790"}) {
    EXPECT_TRUE(Matches(text, "1234567890123456789")) << text;
    EXPECT_FALSE(Matches(std::string("!(") + text + ")", "1234567890123456789")) << text;
  }
  EXPECT_FALSE(Matches("payload == 9007199254740992", "9007199254740993"));
  EXPECT_TRUE(Matches("payload > 9007199254740992.0", "9007199254740993"));
  EXPECT_TRUE(Matches("payload == 18446744073709551615", "18446744073709551615"));
  EXPECT_FALSE(Matches("payload == 18446744073709551616", "18446744073709551615"));
  EXPECT_TRUE(Matches("payload == -9223372036854775808", "-9223372036854775808"));
  EXPECT_FALSE(Matches("payload == -9223372036854775807", "-9223372036854775808"));
  EXPECT_TRUE(Matches("payload == 1e0 && payload == 1 && payload == 1.0", "1"));
  EXPECT_TRUE(Matches("payload == 0.1", "0.1"));
}

TEST(Filter, KeyOfAnEventWithoutOneIsNull) {
  EventView view;
  view.payload = "1";
  const auto holds = [&](std::string_view text) { return (*Filter::Parse(text))->Matches("t", view); };
  EXPECT_TRUE(holds("key == null"));
  EXPECT_FALSE(holds("key != null"));
  EXPECT_FALSE(holds("key"));
  EXPECT_TRUE(holds("key != \"a\""));
}

TEST(Filter, NamesMayHaveLettersBeyondAscii) {
  EXPECT_TRUE(Matches("payload.größe == 2 && payload[\"größe\"] == 2", "{\"größe\":2}"));
}

TEST(Filter, AndBindsStrongerThanOr) {
  EXPECT_TRUE(Matches("true || false && false", "1"));
  EXPECT_FALSE(Matches("(true || false) && false", "1"));
  EXPECT_FALSE(Matches("!true || false", "1"));
}

TEST(Filter, SaysWhereItIsWrong) {
  for (const char* text : {"", "payload.", "key ==", "key = 1", "(key", "key)", "\"open", "payload[", "payload[-1]",
                           "headers", "headers.a.b", "who == 1", "\"\\n\"", "1 == 1 == 1", "key && "}) {
    const auto filter = Filter::Parse(text);
    ASSERT_EQ(filter.status().code(), StatusCode::kInvalidArgument) << text;
    EXPECT_NE(filter.status().message().find("at byte"), std::string_view::npos) << text;
  }
}

TEST(Filter, ItsSizeAndDepthAreBounded) {
  EXPECT_EQ(Filter::Parse(std::string(100, '(')).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Filter::Parse(std::string(kFilterDepthMax + 1, '!') + "key").status().code(), StatusCode::kInvalidArgument);
  std::string many = "key";
  for (int i = 0; i < 300; ++i) many += "||key";
  EXPECT_EQ(Filter::Parse(many).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Filter::Parse(std::string(kFilterBytesMax + 1, ' ')).status().code(), StatusCode::kInvalidArgument);
}

TEST(Filter, TextAtRandomIsReadOrRefused) {
  static constexpr std::string_view kPieces[] = {
      "payload", ".a", "[0]", "[\"x\"]", "key",   "headers.h", "==",   "!=",   "<", ">=", "&&", "||",
      "!",       "(",  ")",   "1",       "\"s\"", " ",         "null", "true", "-", "\"", "."};
  env::SeededRandom random(1);
  int read = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string text;
    for (uint64_t n = random.Below(8); n > 0; --n) text += kPieces[random.Below(std::size(kPieces))];
    const auto filter = Filter::Parse(text);
    if (!filter.ok()) continue;
    ++read;
    (void)(*filter)->Matches("t", Event(kOrder)->view());
  }
  EXPECT_GT(read, 100);
}

TEST(Filter, ASubscriptionSeesOnlyWhatItWants) {
  SimMachine machine(1);
  const auto broker = machine.MustOpen();
  MustCreate(*broker, "orders");
  auto subscription = broker->Subscribe(kTenant, {.topics = {"orders"}, .filter = "payload >= 3"}, nullptr);
  ASSERT_TRUE(subscription.ok());
  for (const char* payload : {"1", "3", "2", "4"}) {
    PublishEvent event = Text("orders", payload);
    event.event.is_json = true;
    ASSERT_TRUE(PublishOne(*broker, event).ok());
  }
  const auto polled = (*subscription)->Poll(10, 1 << 20, 0);
  ASSERT_TRUE(polled.ok());
  ASSERT_EQ(polled->events.size(), 2U);
  EXPECT_EQ(polled->events[1].event->view().payload, "4");
  EXPECT_EQ((*subscription)->Position()["orders"][0], 4U);
  EXPECT_EQ(broker->Subscribe(kTenant, {.topics = {"orders"}, .filter = "payload >"}, nullptr).status().code(),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace millstream::events

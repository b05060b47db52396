#include "millstream/wire/native_events.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "millstream/wire/native_frame.h"

namespace millstream::wire {
namespace {

NativeEventBatch SomeEvents() {
  NativeEventBatch batch{.topics = {"orders", "a.b"}, .events = {}};
  batch.events.push_back({.topic = 0,
                          .is_json = true,
                          .key = "k",
                          .timestamp = -5,
                          .id = "own-id",
                          .partition = 7,
                          .number = 1ULL << 60,
                          .headers = {{"h", ""}, {"", std::string_view("\0x", 2)}},
                          .payload = "{}"});
  batch.events.push_back({.topic = 1,
                          .is_json = false,
                          .key = {},
                          .timestamp = {},
                          .id = {},
                          .partition = {},
                          .number = {},
                          .headers = {},
                          .payload = {}});
  batch.events.push_back({.topic = 0,
                          .is_json = false,
                          .key = "",
                          .timestamp = 0,
                          .id = {},
                          .partition = 0,
                          .number = 0,
                          .headers = {},
                          .payload = "p"});
  return batch;
}

std::string PayloadOf(const std::string& frame) {
  NativeFrameReader reader;
  reader.Feed(frame);
  const auto next = reader.Next();
  EXPECT_TRUE(next.ok() && *next);
  return next.ok() && *next ? std::string((*next)->payload) : std::string();
}
std::string PayloadOf(const Result<std::string>& frame) {
  EXPECT_TRUE(frame.ok());
  return frame.ok() ? PayloadOf(*frame) : std::string();
}

// Whole it gives back what went in; of every part of it, and with anything behind it, nothing.
template <typename T, typename Decode>
void ExpectRoundTrip(const T& value, Decode decode) {
  const std::string payload = PayloadOf(EncodeNative(value));
  const auto back = decode(payload);
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_EQ(*back, value);
  for (size_t size = 0; size < payload.size(); ++size) {
    EXPECT_EQ(decode(std::string_view(payload).substr(0, size)).status().code(), StatusCode::kInvalidArgument) << size;
  }
  const std::string longer = payload + '\0';
  EXPECT_EQ(decode(longer).status().code(), StatusCode::kInvalidArgument);
}

TEST(NativeEvents, DecodingGivesBackWhatWasEncoded) {
  ExpectRoundTrip(NativePublish{.sequence = 9, .wants_ids = true, .producer = "p", .epoch = 3, .batch = SomeEvents()},
                  DecodeNativePublish);
  ExpectRoundTrip(NativePublished{.sequence = 9,
                                  .has_ids = true,
                                  .runs = {{.count = 2,
                                            .code = StatusCode::kOk,
                                            .reason = {},
                                            .status = 1,
                                            .partition = 3,
                                            .offset = 1ULL << 40,
                                            .ids = {"a", "b"}},
                                           {.count = 1,
                                            .code = StatusCode::kNotFound,
                                            .reason = "no topic",
                                            .status = 0,
                                            .partition = 0,
                                            .offset = 0,
                                            .ids = {}}}},
                  DecodeNativePublished);
  ExpectRoundTrip(NativeFetch{.sequence = 1,
                              .topic = "t",
                              .partition = 1023,
                              .from = NativeFrom::kOffset,
                              .at = 5,
                              .limit = 10,
                              .bytes_max = 1 << 20},
                  DecodeNativeFetch);
  ExpectRoundTrip(NativeFetched{.sequence = 1, .next_offset = 5, .end_offset = 6, .batch = SomeEvents()},
                  DecodeNativeFetched);
  const NativeSubscribe subscribe{.subscription = 4,
                                  .topics = {"a", "b*"},
                                  .from = NativeFrom::kLatest,
                                  .timestamp = 0,
                                  .offsets = {},
                                  .on_slow = 2,
                                  .lag_max = 77,
                                  .filter = "payload.a > 1",
                                  .credit = 1000};
  ExpectRoundTrip(subscribe, DecodeNativeSubscribe);
  NativeSubscribe from_time = subscribe;
  from_time.from = NativeFrom::kTimestamp;
  from_time.timestamp = -1;
  ExpectRoundTrip(from_time, DecodeNativeSubscribe);
  NativeSubscribe from_offsets = subscribe;
  from_offsets.from = NativeFrom::kOffset;
  from_offsets.offsets = {{0, 1, 2}, {1, 0, 1ULL << 50}};
  ExpectRoundTrip(from_offsets, DecodeNativeSubscribe);
  ExpectRoundTrip(NativeCredit{.subscription = 4, .events = 1ULL << 33}, DecodeNativeCredit);
  ExpectRoundTrip(NativeUnsubscribe{.subscription = 4}, DecodeNativeUnsubscribe);
  ExpectRoundTrip(NativeSubscribed{.subscription = 4, .topics = {"a"}, .offsets = {{0, 0, 12}}},
                  DecodeNativeSubscribed);
  ExpectRoundTrip(NativeDelivered{.subscription = 4, .dropped = 2, .batch = SomeEvents()}, DecodeNativeDelivered);
  ExpectRoundTrip(NativeEnded{.subscription = 4, .code = StatusCode::kResourceExhausted, .reason = "slow"},
                  DecodeNativeEnded);
}

TEST(NativeEvents, WhatNamesTopicsCodesOrFlagsThatAreNotThereIsRefused) {
  NativeEventBatch wrong_topic = SomeEvents();
  wrong_topic.events[0].topic = 2;
  EXPECT_FALSE(
      DecodeNativePublish(PayloadOf(EncodeNative(NativePublish{
                              .sequence = 0, .wants_ids = false, .producer = {}, .epoch = 0, .batch = wrong_topic})))
          .ok());
  // Sequence, flags.
  std::string flags = PayloadOf(EncodeNative(NativePublish{}));
  flags[8] = 2;
  EXPECT_FALSE(DecodeNativePublish(flags).ok());
  std::string code = PayloadOf(EncodeNative(NativeEnded{}));
  code[8] = 17;
  EXPECT_FALSE(DecodeNativeEnded(code).ok());
  NativeSubscribe start;
  start.from = NativeFrom::kOffset;
  start.offsets = {{0, 0, 0}};
  EXPECT_FALSE(DecodeNativeSubscribe(PayloadOf(EncodeNative(start))).ok());
}

TEST(NativeEvents, ACountThatTheBytesCannotHoldCostsNothing) {
  // Sequence, flags, producer, epoch, one topic, and then 2^60 events.
  std::string payload(8, '\0');
  payload += std::string("\0\0\0\0\0\0\1\1t", 9);
  payload += std::string("\x80\x80\x80\x80\x80\x80\x80\x80\x10", 9);
  EXPECT_EQ(DecodeNativePublish(payload).status().code(), StatusCode::kInvalidArgument);
}

TEST(NativeEvents, MoreHeadersThanAnEventMayHaveAreSkippedButForOne) {
  NativePublish publish{.sequence = 1, .wants_ids = false, .producer = {}, .epoch = 0, .batch = SomeEvents()};
  publish.batch.events[0].headers.assign(100'000, {});
  publish.batch.events[0].headers[0] = {"first", "one"};
  const std::string payload = PayloadOf(EncodeNative(publish));
  const auto back = DecodeNativePublish(payload);
  ASSERT_TRUE(back.ok()) << back.status().message();
  publish.batch.events[0].headers.resize(kNativeHeadersKept);
  EXPECT_EQ(*back, publish);
  EXPECT_LE(back->batch.events[0].headers.capacity(), 2 * kNativeHeadersKept);
}

TEST(NativeEvents, AFrameThatWouldBeTooLongIsNotMade) {
  const std::string payload(kNativeFrameBytesMax, 'x');
  NativePublish publish{.sequence = 1, .wants_ids = false, .producer = {}, .epoch = 0, .batch = {}};
  publish.batch.topics = {"t"};
  publish.batch.events.push_back({.topic = 0,
                                  .is_json = false,
                                  .key = {},
                                  .timestamp = {},
                                  .id = {},
                                  .partition = {},
                                  .number = {},
                                  .headers = {},
                                  .payload = payload});
  EXPECT_EQ(EncodeNative(publish).status().code(), StatusCode::kResourceExhausted);
}

TEST(NativeEvents, SessionsTakePublishesThatCameTogetherAndNothingElseWithThem) {
  const auto publish = [](uint64_t sequence) {
    return *EncodeNative(
        NativePublish{.sequence = sequence, .wants_ids = false, .producer = {}, .epoch = 0, .batch = SomeEvents()});
  };
  NativeSession session;
  EXPECT_FALSE(*session.NextPublish());
  session.Feed(EncodeNative(NativeHello{}) + publish(1) + publish(2) + EncodeNative(NativePing{.token = 3}) +
               publish(4));
  EXPECT_FALSE(*session.NextPublish());
  ASSERT_TRUE(*session.Next());  // the hello
  for (const uint64_t sequence : {1, 2}) {
    const auto next = session.NextPublish();
    ASSERT_TRUE(next.ok() && *next);
    EXPECT_EQ(DecodeNativePublish((*next)->payload)->sequence, sequence);
  }
  EXPECT_FALSE(*session.NextPublish());
  EXPECT_EQ(std::get<NativePing>(**session.Next()).token, 3U);
  EXPECT_TRUE(*session.NextPublish());
  session.Feed(publish(4));
  EXPECT_EQ(session.NextPublish().status().message(), "frame 4 comes after frame 4");
}

TEST(NativeEvents, DatagramsAreCheckedAndKnownByTheirFirstBytes) {
  const std::string publish = PayloadOf(EncodeNative(NativePublish{}));
  const std::string datagram =
      *EncodeNativeEventDatagram({.client = 1, .sequence = 2, .key = "k", .tenant = "t", .publish = publish});
  EXPECT_TRUE(IsNativeEventDatagram(datagram));
  EXPECT_FALSE(IsNativeEventDatagram("MSU1"));
  const auto back = DecodeNativeEventDatagram(datagram);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->client, 1U);
  EXPECT_EQ(back->sequence, 2U);
  EXPECT_EQ(back->key, "k");
  EXPECT_EQ(back->tenant, "t");
  EXPECT_EQ(back->publish, publish);
  for (size_t bit = 0; bit < datagram.size() * 8; ++bit) {
    std::string flipped = datagram;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(DecodeNativeEventDatagram(flipped).ok()) << bit;
  }
  EXPECT_FALSE(
      EncodeNativeEventDatagram(
          {.client = 1, .sequence = 2, .key = {}, .tenant = {}, .publish = std::string(kNativeDatagramBytesMax, 'x')})
          .ok());
}

}  // namespace
}  // namespace millstream::wire

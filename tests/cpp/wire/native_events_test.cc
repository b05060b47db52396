#include "millstream/wire/native_events.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <span>
#include <string>
#include <string_view>
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

// As a server has them that reads: all there but perhaps the key.
std::vector<NativeReadEvent> ReadEvents(size_t count,
                                        const std::vector<std::pair<std::string_view, std::string_view>>& headers) {
  std::vector<NativeReadEvent> events;
  for (size_t i = 0; i < count; ++i) {
    NativeReadEvent event{.topic = static_cast<uint32_t>(i % 2),
                          .is_json = i % 3 == 0,
                          .key = std::nullopt,
                          .timestamp = static_cast<TimestampMs>(i) - 5,
                          .id = "own-id",
                          .partition = static_cast<uint32_t>(i % 1024),
                          .offset = uint64_t{i} << (i % 40),
                          .headers = {},
                          .payload = std::string_view("payload").substr(i % 7)};
    if (i % 4 == 0) event.key = i % 8 == 0 ? "" : "k";
    if (i % 5 == 0) event.headers = headers;
    events.push_back(event);
  }
  return events;
}

NativeEventBatch BatchOf(const std::vector<std::string_view>& topics, const std::vector<NativeReadEvent>& events) {
  NativeEventBatch batch{.topics = topics, .events = {}};
  for (const NativeReadEvent& event : events) {
    batch.events.push_back({.topic = event.topic,
                            .is_json = event.is_json,
                            .key = event.key,
                            .timestamp = event.timestamp,
                            .id = event.id,
                            .partition = event.partition,
                            .number = event.offset,
                            .headers = {event.headers.begin(), event.headers.end()},
                            .payload = event.payload});
  }
  return batch;
}

TEST(NativeEventsWriter, WritesWhatEncodingTheWholeWouldWhateverItsHeadAndMemoryWere) {
  const std::vector<std::pair<std::string_view, std::string_view>> headers{{"h", ""}, {"", std::string_view("\0x", 2)}};
  for (const size_t count : {0U, 1U, 127U, 128U, 1000U, 10'000U}) {
    for (const uint64_t dropped : {uint64_t{0}, uint64_t{1} << 40}) {
      const std::vector<NativeReadEvent> events = ReadEvents(count, headers);
      const NativeDelivered head{.subscription = 4, .dropped = dropped, .batch = BatchOf({"orders", "a.b"}, events)};
      const NativeFetched fetched{.sequence = 4, .next_offset = dropped, .end_offset = 9, .batch = head.batch};
      const std::string expected = *EncodeNative(head);
      const std::string expected_fetched = *EncodeNative(fetched);
      for (const size_t head_bytes : {size_t{0}, NativeEventsWriter::DeliveredHeadBytes("orders"), size_t{100}}) {
        for (const size_t memory : {size_t{0}, size_t{50}, expected.size(), 2 * expected.size()}) {
          NativeEventsWriter writer(head_bytes, memory / 2, std::string(memory, '\xAA'));
          NativeEventsWriter other(head_bytes, memory / 2, std::string(memory, '\x55'));
          for (const NativeReadEvent& event : events) writer.Add(event);
          for (const NativeReadEvent& event : events) other.Add(event);
          EXPECT_EQ(writer.events(), count);
          EXPECT_EQ(*std::move(writer).Finish(head), expected) << count << " " << head_bytes << " " << memory;
          EXPECT_EQ(*std::move(other).Finish(fetched), expected_fetched) << count << " " << head_bytes << " " << memory;
        }
      }
    }
  }
}

TEST(NativeEventsWriter, ItsHeadIsAsLongAsItSaysSoThatNothingIsMoved) {
  for (const std::string& topic :
       {std::string("t"), std::string(127, 't'), std::string(128, 't'), std::string(249, 't')}) {
    for (const size_t count : {128U, 10'000U}) {
      const NativeDelivered head{.subscription = 1, .dropped = 0, .batch = {.topics = {topic}, .events = {}}};
      // An event of no field has four bytes.
      NativeDelivered whole = head;
      whole.batch.events.resize(count);
      EXPECT_EQ(EncodeNative(whole)->size(),
                kNativeFrameHeaderBytes + NativeEventsWriter::DeliveredHeadBytes(topic) + 4 * count);
    }
  }
}

TEST(NativeEventsWriter, AFrameThatIsTooLongIsRefused) {
  const std::string payload(kNativeFrameBytesMax, 'x');
  NativeEventsWriter writer(0, 0);
  writer.Add({.topic = 0,
              .is_json = false,
              .key = {},
              .timestamp = 0,
              .id = "i",
              .partition = 0,
              .offset = 0,
              .headers = {},
              .payload = payload});
  EXPECT_EQ(std::move(writer).Finish(NativeFetched{}).status().code(), StatusCode::kResourceExhausted);
}

TEST(NativeEvents, DecodingOverWhatWasDecodedBeforeLeavesNothingOfIt) {
  const std::vector<std::pair<std::string_view, std::string_view>> headers{{"h", "v"}};
  std::vector<std::string> payloads;
  for (const size_t count : {3U, 0U, 200U, 1U}) {
    payloads.push_back(PayloadOf(EncodeNative(NativeDelivered{
        .subscription = count, .dropped = 7, .batch = BatchOf({"a", "b"}, ReadEvents(count, headers))})));
    payloads.push_back(
        PayloadOf(EncodeNative(NativeDelivered{.subscription = 4, .dropped = 2, .batch = SomeEvents()})));
  }
  NativeDelivered reused;
  for (const std::string& before : payloads) {
    for (const std::string& payload : payloads) {
      // A frame that breaks off in the middle leaves no trace, either.
      EXPECT_EQ(DecodeNativeDeliveredInto(std::string_view(before).substr(0, before.size() - 1), &reused).code(),
                StatusCode::kInvalidArgument);
      ASSERT_TRUE(DecodeNativeDeliveredInto(before, &reused).ok());
      ASSERT_TRUE(DecodeNativeDeliveredInto(payload, &reused).ok());
      EXPECT_EQ(reused, *DecodeNativeDelivered(payload));
    }
  }
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
  std::vector<std::string_view> payloads;
  for (int i = 0; i < 2; ++i) {
    const auto next = session.NextPublish();
    ASSERT_TRUE(next.ok() && *next);
    payloads.push_back((*next)->payload);
  }
  EXPECT_FALSE(*session.NextPublish());
  EXPECT_EQ(std::get<NativePing>(**session.Next()).token, 3U);
  EXPECT_TRUE(*session.NextPublish());
  // What was taken stays where it is until more is received.
  for (const uint64_t sequence : {1, 2}) EXPECT_EQ(DecodeNativePublish(payloads[sequence - 1])->sequence, sequence);
  const std::string more = publish(4);
  const std::span<char> room = session.Room(2 * more.size());
  std::ranges::copy(more, room.begin());
  session.Came(more.size());
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

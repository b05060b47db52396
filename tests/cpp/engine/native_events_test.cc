// What goes into one frame of events that are read, and what waits for the next.
#include "millstream/engine/native_events.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "millstream/engine/database.h"
#include "millstream/events/broker.h"
#include "millstream/events/notifier.h"
#include "millstream/wire/native_events.h"
#include "millstream/wire/native_frame.h"

namespace millstream::engine {
namespace {

constexpr size_t kMiB = 1 << 20;

std::string_view PayloadOf(const std::string& frame) {
  return std::string_view(frame).substr(wire::kNativeFrameHeaderBytes);
}
std::string PayloadOf(const Result<std::string>& frame) {
  EXPECT_TRUE(frame.ok()) << frame.status().ToString();
  return frame.ok() ? std::string(PayloadOf(*frame)) : std::string();
}

// A topic with events of these sizes, each of its own letter.
std::unique_ptr<Database> WithEvents(const std::vector<size_t>& sizes) {
  auto db = Database::Open(std::string(kMemoryPath), {}).value();
  events::TopicOptions options;
  options.event_bytes_max = 8 * kMiB;
  EXPECT_TRUE(db->Events().CreateTopic({}, "t", options).ok());
  for (size_t i = 0; i < sizes.size(); ++i) {
    const std::string payload(sizes[i], static_cast<char>('a' + i));
    events::PublishEvent event;
    event.topic = "t";
    event.event.payload = payload;
    const auto published = db->Events().Publish({}, std::vector<events::PublishEvent>{event});
    EXPECT_TRUE(published.at(0).ok()) << published.at(0).status().ToString();
  }
  return db;
}

std::unique_ptr<NativeTail> Tail(Database& db, uint64_t credit) {
  const wire::NativeSubscribe subscribe{.subscription = 3,
                                        .topics = {"t"},
                                        .from = wire::NativeFrom::kEarliest,
                                        .timestamp = 0,
                                        .offsets = {},
                                        .on_slow = 0,
                                        .lag_max = 0,
                                        .filter = {},
                                        .credit = credit};
  auto tail = NativeTail::Open(db.Events(), {}, PayloadOf(EncodeNative(subscribe)), std::nullopt,
                               std::make_shared<events::Notifier>([] {}));
  EXPECT_TRUE(tail.ok()) << tail.status().ToString();
  return std::move(tail).value();
}

// The sizes of the events in a frame.
std::vector<size_t> SizesOf(const std::string& frame) {
  const auto delivered = wire::DecodeNativeDelivered(PayloadOf(frame));
  EXPECT_TRUE(delivered.ok()) << delivered.status().ToString();
  std::vector<size_t> sizes;
  if (!delivered.ok()) return sizes;
  for (const wire::NativeEvent& event : delivered->batch.events) sizes.push_back(event.payload.size());
  return sizes;
}

TEST(NativeTail, EventsThatFitTogetherIntoNoFrameComeInSeveral) {
  const std::vector<size_t> sizes{kMiB * 9 / 10, kMiB * 33 / 10, 10, kMiB * 9 / 10, kMiB * 39 / 10};
  const auto db = WithEvents(sizes);
  const auto tail = Tail(*db, sizes.size());
  std::vector<size_t> got;
  while (tail->has_more()) {
    const auto frame = tail->Next();
    ASSERT_TRUE(frame.ok()) << frame.status().ToString();
    if (frame->empty()) continue;
    for (const size_t size : SizesOf(*frame)) got.push_back(size);
  }
  EXPECT_EQ(got, sizes);
}

TEST(NativeTail, WhatWaitsForTheNextFrameIsStillToBeGot) {
  const auto db = WithEvents({kMiB * 9 / 10, kMiB * 33 / 10, 10});
  const auto tail = Tail(*db, 2);
  EXPECT_EQ(SizesOf(*tail->Next()), std::vector<size_t>{kMiB * 9 / 10});
  ASSERT_TRUE(tail->has_more());
  EXPECT_EQ(SizesOf(*tail->Next()), std::vector<size_t>{kMiB * 33 / 10});
  EXPECT_FALSE(tail->has_more());  // for want of credit
  EXPECT_EQ(*tail->Next(), "");
  tail->AddCredit(1);
  EXPECT_EQ(SizesOf(*tail->Next()), std::vector<size_t>{10});
}

TEST(NativeTail, AnEventThatNoFrameHasRoomForEndsItBehindTheOthers) {
  const auto db = WithEvents({kMiB * 9 / 10, 5 * kMiB});
  const auto tail = Tail(*db, 10);
  EXPECT_EQ(SizesOf(*tail->Next()), std::vector<size_t>{kMiB * 9 / 10});
  EXPECT_EQ(tail->Next().status().code(), StatusCode::kResourceExhausted);
}

TEST(NativeFetch, EndsBeforeAnEventThatDoesNotFitAndSaysWhereToGoOn) {
  const auto db = WithEvents({kMiB * 9 / 10, kMiB * 9 / 10, kMiB * 39 / 10, 10});
  std::vector<std::pair<size_t, uint64_t>> got;  // events, and the next offset
  for (uint64_t offset = 0; offset < 4 && got.size() < 4;) {
    const wire::NativeFetch fetch{.sequence = 1,
                                  .topic = "t",
                                  .partition = 0,
                                  .from = wire::NativeFrom::kOffset,
                                  .at = offset,
                                  .limit = 100,
                                  .bytes_max = 4 * kMiB};
    const auto frame = FetchNative(db->Events(), {}, PayloadOf(Result<std::string>(EncodeNative(fetch))));
    const auto fetched = wire::DecodeNativeFetched(PayloadOf(*frame));
    ASSERT_TRUE(fetched.ok()) << fetched.status().ToString();
    EXPECT_EQ(fetched->end_offset, 4u);
    got.emplace_back(fetched->batch.events.size(), offset = fetched->next_offset);
  }
  EXPECT_EQ(got, (std::vector<std::pair<size_t, uint64_t>>{{2, 2}, {1, 3}, {1, 4}}));
}

}  // namespace
}  // namespace millstream::engine

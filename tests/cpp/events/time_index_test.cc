#include "time_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "events_fixture.h"
#include "millstream/env/random.h"

namespace millstream::events {
namespace {

constexpr uint64_t kIndexedSegmentBytes = 16 << 10;

TEST(TimeIndex, EntriesReadBackAndBrokenOnesAreLeftOut) {
  const std::vector<TimeRange> ranges{{0, 10, 5}, {10, 30, -7}, {40, 41, INT64_MAX}};
  std::string bytes;
  for (const TimeRange& range : ranges) bytes += EncodeTimeRange(range);
  EXPECT_EQ(DecodeTimeRanges(bytes), ranges);
  EXPECT_EQ(DecodeTimeRanges(bytes.substr(0, bytes.size() - 1)).size(), 2U);
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string broken = bytes;
    broken[i] = static_cast<char>(broken[i] ^ 0x10);
    EXPECT_EQ(DecodeTimeRanges(broken).size(), 2U) << "byte " << i;
  }
}

TEST(TimeIndex, ALaterEntryReplacesThoseThatItOverlaps) {
  const std::string bytes = EncodeTimeRange({0, 10, 1}) + EncodeTimeRange({10, 20, 2}) + EncodeTimeRange({5, 15, 3});
  EXPECT_EQ(DecodeTimeRanges(bytes), (std::vector<TimeRange>{{5, 15, 3}}));
}

TEST(TimeIndex, WhatNoEntryCoversMayHaveAnyTime) {
  const TimeIndex index({{10, 20, 100}, {20, 30, 50}, {40, 50, 200}});
  EXPECT_EQ(index.Find(0, 60, 70), (TimeRange{0, 10, 70}));
  EXPECT_EQ(index.Find(10, 60, 100), (TimeRange{10, 20, 100}));
  EXPECT_EQ(index.Find(10, 60, 101), (TimeRange{30, 40, 101}));
  EXPECT_EQ(index.Find(15, 60, 100), (TimeRange{15, 20, 100}));
  EXPECT_EQ(index.Find(40, 60, 201), (TimeRange{50, 60, 201}));
  EXPECT_EQ(index.Find(20, 30, 51), std::nullopt);
}

TEST(TimeIndex, TheFileForgetsARangeThatAPowerCutHasOpenedAgain) {
  SimMachine machine(1);
  const std::string path = "/data/times";
  StoreTimeRange(machine.files, path, {0, 40, 7});
  StoreTimeRange(machine.files, path, {40, 100, 50});
  // The second segment is the last one again, and will hold later events than it did.
  EXPECT_EQ(LoadTimeRanges(machine.files, path, 0, 40), (std::vector<TimeRange>{{0, 40, 7}}));
  EXPECT_EQ(LoadTimeRanges(machine.files, path, 0, 120), (std::vector<TimeRange>{{0, 40, 7}}));
}

PublishEvent At(std::string_view payload, TimestampMs timestamp) {
  PublishEvent event = Text("t", payload);
  event.event.timestamp = timestamp;
  event.has_timestamp = true;
  return event;
}

uint64_t Naive(const std::vector<TimestampMs>& times, uint64_t start, TimestampMs timestamp) {
  for (uint64_t i = start; i < times.size(); ++i) {
    if (times[i] >= timestamp) return i;
  }
  return times.size();
}

TEST(TimeIndex, FindsTheFirstEventOfATimeHoweverTimesGoUpAndDown) {
  uint64_t retained = 0;
  for (const uint64_t seed : {1, 2, 3, 4}) {
    SCOPED_TRACE(seed);
    SimMachine machine(seed);
    env::SeededRandom random(seed);
    auto broker = machine.MustOpen(storage::Durability::kFsync, kOpenLogsMax, kIndexedSegmentBytes);
    MustCreate(*broker, "t");
    std::vector<TimestampMs> times;
    uint64_t start = 0;
    const auto check = [&] {
      for (int i = 0; i < 40; ++i) {
        const auto timestamp = static_cast<TimestampMs>(random.Below(1200)) - 100;
        const auto found = broker->OffsetAt(kTenant, "t", 0, timestamp);
        ASSERT_TRUE(found.ok()) << found.status().ToString();
        ASSERT_EQ(*found, Naive(times, start, timestamp)) << "time " << timestamp;
      }
    };
    for (int round = 0; round < 12; ++round) {
      for (int i = 0; i < 40; ++i) {
        // Mostly upwards, sometimes far off.
        const TimestampMs timestamp = random.Below(20) == 0 ? static_cast<TimestampMs>(random.Below(1000))
                                                            : round * 80 + i * 2 - static_cast<int>(random.Below(30));
        const std::string payload(random.Below(1500), 'p');
        ASSERT_TRUE(PublishOne(*broker, At(payload, timestamp)).ok());
        times.push_back(timestamp);
      }
      check();
      switch (random.Below(4)) {
        case 0:
          broker = nullptr;
          machine.files.PowerCut();
          broker = machine.MustOpen(storage::Durability::kFsync, kOpenLogsMax, kIndexedSegmentBytes);
          break;
        case 1:
          broker = nullptr;
          // The index is a hint: without it everything is found all the same.
          ASSERT_TRUE(machine.files.Remove("/data/events/1/0/times").ok() || round == 0);
          broker = machine.MustOpen(storage::Durability::kFsync, kOpenLogsMax, kIndexedSegmentBytes);
          break;
        case 2:
          ASSERT_TRUE(broker->AlterTopic(kTenant, "t", {.retention_bytes = 200'000}).ok());
          broker->Maintain(true);
          ASSERT_TRUE(broker->AlterTopic(kTenant, "t", {.retention_bytes = 0}).ok());
          break;
        default:
          break;
      }
      start = broker->DescribeTopic(kTenant, "t")->partitions[0].start_offset;
      check();
    }
    retained += start;
  }
  EXPECT_GT(retained, 0U);
}

TEST(TimeIndex, AnOldTimeIsFoundWithoutReadingThePartition) {
  SimMachine machine(1);
  auto broker = machine.MustOpen(storage::Durability::kFsync, kOpenLogsMax, kIndexedSegmentBytes);
  MustCreate(*broker, "t");
  const std::string payload(1000, 'p');
  constexpr int kEvents = 4000;
  for (int i = 0; i < kEvents; i += 10) {
    std::vector<PublishEvent> events;
    for (int j = i; j < i + 10; ++j) events.push_back(At(payload, j));
    for (const auto& answer : broker->Publish(kTenant, events)) ASSERT_TRUE(answer.ok());
  }
  for (const bool reopen : {false, true}) {
    if (reopen) {
      broker = nullptr;
      broker = machine.MustOpen(storage::Durability::kFsync, kOpenLogsMax, kIndexedSegmentBytes);
      ASSERT_TRUE(broker->DescribeTopic(kTenant, "t").ok());
    }
    for (const TimestampMs wanted : {3, 1500, 2777, 3000}) {
      const uint64_t before = machine.files.operations(env::SimFileSystem::Operation::kOpenForRead);
      const auto found = broker->OffsetAt(kTenant, "t", 0, wanted);
      ASSERT_TRUE(found.ok());
      EXPECT_EQ(*found, static_cast<uint64_t>(wanted));
      const uint64_t opened = machine.files.operations(env::SimFileSystem::Operation::kOpenForRead) - before;
      // Of about 270 segments.
      EXPECT_LE(opened, 8U) << "time " << wanted << (reopen ? " after reopening" : "");
    }
  }
}

}  // namespace
}  // namespace millstream::events

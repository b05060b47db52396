// Samples that become events, on a machine that loses power, processes that die, disks that fail or are full.
//
// The oracle: every sample whose write was acknowledged has its event; no event is there twice, none is there that was
// not written, and none without its sample; and once everything was sent again, each sample has one event.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "millstream/engine/database.h"
#include "millstream/env/sim_clock.h"
#include "millstream/env/sim_file_system.h"
#include "millstream/events/broker.h"

namespace millstream::engine {
namespace {

constexpr int kWrites = 10;
constexpr uint32_t kTopicPartitions = 2;

std::string PayloadOf(int series, int write) {
  return fmt::format(R"({{"name":"m","labels":{{"s":"{}"}},"value":{},"timestamp":{}}})", series, write, 1000 + write);
}

struct Machine {
  explicit Machine(uint64_t seed) : files(seed) {}

  Result<std::unique_ptr<Database>> Open() {
    const env::Env system = env::SystemEnv();
    DatabaseOptions options;
    options.partitions = 2;
    options.durability = storage::Durability::kFsync;
    return Database::Open("data", options, {&clock, system.random, &files, system.executor});
  }

  env::SimClock clock{1'700'000'000'000};
  env::SimFileSystem files;
};

Status CreateTopic(Database& db) {
  events::TopicOptions options;
  options.partitions = kTopicPartitions;
  options.from_metrics = {"m"};
  const Status status = db.Events().CreateTopic(kDefaultTenant, "t", options).status();
  return status.code() == StatusCode::kAlreadyExists ? Status::Ok() : status;
}

// A write has a sample of each of two series.
Status PushBoth(Database& db, int write) {
  const std::string text = fmt::format("m{{s=\"0\"}} {0} {1}\nm{{s=\"1\"}} {0} {1}\n", write, 1000 + write);
  return db.Push(kDefaultTenant, {.format = "text", .body = text}).status();
}

// Stops at the first failure, as the database may be no good from then on; the writes that were acknowledged.
std::set<int> RunUntilCrash(Machine& machine) {
  std::set<int> acknowledged;
  const auto db = machine.Open();
  if (!db.ok() || !CreateTopic(**db).ok()) return acknowledged;
  for (int write = 0; write < kWrites; ++write) {
    if (PushBoth(**db, write).ok()) acknowledged.insert(write);
    if (machine.files.crashed()) break;
  }
  return acknowledged;
}

std::multiset<std::string> Events(Database& db) {
  std::multiset<std::string> out;
  for (uint32_t partition = 0; partition < kTopicPartitions; ++partition) {
    const auto fetched = db.Events().Fetch(kDefaultTenant, "t", partition, {.limit = events::kFetchEventsMax});
    EXPECT_TRUE(fetched.ok()) << fetched.status().ToString();
    if (!fetched.ok()) continue;
    for (const events::EventPtr& event : fetched->events) out.emplace(event->view().payload);
  }
  return out;
}

double Samples(Database& db) {
  const auto result = db.Query(kDefaultTenant, "sum(count_over_time(m[1h]))", 3'000'000, {});
  EXPECT_TRUE(result.ok()) << result.status().ToString();
  const auto& vector = std::get<promql::Vector>(result->value);
  return vector.empty() ? 0 : vector[0].value;
}

struct Counts {
  uint64_t runs = 0;
  uint64_t acknowledged = 0;
  uint64_t events = 0;
  uint64_t without_event = 0;  // samples that were not acknowledged
};

void Check(Machine& machine, const std::set<int>& acknowledged, Counts* counts) {
  auto opened = machine.Open();
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  Database& db = **opened;
  ++counts->runs;
  counts->acknowledged += acknowledged.size();
  // Absent when the machine stopped before the topic was answered.
  ASSERT_TRUE(CreateTopic(db).ok());
  std::multiset<std::string> left = Events(db);
  counts->events += left.size();
  const double samples = Samples(db);
  ASSERT_GE(samples, static_cast<double>(left.size())) << "an event without its sample";
  counts->without_event += static_cast<uint64_t>(samples) - left.size();
  for (int write = 0; write < kWrites; ++write) {
    for (int series = 0; series < 2; ++series) {
      const size_t found = left.erase(PayloadOf(series, write));
      ASSERT_LE(found, 1u) << "twice: write " << write;
      if (acknowledged.contains(write)) ASSERT_EQ(found, 1u) << "lost: write " << write;
    }
  }
  ASSERT_TRUE(left.empty()) << "never written: " << *left.begin();

  for (int write = 0; write < kWrites; ++write) ASSERT_TRUE(PushBoth(db, write).ok());
  ASSERT_EQ(Samples(db), 2 * kWrites);
  const std::multiset<std::string> all = Events(db);
  ASSERT_EQ(all.size(), size_t{2} * kWrites);
  ASSERT_EQ(std::set<std::string>(all.begin(), all.end()).size(), all.size());
}

void Print(const Counts& counts) {
  fmt::print("{} runs: {} writes acknowledged, {} events found, {} samples without an event and unacknowledged\n",
             counts.runs, counts.acknowledged, counts.events, counts.without_event);
}

TEST(MetricFeedCrash, AtEveryFileOperationAcknowledgedSamplesKeepTheirEventsAndNoneIsTwice) {
  Counts counts;
  for (uint64_t operation = 1;; operation += 3) {
    SCOPED_TRACE(operation);
    Machine machine(operation);
    machine.files.CrashAt(operation);
    const std::set<int> acknowledged = RunUntilCrash(machine);
    if (!machine.files.crashed()) break;
    if (operation % 2 == 0) {
      machine.files.PowerCut();
    } else {
      machine.files.ProcessDeath();
    }
    Check(machine, acknowledged, &counts);
    if (testing::Test::HasFatalFailure()) return;
  }
  Print(counts);
  EXPECT_GT(counts.runs, 20u);
  EXPECT_GT(counts.acknowledged, counts.runs);
  EXPECT_GT(counts.without_event, 0u);
}

TEST(MetricFeedCrash, WhateverFileOperationFailsNoWriteIsAcknowledgedWithoutItsEvents) {
  Counts counts;
  for (uint64_t operation = 1;; operation += 3) {
    SCOPED_TRACE(operation);
    Machine machine(operation);
    const Status failure = Unavailable("the disk does not answer");
    machine.files.FailAt(operation, failure);
    const std::set<int> acknowledged = RunUntilCrash(machine);
    if (machine.files.operations() < operation) break;
    machine.files.FailAt(0, failure);
    Check(machine, acknowledged, &counts);
    if (testing::Test::HasFatalFailure()) return;
  }
  Print(counts);
  EXPECT_GT(counts.runs, 20u);
  EXPECT_GT(counts.acknowledged, counts.runs);
}

TEST(MetricFeedCrash, AFullDiskRefusesTheWriteWhoseEventHasNoRoomAndTakesItAgainLater) {
  uint64_t topic_was_full = 0;
  for (uint64_t room = 0; room < 4000; room += 40) {
    SCOPED_TRACE(room);
    Machine machine(room + 1);
    auto opened = machine.Open();
    ASSERT_TRUE(opened.ok());
    Database& db = **opened;
    ASSERT_TRUE(CreateTopic(db).ok());
    ASSERT_TRUE(PushBoth(db, 0).ok());
    machine.files.SetCapacity(machine.files.used_bytes() + room);
    const Status full = PushBoth(db, 1);
    EXPECT_EQ(Events(db).size() == 4, full.ok());
    if (!full.ok()) {
      ASSERT_EQ(full.code(), StatusCode::kResourceExhausted) << full.ToString();
      if (full.message().find("topic \"t\"") != std::string_view::npos) ++topic_was_full;
    }
    machine.files.SetCapacity(UINT64_MAX);
    machine.clock.Advance(std::chrono::seconds(60));
    const Status again = PushBoth(db, 1);
    ASSERT_TRUE(again.ok()) << again.ToString();
    EXPECT_EQ(Events(db).size(), 4u);
    EXPECT_EQ(Samples(db), 4);
  }
  fmt::print("{} times the topic had no room for what the store had\n", topic_was_full);
  EXPECT_GT(topic_was_full, 0u);
}

TEST(MetricFeedCrash, AWriteThatComesAgainIsTakenAlsoWhenCompactionTookItsEvent) {
  Machine machine(1);
  auto opened = machine.Open();
  ASSERT_TRUE(opened.ok());
  Database& db = **opened;
  events::TopicOptions options;
  options.from_metrics = {"m"};
  options.cleanup = events::TopicCleanup::kCompact;
  options.min_dirty_ratio = 0;
  ASSERT_TRUE(db.Events().CreateTopic(kDefaultTenant, "t", options).ok());
  for (int write = 0; write < 3; ++write) ASSERT_TRUE(PushBoth(db, write).ok());
  const auto count = [&] { return db.Events().Fetch(kDefaultTenant, "t", 0, {.limit = 100})->events.size(); };
  machine.clock.Advance(std::chrono::seconds(60));
  db.Events().Maintain(true);
  ASSERT_EQ(count(), 2u);  // the newest of each series
  const Status again = PushBoth(db, 0);
  EXPECT_TRUE(again.ok()) << again.ToString();
  EXPECT_EQ(count(), 2u);
}

}  // namespace
}  // namespace millstream::engine

// Crashes a broker at every file operation of a workload of keyed events, compaction, retention and commits, and checks
// what is left against what it had answered.
//
// The oracle: an event that is there is the one that was answered or tried at its offset; of each key the newest
// answered event is there, unless it deletes its key or retention may have let it go; what a deletion took never comes
// back beside it; the partition goes on behind everything that was answered; an id that was answered is not stored
// twice; a group's offset is the last one answered, or a later one that was tried. Reopening never fails.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "events_fixture.h"
#include "millstream/env/random.h"

namespace millstream::events {
namespace {

using env::SimFileSystem;
using storage::Durability;

constexpr uint64_t kSegmentBytes = 16 << 10;

struct Told {
  std::string key;
  std::string payload;
  std::string id;  // the client's, if it gave one
};

struct Oracle {
  std::map<uint64_t, Told> answered;
  std::vector<Told> tried;  // not answered: may be there or not
  uint64_t committed = 0;
  std::set<uint64_t> committing;
  uint64_t retained_from = 0;  // retention may have taken all below
  bool created = false;
};

Result<std::shared_ptr<Broker>> Open(SimMachine& machine, Durability durability) {
  return Broker::Open(machine.env(), "/data/events",
                      {.durability = durability,
                       .writers = 1,
                       .open_logs_max = 2,
                       .segment_bytes = kSegmentBytes,
                       .compaction_memory_bytes = kCompactionMemoryBytesMin});
}

PublishEvent EventOf(const Told& told) {
  PublishEvent event = Text("t", told.payload);
  event.event.key = told.key;
  event.event.client_id = told.id;
  return event;
}

void RunUntilCrash(SimMachine& machine, Durability durability, uint64_t seed, int steps, Oracle* oracle) {
  env::SeededRandom random(seed);
  std::shared_ptr<Broker> broker;
  int number = 0;
  for (int step = 0; step < steps && !machine.files.crashed(); ++step) {
    if (broker == nullptr) {
      auto opened = Open(machine, durability);
      if (!opened.ok()) return;
      broker = *opened;
    }
    if (!oracle->created) {
      TopicOptions options;
      options.cleanup = TopicCleanup::kCompactDelete;
      options.min_dirty_ratio = 0;
      options.delete_retention_ms = 60'000;
      // A quarter of the workload, so that retention takes some of it.
      options.retention_bytes = seed % 2 == 0 ? 200'000 : 0;
      if (!broker->CreateTopic(kTenant, "t", options).ok()) continue;
      oracle->created = true;
    }
    switch (random.Below(8)) {
      case 0:
        broker = nullptr;  // closes
        break;
      case 1:
      case 2: {
        machine.clock.Advance(std::chrono::seconds(20));
        if (seed % 2 == 0 && !oracle->answered.empty()) oracle->retained_from = oracle->answered.rbegin()->first;
        broker->Maintain(true);
        break;
      }
      case 3: {
        if (oracle->answered.empty()) break;
        const uint64_t offset = random.Below(oracle->answered.rbegin()->first + 1);
        const std::vector<OffsetCommit> commit{{"t", 0, offset}};
        oracle->committing.insert(offset);
        if (!broker->CommitOffsets(kTenant, "g", commit).ok()) break;
        oracle->committed = offset;
        oracle->committing.clear();
        break;
      }
      default: {
        std::vector<Told> told;
        for (uint64_t i = 1 + random.Below(10); i > 0; --i) {
          Told one{.key = fmt::format("k{}", random.Below(25)), .payload = "", .id = ""};
          if (random.Below(6) > 0) {
            one.payload = fmt::format("{}/{}", number, std::string(random.Below(900), 'p'));
          }
          if (random.Below(4) == 0) one.id = fmt::format("id-{}", number);
          ++number;
          told.push_back(std::move(one));
        }
        std::vector<PublishEvent> events;
        for (const Told& one : told) events.push_back(EventOf(one));
        oracle->tried.insert(oracle->tried.end(), told.begin(), told.end());
        const auto answers = broker->Publish(kTenant, events);
        for (size_t i = 0; i < answers.size(); ++i) {
          if (answers[i].ok()) oracle->answered[answers[i]->offset] = told[i];
        }
      }
    }
  }
}

struct Counts {
  uint64_t crashes = 0;
  uint64_t kept = 0;
  uint64_t removed = 0;
};

void Check(SimMachine& machine, Durability durability, const Oracle& oracle, Counts* counts) {
  ++counts->crashes;
  auto opened = Open(machine, durability);
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  Broker& broker = **opened;
  if (!oracle.created) return;
  const auto described = broker.DescribeTopic(kTenant, "t");
  ASSERT_TRUE(described.ok()) << described.status().ToString();
  std::map<uint64_t, std::pair<std::string, std::string>> found;
  FetchOptions options{.limit = kFetchEventsMax};
  uint64_t end = 0;
  while (true) {
    const auto fetched = broker.Fetch(kTenant, "t", 0, options);
    ASSERT_TRUE(fetched.ok()) << fetched.status().ToString();
    for (const EventPtr& event : fetched->events) {
      found[event->offset()] = {std::string(*event->view().key), std::string(event->view().payload)};
    }
    end = fetched->end_offset;
    if (fetched->next_offset >= end) break;
    options.offset = fetched->next_offset;
  }
  std::map<std::string, uint64_t> newest;
  for (const auto& [offset, told] : oracle.answered) {
    ASSERT_LT(offset, end) << "what was answered is lost";
    newest[told.key] = offset;
  }
  for (const auto& [offset, event] : found) {
    if (const auto told = oracle.answered.find(offset); told != oracle.answered.end()) {
      ASSERT_EQ(event.first, told->second.key) << offset;
      ASSERT_EQ(event.second, told->second.payload) << offset;
    } else {
      ASSERT_TRUE(std::ranges::any_of(oracle.tried, [&](const Told& tried) {
        return tried.key == event.first && tried.payload == event.second;
      })) << offset;
      // It may be what replaced an answered one.
      newest[event.first] = std::max(newest[event.first], offset);
    }
  }
  counts->kept += found.size();
  counts->removed += oracle.answered.size() - std::min(oracle.answered.size(), found.size());
  const uint64_t start = described->partitions[0].start_offset;
  ASSERT_LE(start, oracle.retained_from);
  for (const auto& [key, offset] : newest) {
    if (found.contains(offset) || offset < start) continue;
    ASSERT_TRUE(oracle.answered.at(offset).payload.empty()) << key << " at " << offset << " is lost";
    for (const auto& [other, event] : found) ASSERT_NE(event.first, key) << "came back at " << other;
  }
  const auto offsets = broker.GroupOffsets(kTenant, "g");
  ASSERT_TRUE(offsets.ok()) << offsets.status().ToString();
  const uint64_t committed = offsets->empty() ? 0 : offsets->front().committed;
  ASSERT_TRUE(committed == oracle.committed || oracle.committing.contains(committed)) << committed;
  // What has an id is known, whether it is still there or not.
  for (const auto& [offset, told] : oracle.answered) {
    if (told.id.empty() || offset < start) continue;
    const auto again = PublishOne(broker, EventOf(told));
    ASSERT_TRUE(again.ok()) << again.status().ToString();
    ASSERT_EQ(again->offset, offset) << told.id;
  }
  const auto next = PublishOne(broker, EventOf({.key = "after", .payload = "x", .id = ""}));
  ASSERT_TRUE(next.ok()) << next.status().ToString();
  ASSERT_EQ(next->offset, end);
}

// A sanitizer makes each crash many times as slow: only some are tried then.
#ifdef __has_feature
#define MILLSTREAM_SLOW (__has_feature(thread_sanitizer) || __has_feature(address_sanitizer))
#else
#define MILLSTREAM_SLOW 0
#endif
#if MILLSTREAM_SLOW
constexpr uint64_t kStride = 15;
#else
constexpr uint64_t kStride = 1;
#endif
constexpr int kSteps = 70;

void CrashEverywhere(Durability durability, bool power_cut, uint64_t seed, uint64_t stride) {
  uint64_t operations = 0;
  {
    SimMachine machine(seed);
    Oracle oracle;
    RunUntilCrash(machine, durability, seed, kSteps, &oracle);
    operations = machine.files.operations();
  }
  Counts counts;
  for (uint64_t at = 1 + seed % stride; at < operations; at += stride) {
    SCOPED_TRACE(fmt::format("seed {}, crash at operation {} of {}", seed, at, operations));
    SimMachine machine(seed);
    machine.files.CrashAt(at);
    Oracle oracle;
    RunUntilCrash(machine, durability, seed, kSteps, &oracle);
    if (power_cut) {
      machine.files.PowerCut();
    } else {
      machine.files.ProcessDeath();
    }
    Check(machine, durability, oracle, &counts);
    if (testing::Test::HasFatalFailure()) return;
  }
  fmt::print("{} crashes, {} events there, {} removed\n", counts.crashes, counts.kept, counts.removed);
  EXPECT_GT(counts.removed, counts.crashes);
}

TEST(CompactionCrash, APowerCutLeavesTheNewestOfEachKey) {
  for (const uint64_t seed : {1, 2, 3}) CrashEverywhere(Durability::kFsync, true, seed, 2 * kStride);
}

TEST(CompactionCrash, TheDeathOfTheProcessLeavesTheNewestOfEachKey) {
  for (const uint64_t seed : {4, 5}) CrashEverywhere(Durability::kProcess, false, seed, 2 * kStride);
}

TEST(CompactionCrash, AFailedOperationLeavesTheNewestOfEachKey) {
  Counts counts;
  for (const Status& failure : {ResourceExhausted("no space"), Internal("the device fails")}) {
    for (uint64_t at = 1; at < 900; at += 3 * kStride) {
      SCOPED_TRACE(fmt::format("{} at operation {}", failure.ToString(), at));
      SimMachine machine(7);
      machine.files.FailAt(at, failure);
      Oracle oracle;
      RunUntilCrash(machine, Durability::kFsync, 7, kSteps, &oracle);
      // Should it not have come to that, it does not come any more.
      machine.files.FailAt(0, failure);
      Check(machine, Durability::kFsync, oracle, &counts);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
  EXPECT_GT(counts.removed, counts.crashes);
}

// Publishing goes on until the disk is full, and again when there is room; compaction makes some by itself.
TEST(CompactionCrash, AFullDiskRefusesAndLosesNothingAndGoesOnWhenThereIsRoom) {
  uint64_t refused = 0;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE(seed);
    SimMachine machine(seed);
    env::SeededRandom random(seed);
    auto broker = *Open(machine, Durability::kFsync);
    TopicOptions options;
    if (seed % 2 == 0) options.cleanup = TopicCleanup::kCompact;
    options.min_dirty_ratio = 0;
    MustCreate(*broker, "t", options);
    std::map<uint64_t, Told> answered;
    machine.files.SetCapacity(machine.files.used_bytes() + 300'000);
    for (int step = 0; step < 400; ++step) {
      Told told{.key = fmt::format("k{}", random.Below(10)),
                .payload = std::string(1000 + random.Below(9000), 'p'),
                .id = ""};
      const auto placed = PublishOne(*broker, EventOf(told));
      if (placed.ok()) {
        answered[placed->offset] = std::move(told);
        continue;
      }
      ASSERT_EQ(placed.status().code(), StatusCode::kResourceExhausted) << placed.status().ToString();
      ++refused;
      if (random.Below(4) == 0) {
        machine.clock.Advance(std::chrono::seconds(20));
        broker->Maintain(true);
      }
      if (refused % 7 == 0) machine.files.SetCapacity(machine.files.used_bytes() + 200'000);
    }
    machine.files.SetCapacity(UINT64_MAX);
    const auto last = PublishOne(*broker, EventOf({.key = "k0", .payload = "last", .id = ""}));
    ASSERT_TRUE(last.ok()) << last.status().ToString();
    broker = nullptr;
    machine.files.PowerCut();
    broker = *Open(machine, Durability::kFsync);
    std::map<std::string, uint64_t> newest;
    for (const auto& [offset, told] : answered) newest[told.key] = offset;
    newest["k0"] = last->offset;
    std::map<uint64_t, std::string> found;
    FetchOptions from{.limit = kFetchEventsMax};
    while (true) {
      const auto fetched = broker->Fetch(kTenant, "t", 0, from);
      ASSERT_TRUE(fetched.ok());
      for (const EventPtr& event : fetched->events) found[event->offset()] = std::string(event->view().payload);
      if (fetched->next_offset >= fetched->end_offset) break;
      from.offset = fetched->next_offset;
    }
    for (const auto& [offset, told] : answered) {
      if (found.contains(offset)) {
        ASSERT_EQ(found[offset], told.payload);
      } else {
        ASSERT_EQ(options.cleanup, TopicCleanup::kCompact) << offset << " is lost";
        ASSERT_NE(newest[told.key], offset) << offset << " is lost";
      }
    }
    EXPECT_EQ(found[last->offset], "last");
  }
  EXPECT_GT(refused, 20U);
}

}  // namespace
}  // namespace millstream::events

// Crashes a broker at every file operation of a workload of topics, events, commits and retention, and checks what is
// left against what it had answered.
//
// The oracle: every event that was answered is there, at its offset, in its partition; a partition has no other events
// than those tried, in the order in which they were tried; a group's offset is the last one answered, or a later one
// that was tried; a topic that was answered exists, one whose deletion was answered does not. Reopening never fails.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "events_fixture.h"
#include "millstream/env/random.h"

namespace millstream::events {
namespace {

using env::SimFileSystem;
using storage::Durability;

struct TopicOracle {
  std::vector<std::string> answered;  // payload by offset; one topic has one partition
  std::set<std::string> tried;        // not answered: may be there or not
  uint64_t committed = 0;
  std::set<uint64_t> committing;
  bool created = false;
  bool deleting = false;
  bool deleted = false;
};
using Oracle = std::map<std::string, TopicOracle>;

constexpr uint64_t kSegmentBytes = 16 << 10;

void RunUntilCrash(SimMachine& machine, Durability durability, uint64_t seed, int steps, Oracle* oracle) {
  env::SeededRandom random(seed);
  std::shared_ptr<Broker> broker;
  int number = 0;
  for (int step = 0; step < steps && !machine.files.crashed(); ++step) {
    if (broker == nullptr) {
      auto opened = machine.Open(durability, 2, kSegmentBytes);
      if (!opened.ok()) return;
      broker = *opened;
    }
    const std::string name = fmt::format("t{}", random.Below(4));
    TopicOracle& topic = (*oracle)[name];
    switch (random.Below(12)) {
      case 0:
        broker = nullptr;  // closes
        break;
      case 1:
        if (topic.created && random.Below(4) == 0 && !topic.deleting) {
          topic.deleting = true;
          if (broker->DeleteTopic(kTenant, name).ok()) topic.deleted = true;
        }
        break;
      case 2:
        if (!topic.created || topic.deleting || topic.answered.empty()) break;
        {
          const uint64_t offset = random.Below(topic.answered.size() + 1);
          const std::vector<OffsetCommit> commit{{name, 0, offset}};
          topic.committing.insert(offset);
          if (!broker->CommitOffsets(kTenant, "g", commit).ok()) break;
          topic.committed = offset;
          topic.committing.clear();
        }
        break;
      default: {
        if (topic.deleting) break;
        if (!topic.created) {
          const auto made = broker->CreateTopic(kTenant, name, {});
          if (!made.ok()) break;
          topic.created = true;
        }
        std::vector<std::string> payloads;
        std::vector<PublishEvent> events;
        const uint64_t count = 1 + random.Below(4);
        for (uint64_t i = 0; i < count; ++i) {
          payloads.push_back(fmt::format("{}/{}", number++, std::string(random.Below(2000), 'p')));
        }
        for (const std::string& payload : payloads) {
          events.push_back(Text(name, payload));
          topic.tried.insert(payload);
        }
        const auto answers = broker->Publish(kTenant, events);
        for (size_t i = 0; i < answers.size(); ++i) {
          if (!answers[i].ok()) continue;
          ASSERT_EQ(answers[i]->offset, topic.answered.size());
          topic.answered.push_back(payloads[i]);
          topic.tried.erase(payloads[i]);
        }
      }
    }
  }
}

struct Counts {
  uint64_t crashes = 0;
  uint64_t events_checked = 0;
  uint64_t unanswered_kept = 0;
};

void Check(SimMachine& machine, Durability durability, const Oracle& oracle, const std::string& what, Counts* counts) {
  SCOPED_TRACE(what);
  auto opened = machine.Open(durability, 2, kSegmentBytes);
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  Broker& broker = **opened;
  ++counts->crashes;
  std::map<std::string, uint64_t> committed;
  const auto offsets = broker.GroupOffsets(kTenant, "g");
  ASSERT_TRUE(offsets.ok()) << offsets.status().ToString();
  for (const GroupOffset& offset : *offsets) committed[offset.topic] = offset.committed;
  for (const auto& [name, topic] : oracle) {
    const auto described = broker.DescribeTopic(kTenant, name);
    if (topic.deleted) {
      ASSERT_EQ(described.status().code(), StatusCode::kNotFound) << name;
      continue;
    }
    if (!described.ok()) {
      ASSERT_EQ(described.status().code(), StatusCode::kNotFound) << described.status().ToString();
      ASSERT_TRUE(!topic.created || topic.deleting) << name << " is lost";
      continue;
    }
    const std::vector<std::string> events = ReadAll(broker, name);
    ASSERT_GE(events.size(), topic.answered.size()) << name;
    for (size_t i = 0; i < events.size(); ++i) {
      if (i < topic.answered.size()) {
        ASSERT_EQ(events[i], topic.answered[i]) << name << " offset " << i;
        ++counts->events_checked;
      } else {
        ASSERT_TRUE(topic.tried.contains(events[i])) << name << " offset " << i;
        ++counts->unanswered_kept;
      }
    }
    const uint64_t offset = committed.contains(name) ? committed[name] : 0;
    ASSERT_TRUE(offset == topic.committed || topic.committing.contains(offset)) << name << " committed " << offset;
    // It goes on behind what is there.
    const auto next = PublishOne(broker, Text(name, "after"));
    ASSERT_TRUE(next.ok()) << next.status().ToString();
    ASSERT_EQ(next->offset, events.size());
  }
}

// A sanitizer makes each crash many times as slow: only some are tried then.
#ifdef __has_feature
#define MILLSTREAM_SLOW (__has_feature(thread_sanitizer) || __has_feature(address_sanitizer))
#else
#define MILLSTREAM_SLOW 0
#endif
#if MILLSTREAM_SLOW
constexpr uint64_t kStride = 12;
#else
constexpr uint64_t kStride = 1;
#endif

void CrashEverywhere(Durability durability, bool power_cut, uint64_t seed, uint64_t stride) {
  constexpr int kSteps = 60;
  uint64_t operations = 0;
  {
    SimMachine machine(seed);
    Oracle oracle;
    RunUntilCrash(machine, durability, seed, kSteps, &oracle);
    operations = machine.files.operations();
  }
  Counts counts;
  for (uint64_t at = 1 + seed % stride; at < operations; at += stride) {
    SimMachine machine(seed);
    machine.files.CrashAt(at);
    Oracle oracle;
    RunUntilCrash(machine, durability, seed, kSteps, &oracle);
    if (power_cut) {
      machine.files.PowerCut();
    } else {
      machine.files.ProcessDeath();
    }
    Check(machine, durability, oracle, fmt::format("seed {}, crash at operation {} of {}", seed, at, operations),
          &counts);
    if (testing::Test::HasFatalFailure()) return;
  }
  fmt::print("{} crashes, {} answered events checked, {} unanswered kept\n", counts.crashes, counts.events_checked,
             counts.unanswered_kept);
  EXPECT_GT(counts.events_checked, counts.crashes);
}

TEST(EventsCrash, APowerCutLosesNothingThatWasAnsweredWithFsync) {
  for (const uint64_t seed : {1, 2}) CrashEverywhere(Durability::kFsync, true, seed, kStride);
}

TEST(EventsCrash, TheDeathOfTheProcessLosesNothingThatWasAnswered) {
  for (const uint64_t seed : {3, 4}) CrashEverywhere(Durability::kProcess, false, seed, kStride);
}

TEST(EventsCrash, AFailedOperationLosesNothingThatWasAnswered) {
  constexpr int kSteps = 60;
  for (const Status& failure : {ResourceExhausted("no space"), Internal("the device fails")}) {
    for (uint64_t at = 1; at < 600; at += 3 * kStride) {
      SimMachine machine(7);
      machine.files.FailAt(at, failure);
      Oracle oracle;
      RunUntilCrash(machine, Durability::kFsync, 7, kSteps, &oracle);
      Counts counts;
      Check(machine, Durability::kFsync, oracle, fmt::format("{} at operation {}", failure.ToString(), at), &counts);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace millstream::events

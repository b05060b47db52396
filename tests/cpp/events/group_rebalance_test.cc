// A thousand random rebalances of one group, under a clock of our own.
//
// Members join, leave, die (they are never heard of again, though they still try to commit), pause, and commit; topics
// appear and get more partitions; events are published all the time. After every step: no partition has two owners;
// whoever gets an event owns its partition at that moment; and all events below a committed offset were handed to a
// member before. At the end, when one member reads on alone, everything that was published is committed.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "group_fixture.h"

namespace millstream::events {
namespace {

constexpr uint64_t kRebalances = 1000;
constexpr size_t kMembersMax = 6;
constexpr size_t kTopicsAtMost = 6;
constexpr uint32_t kPartitionsAtMost = 8;

class Chaos {
 public:
  explicit Chaos(uint64_t seed)
      : machine_(seed), broker_(machine_.MustOpen(storage::Durability::kProcess)), random_(seed) {
    MustCreate(*broker_, "t0", {.partitions = 3});
    topics_ = {"t0"};
    Join();
  }

  void Run() {
    while (generations_.size() < kRebalances && !testing::Test::HasFailure()) {
      Step();
      Check();
    }
    Finish();
    std::string counted;
    for (const auto& [what, count] : counts_) counted += fmt::format(" {} {}", what, count);
    std::cout << fmt::format("{} generations, {} events:{}\n", generations_.size(), published_, counted);
    for (const auto& [what, count] : counts_) EXPECT_GT(count, 0U) << what;
  }

 private:
  struct Reader {
    std::unique_ptr<Subscription> subscription;
    bool is_dead = false;
    int paused_steps = 0;
  };
  using Place = std::pair<std::string, uint32_t>;

  uint64_t Roll(uint64_t below) { return random_() % below; }

  Reader* Pick(bool is_dead) {
    std::vector<Reader*> found;
    for (Reader& reader : readers_) {
      if (reader.is_dead == is_dead && reader.paused_steps == 0) found.push_back(&reader);
    }
    return found.empty() ? nullptr : found[Roll(found.size())];
  }

  void Join() {
    readers_.push_back({.subscription = MustJoin(*broker_, InGroup({"t*"})), .is_dead = false, .paused_steps = 0});
    ++counts_["joined"];
  }

  void Close(Reader* reader) {
    std::erase_if(readers_, [&](const Reader& one) { return &one == reader; });
  }

  void Poll(Reader& reader) {
    const auto polled = reader.subscription->Poll(1 + Roll(20), 1 << 20, 0);
    ASSERT_TRUE(polled.ok()) << polled.status().ToString();
    if (polled->events.empty()) return;
    std::set<Place> owned;
    for (const GroupMember& member : Describe(*broker_).members) {
      if (member.member != reader.subscription->member()) continue;
      for (const GroupPlace& place : member.owned) owned.emplace(place.topic, place.partition);
    }
    for (const SubscribedEvent& event : polled->events) {
      const Place place(*event.topic, event.event->partition());
      ASSERT_TRUE(owned.contains(place)) << place.first << "/" << place.second;
      delivered_[place].insert(event.event->offset());
      ++counts_["delivered"];
    }
  }

  void Commit(Reader& reader) {
    const Status status = reader.subscription->Commit();
    if (status.ok()) {
      ++counts_["committed"];
    } else {
      ASSERT_EQ(status.code(), StatusCode::kFailedPrecondition) << status.ToString();
      ++counts_[reader.is_dead ? "refused to the dead" : "refused to the living"];
    }
  }

  void Publish() {
    const std::string& topic = topics_[Roll(topics_.size())];
    const auto described = broker_->DescribeTopic(kTenant, topic);
    const auto partition = static_cast<uint32_t>(Roll(described->info.options.partitions));
    for (uint64_t i = 0; i <= Roll(5); ++i) {
      ASSERT_TRUE(PublishOne(*broker_, Text(topic, "x", partition)).ok());
      ++published_;
    }
  }

  void Grow() {
    if (topics_.size() < kTopicsAtMost && Roll(2) == 0) {
      topics_.push_back(fmt::format("t{}", topics_.size()));
      MustCreate(*broker_, topics_.back(), {.partitions = 1 + static_cast<uint32_t>(Roll(3))});
      ++counts_["topics appeared"];
      return;
    }
    const std::string& topic = topics_[Roll(topics_.size())];
    const uint32_t partitions = broker_->DescribeTopic(kTenant, topic)->info.options.partitions;
    if (partitions >= kPartitionsAtMost) return;
    ASSERT_TRUE(broker_->AlterTopic(kTenant, topic, {.partitions = partitions + 1}).ok());
    ++counts_["topics grew"];
  }

  void Step() {
    for (Reader& reader : readers_) reader.paused_steps = std::max(0, reader.paused_steps - 1);
    const uint64_t roll = Roll(100);
    if (roll < 8) {
      if (readers_.size() < kMembersMax) Join();
    } else if (roll < 13) {
      if (Reader* reader = Pick(false); reader != nullptr && readers_.size() > 1) {
        Close(reader);
        ++counts_["left"];
      }
    } else if (roll < 16) {
      if (Reader* reader = Pick(false)) {
        reader->is_dead = true;
        ++counts_["died"];
      }
    } else if (roll < 19) {
      if (Reader* reader = Pick(false)) {
        reader->paused_steps = static_cast<int>(Roll(60));
        ++counts_["paused"];
      }
    } else if (roll < 21) {
      Grow();
    } else if (roll < 26) {
      if (Reader* reader = Pick(true)) {
        Commit(*reader);
        // A dead one that tried for long enough is gone for good.
        if (Roll(4) == 0) Close(reader);
      }
    } else if (roll < 45) {
      Publish();
    } else if (roll < 55) {
      machine_.clock.Advance(milliseconds(Roll(kSessionMs / 4)));
      broker_->TickGroups();
    } else if (roll < 85) {
      if (Reader* reader = Pick(false)) Poll(*reader);
    } else {
      if (Reader* reader = Pick(false)) Commit(*reader);
    }
  }

  void Check() {
    const GroupDescription group = Describe(*broker_);
    if (!generations_.empty()) {
      ASSERT_GE(group.generation, *generations_.rbegin());
    }
    generations_.insert(group.generation);
    std::set<GroupPlace> owned;
    for (const GroupMember& member : group.members) {
      for (const GroupPlace& place : member.owned) {
        ASSERT_TRUE(owned.insert(place).second) << place.topic << "/" << place.partition << " has two owners";
      }
    }
    const auto offsets = broker_->GroupOffsets(kTenant, "g");
    ASSERT_TRUE(offsets.ok());
    for (const GroupOffset& offset : *offsets) {
      uint64_t& checked = checked_[{offset.topic, offset.partition}];
      ASSERT_GE(offset.committed, checked) << "an offset went back";
      const std::set<uint64_t>& delivered = delivered_[{offset.topic, offset.partition}];
      for (; checked < offset.committed; ++checked) {
        ASSERT_TRUE(delivered.contains(checked))
            << offset.topic << "/" << offset.partition << "@" << checked << " is committed and nobody got it";
      }
    }
  }

  void Finish() {
    readers_.clear();
    const auto last = MustJoin(*broker_, InGroup({"t*"}));
    Reader reader{.subscription = nullptr, .is_dead = false, .paused_steps = 0};
    reader.subscription = MustJoin(*broker_, InGroup({"t*"}));
    for (int i = 0; i < 10'000; ++i) {
      Poll(reader);
      Commit(reader);
      if (i == 0) last->Close();
      uint64_t lag = 0;
      const auto offsets = broker_->GroupOffsets(kTenant, "g");
      for (const GroupOffset& offset : *offsets) lag += offset.lag;
      if (lag == 0 && i > 0) break;
    }
    Check();
    uint64_t committed = 0;
    for (const auto& [place, offset] : Committed(*broker_)) committed += offset;
    EXPECT_EQ(committed, published_);
  }

  SimMachine machine_;
  const std::shared_ptr<Broker> broker_;
  std::mt19937_64 random_;
  std::vector<std::string> topics_;
  std::vector<Reader> readers_;
  std::map<Place, std::set<uint64_t>> delivered_;
  std::map<Place, uint64_t> checked_;
  std::set<uint64_t> generations_;
  std::map<std::string, uint64_t> counts_{{"joined", 0},
                                          {"left", 0},
                                          {"died", 0},
                                          {"paused", 0},
                                          {"topics appeared", 0},
                                          {"topics grew", 0},
                                          {"delivered", 0},
                                          {"committed", 0},
                                          {"refused to the dead", 0},
                                          {"refused to the living", 0}};
  uint64_t published_ = 0;
};

class Rebalances : public testing::TestWithParam<uint64_t> {};

TEST_P(Rebalances, LoseNothingAndGiveNoPartitionToTwo) {
  SCOPED_TRACE(fmt::format("seed {}", GetParam()));
  Chaos(GetParam()).Run();
}

INSTANTIATE_TEST_SUITE_P(Seeds, Rebalances, testing::Values(1, 2, 3));

}  // namespace
}  // namespace millstream::events

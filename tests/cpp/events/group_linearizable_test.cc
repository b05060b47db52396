// Whether committing and fetching a group's offset is linearizable: threads do both at once, and a checker after Wing
// and Gong ("Testing and Verifying Concurrent Objects", 1993) looks for an order that explains every answer.
#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <iostream>
#include <optional>
#include <random>
#include <set>
#include <thread>

#include "group_fixture.h"

namespace millstream::events {
namespace {

struct Operation {
  bool is_commit = false;
  uint64_t value = 0;   // committed, or fetched; 0: nothing was committed yet
  uint64_t called = 0;  // on one counter that all threads share
  uint64_t returned = 0;
};

// Whether some order of the operations, each between its call and its return, is one of a register.
class Checker {
 public:
  explicit Checker(const std::vector<Operation>& history) : history_(history) {}
  bool IsLinearizable() { return Search(0, 0); }

 private:
  bool Search(uint64_t done, uint64_t value) {
    if (done == (uint64_t{1} << history_.size()) - 1) return true;
    if (!seen_.emplace(done, value).second) return false;
    // The first return of what is left: nothing that was called after it can come before it.
    uint64_t first_return = UINT64_MAX;
    for (size_t i = 0; i < history_.size(); ++i) {
      if ((done >> i & 1) == 0) first_return = std::min(first_return, history_[i].returned);
    }
    for (size_t i = 0; i < history_.size(); ++i) {
      const Operation& next = history_[i];
      if ((done >> i & 1) != 0 || next.called > first_return) continue;
      if (!next.is_commit && next.value != value) continue;
      if (Search(done | uint64_t{1} << i, next.is_commit ? next.value : value)) return true;
    }
    return false;
  }

  const std::vector<Operation>& history_;
  std::set<std::pair<uint64_t, uint64_t>> seen_;
};

TEST(LinearizabilityChecker, TellsTheGoodFromTheBad) {
  // A fetch that is called after a commit has returned and misses it.
  EXPECT_FALSE(Checker({{true, 1, 1, 2}, {false, 0, 3, 4}}).IsLinearizable());
  EXPECT_TRUE(Checker({{true, 1, 1, 4}, {false, 0, 2, 3}}).IsLinearizable());
  // Two fetches, one after the other, that see two commits in the wrong order.
  EXPECT_FALSE(Checker({{true, 1, 1, 2}, {true, 2, 3, 9}, {false, 2, 4, 5}, {false, 1, 6, 7}}).IsLinearizable());
  EXPECT_TRUE(Checker({{true, 1, 1, 2}, {true, 2, 3, 9}, {false, 1, 4, 5}, {false, 2, 6, 7}}).IsLinearizable());
}

TEST(Group, CommitAndFetchOfAnOffsetAreLinearizable) {
  constexpr int kThreads = 5;
  constexpr int kEach = 8;
  constexpr int kRounds = 300;
  SimMachine machine(7);
  const auto broker = machine.MustOpen();
  MustCreate(*broker, "orders");
  for (int i = 0; i < kThreads * kEach; ++i) ASSERT_TRUE(PublishOne(*broker, Text("orders", "x")).ok());
  int overlapping = 0;
  for (int round = 0; round < kRounds; ++round) {
    const std::string group = "g" + std::to_string(round);
    std::atomic<uint64_t> counter{0};
    std::barrier start(kThreads);
    std::vector<std::vector<Operation>> of_thread(kThreads);
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937 random(static_cast<uint32_t>(round * kThreads + t));
        start.arrive_and_wait();
        for (int i = 0; i < kEach; ++i) {
          Operation one{.is_commit = random() % 2 == 0};
          one.called = ++counter;
          if (one.is_commit) {
            one.value = static_cast<uint64_t>(1 + t * kEach + i);
            const OffsetCommit commit{.topic = "orders", .partition = 0, .offset = one.value};
            EXPECT_TRUE(broker->CommitOffsets(kTenant, group, {&commit, 1}).ok());
          } else {
            const auto offsets = broker->GroupOffsets(kTenant, group);
            EXPECT_TRUE(offsets.ok());
            one.value = offsets->empty() ? 0 : offsets->front().committed;
          }
          one.returned = ++counter;
          of_thread[static_cast<size_t>(t)].push_back(one);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    std::vector<Operation> history;
    for (const auto& operations : of_thread) history.insert(history.end(), operations.begin(), operations.end());
    for (const Operation& one : history) overlapping += one.returned > one.called + 1 ? 1 : 0;
    ASSERT_TRUE(Checker(history).IsLinearizable()) << "round " << round;
  }
  std::cout << kRounds << " histories of " << kThreads * kEach << " operations, " << overlapping
            << " of them overlapped\n";
  EXPECT_GT(overlapping, 0);
}

}  // namespace
}  // namespace millstream::events

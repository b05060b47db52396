// Crashes a log at every file operation of a workload and checks what is left against what it had answered.
//
// The oracle: after recovery the log holds the records start()..end(), each the one that was appended there; end() is
// at least the durability that was acknowledged and at most what was ever tried; start() is no further than what was
// allowed to go. Recovery never calls a crash corruption.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "log_fixture.h"
#include "millstream/env/random.h"
#include "millstream/log/local_log.h"

namespace millstream::log {
namespace {

using env::SimFileSystem;
using storage::Durability;

enum class Crash { kProcessDeath, kPowerCut };

// What the outside world was told.
struct Oracle {
  uint64_t acknowledged = 0;  // records below are promised
  uint64_t tried = 0;         // records below may be there
  uint64_t let_go = 0;        // records below may be gone
};

struct Coverage {
  uint64_t rolls_left = 0;  // crashes that found a roll unfinished
  uint64_t rolls_kept = 0;  // of which the next segment is there afterwards
  std::map<SimFileSystem::Operation, uint64_t> crashes;
  uint64_t tails_cut = 0;
  uint64_t unacknowledged_kept = 0;
  uint64_t unacknowledged_lost = 0;
};

std::string Describe(uint64_t seed, uint64_t crash_at) {
  return fmt::format("seed {}, crash at operation {}", seed, crash_at);
}

// Opens, appends, waits, lets old records go, closes, opens again; until the machine goes down. `promise` says whether
// what the log acknowledged must survive the crash that will come.
void RunUntilCrash(SimMachine& machine, Durability durability, bool promise, env::Random& random, int steps,
                   Oracle* oracle) {
  std::unique_ptr<LocalLog> log;
  for (int step = 0; step < steps; ++step) {
    if (log == nullptr) {
      auto opened = machine.Open(durability);
      if (!opened.ok()) {
        ASSERT_EQ(opened.status().code(), StatusCode::kUnavailable) << opened.status().ToString();
        return;
      }
      log = std::move(*opened);
    }
    if (machine.rolls != nullptr && random.Below(4) == 0) machine.rolls->FinishOne();
    switch (random.Below(12)) {
      case 0: {
        const Status synced = log->Sync();
        if (!synced.ok()) return;
        // Whatever the mode, this is on the disk.
        oracle->acknowledged = std::max(oracle->acknowledged, log->end().value());
        break;
      }
      case 1: {
        if (oracle->acknowledged == 0) break;
        const uint64_t below = random.Below(oracle->acknowledged + 1);
        oracle->let_go = std::max(oracle->let_go, below);
        if (!log->TruncateBefore(Offset(below)).ok()) return;
        break;
      }
      case 2:
        if (random.Below(3) == 0) {
          const Status closed = log->Close();
          if (!closed.ok()) return;
          oracle->acknowledged = std::max(oracle->acknowledged, log->end().value());
          log = nullptr;
        }
        break;
      default: {
        const uint64_t first = log->end().value();
        const uint64_t count = random.Below(4) == 0 ? 1 + random.Below(5) : 1;
        const std::vector<std::string> payloads = Payloads(first, first + count);
        const std::vector<std::string_view> views(payloads.begin(), payloads.end());
        oracle->tried = std::max(oracle->tried, first + count);
        const auto appended = log->Append(views);
        if (!appended.ok()) return;
        ASSERT_EQ(appended->value(), first);
        if (random.Below(2) == 0) {
          if (!log->WaitDurable(Offset(first + count - 1)).ok()) return;
        }
        if (promise) oracle->acknowledged = std::max(oracle->acknowledged, log->durable_end().value());
      }
    }
  }
}

void CheckAfterCrash(SimMachine& machine, Durability durability, const std::string& what, Oracle* oracle,
                     Coverage* coverage) {
  const std::vector<std::string> left = machine.NextPaths();
  auto log = machine.Open(durability);
  ASSERT_TRUE(log.ok()) << what << ": " << log.status().ToString();
  const uint64_t start = (*log)->start().value();
  const uint64_t end = (*log)->end().value();
  ASSERT_LE(start, oracle->let_go) << what;
  ASSERT_GE(end, oracle->acknowledged) << what;
  ASSERT_LE(end, oracle->tried) << what;
  const auto records = ReadAll(**log, Offset(start));
  ASSERT_TRUE(records.ok()) << what << ": " << records.status().ToString();
  ASSERT_EQ(*records, Payloads(start, end)) << what;
  ASSERT_TRUE(machine.NextPaths().empty()) << what;
  coverage->rolls_left += left.size();
  for (const std::string& path : left) {
    const std::vector<std::string> now = machine.SegmentPaths();
    const std::string named = path.substr(0, path.find('.')) + ".log";
    coverage->rolls_kept += static_cast<uint64_t>(std::ranges::count(now, named));
  }
  coverage->tails_cut += (*log)->recovery().tail_was_cut ? 1 : 0;
  coverage->unacknowledged_kept += end > oracle->acknowledged ? 1 : 0;
  coverage->unacknowledged_lost += end < oracle->tried ? 1 : 0;
  // What recovery found is on the disk from now on, and what it did not find never comes back.
  oracle->acknowledged = end;
  oracle->tried = end;
  machine.files.ProcessDeath();
}

struct Case {
  Durability durability;
  Crash crash;
  std::string name;
  bool rolls_later = false;
};

class CrashTest : public testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(All, CrashTest,
                         testing::Values(Case{Durability::kFsync, Crash::kPowerCut, "FsyncPowerCut"},
                                         Case{Durability::kFsync, Crash::kProcessDeath, "FsyncProcessDeath"},
                                         Case{Durability::kProcess, Crash::kProcessDeath, "ProcessProcessDeath"},
                                         Case{Durability::kProcess, Crash::kPowerCut, "ProcessPowerCut"},
                                         Case{Durability::kProcess, Crash::kProcessDeath, "LaterProcessDeath", true},
                                         Case{Durability::kProcess, Crash::kPowerCut, "LaterPowerCut", true}),
                         [](const auto& about) { return about.param.name; });

// Three crashes in a row, the second and third early, so that recovery itself is interrupted, too.
void RunCase(const Case& test, uint64_t seed, uint64_t crash_at, bool* finished, Coverage* coverage) {
  SimMachine machine(seed);
  if (test.rolls_later) machine.LeaveRolls();
  env::SeededRandom random(seed * 7919 + 1);
  Oracle oracle;
  const bool promise = test.durability == Durability::kFsync || test.crash == Crash::kProcessDeath;
  for (int round = 0; round < 3; ++round) {
    const uint64_t at = round == 0 ? crash_at : 1 + random.Below(60);
    machine.files.CrashAt(machine.files.operations() + at);
    RunUntilCrash(machine, test.durability, promise, random, 60, &oracle);
    if (round == 0) *finished = !machine.files.crashed();
    if (machine.files.crashed()) ++coverage->crashes[machine.files.crashed_in()];
    if (test.crash == Crash::kPowerCut) {
      machine.files.PowerCut();
    } else {
      machine.files.ProcessDeath();
    }
    // Some recoveries are themselves cut short before one is let through.
    if (round > 0) {
      machine.files.CrashAt(machine.files.operations() + 1 + random.Below(25));
      const auto interrupted = machine.Open(test.durability);
      if (!interrupted.ok()) {
        ASSERT_EQ(interrupted.status().code(), StatusCode::kUnavailable) << interrupted.status().ToString();
      }
      if (test.crash == Crash::kPowerCut) {
        machine.files.PowerCut();
      } else {
        machine.files.ProcessDeath();
      }
    }
    CheckAfterCrash(machine, test.durability, fmt::format("{}, round {}", Describe(seed, crash_at), round), &oracle,
                    coverage);
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST_P(CrashTest, NothingAcknowledgedIsLostByACrashAtAnyOperation) {
  Coverage coverage;
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    bool finished = false;
    for (uint64_t crash_at = 1; !finished; ++crash_at) {
      RunCase(GetParam(), seed, crash_at, &finished, &coverage);
      if (HasFatalFailure()) return;
    }
  }
  // The faults must have met what they were made for, or this test shows nothing.
  using Operation = SimFileSystem::Operation;
  for (const Operation operation :
       {Operation::kOpenForWrite, Operation::kOpenForRead, Operation::kRead, Operation::kAppend, Operation::kSync,
        Operation::kSyncFolder, Operation::kRemove, Operation::kList, Operation::kStat}) {
    EXPECT_GT(coverage.crashes[operation], 0U) << "no crash in operation kind " << static_cast<int>(operation);
  }
  EXPECT_GT(coverage.tails_cut, 0U);
  EXPECT_GT(coverage.unacknowledged_lost, 0U);
  EXPECT_EQ(coverage.rolls_left > 0, GetParam().rolls_later);
  EXPECT_EQ(coverage.rolls_kept > 0, GetParam().rolls_later);
  if (GetParam().rolls_later) {
    EXPECT_GT(coverage.crashes[Operation::kRename], 0U);
    EXPECT_GT(coverage.rolls_left, coverage.rolls_kept);
  }
  if (GetParam().crash == Crash::kPowerCut || GetParam().durability == Durability::kFsync) {
    EXPECT_GT(coverage.unacknowledged_kept, 0U);
  }
}

// One operation fails, and the process lives on: what it acknowledges from then on must hold as well.
TEST_P(CrashTest, NothingAcknowledgedIsLostWhenAnyOneOperationFails) {
  const Case& test = GetParam();
  const bool promise = test.durability == Durability::kFsync || test.crash == Crash::kProcessDeath;
  Coverage coverage;
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    for (const bool full : {false, true}) {
      uint64_t operations = UINT64_MAX;
      for (uint64_t fail_at = 1; fail_at <= operations; ++fail_at) {
        SimMachine machine(seed);
        if (test.rolls_later) machine.LeaveRolls();
        env::SeededRandom random(seed);
        Oracle oracle;
        const uint64_t before = machine.files.operations();
        machine.files.FailAt(before + fail_at,
                             full ? ResourceExhausted("no space left") : Internal("input/output error"));
        std::unique_ptr<LocalLog> log;
        for (int step = 0; step < 40; ++step) {
          if (log == nullptr) {
            auto opened = machine.Open(test.durability);
            if (!opened.ok()) continue;
            log = std::move(*opened);
          }
          if (test.rolls_later && random.Below(4) == 0) machine.rolls->FinishOne();
          const uint64_t first = log->end().value();
          const auto appended = AppendOne(*log, Payload(first));
          if (appended.ok()) oracle.tried = std::max(oracle.tried, first + 1);
          if (appended.ok() && random.Below(2) == 0) (void)log->WaitDurable(*appended);
          if (promise) oracle.acknowledged = std::max(oracle.acknowledged, log->durable_end().value());
          if (random.Below(10) == 0) {
            oracle.let_go = std::max(oracle.let_go, first / 2);
            (void)log->TruncateBefore(Offset(first / 2));
          }
        }
        operations = machine.files.operations() - before;
        if (test.crash == Crash::kPowerCut) {
          machine.files.PowerCut();
        } else {
          machine.files.ProcessDeath();
        }
        log = nullptr;
        CheckAfterCrash(machine, test.durability, fmt::format("seed {}, failure at operation {}", seed, fail_at),
                        &oracle, &coverage);
        if (HasFatalFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace millstream::log

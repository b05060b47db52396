#include <gtest/gtest.h>

#include <string>

#include "tsdb_machine.h"
#include "tsdb_testing.h"

namespace millstream::tsdb {
namespace {

using testing::CountBlocks;
using testing::ExpectBetween;
using testing::Machine;
using testing::MatchEverything;
using testing::ModelOf;
using testing::ReadAll;
using testing::Workload;

class CrashTest : public ::testing::TestWithParam<storage::Durability> {};

TEST_P(CrashTest, AtEveryFileOperationAcknowledgedSamplesSurviveAndNoneIsDoubled) {
  constexpr int kRounds = 25;
  uint64_t operations = 0;
  {
    Machine machine(100, GetParam());
    const uint64_t before = machine.files.operations();
    ASSERT_TRUE(machine.Open().ok());
    Workload workload(100);
    ASSERT_TRUE(workload.Run(machine, kRounds).ok());
    EXPECT_GT(CountBlocks(machine), 1u);
    operations = machine.files.operations() - before;
  }
  ASSERT_GT(operations, 100u);
  for (uint64_t n = 1; n <= operations; ++n) {
    Machine machine(100 + n, GetParam());
    machine.files.CrashAt(machine.files.operations() + n);
    Workload workload(100);
    if (machine.Open().ok()) EXPECT_FALSE(workload.Run(machine, kRounds).ok() && n < operations);
    machine.Close();
    if (GetParam() == storage::Durability::kFsync) {
      machine.files.PowerCut();
    } else {
      machine.files.ProcessDeath();
    }
    const std::string where = "crash at operation " + std::to_string(n);
    const Status opened = machine.Open();
    ASSERT_TRUE(opened.ok()) << where << ": " << opened.ToString();
    ASSERT_NO_FATAL_FAILURE(ExpectBetween(ModelOf(ReadAll(*machine.partition, {MatchEverything()})),
                                          workload.acknowledged, workload.attempted, where));
    // It works on, checkpoint and restart included.
    ASSERT_TRUE(workload.Run(machine, 8).ok()) << where;
    ASSERT_TRUE(machine.Open().ok()) << where;
    ASSERT_NO_FATAL_FAILURE(ExpectBetween(ModelOf(ReadAll(*machine.partition, {MatchEverything()})),
                                          workload.acknowledged, workload.attempted, where));
  }
}

INSTANTIATE_TEST_SUITE_P(Durabilities, CrashTest,
                         ::testing::Values(storage::Durability::kProcess, storage::Durability::kFsync),
                         [](const auto& info) {
                           return info.param == storage::Durability::kProcess ? "ProcessDeath" : "PowerCut";
                         });

TEST(CheckpointFaultTest, AFailedOperationOfACheckpointLosesNothing) {
  uint64_t operations = 0;
  {
    Machine machine(200);
    ASSERT_TRUE(machine.Open().ok());
    Workload workload(200);
    ASSERT_TRUE(workload.Run(machine, 13).ok());
    operations = machine.files.operations();
    ASSERT_TRUE(machine.partition->Checkpoint().ok());
    EXPECT_GT(CountBlocks(machine), 0u);
    operations = machine.files.operations() - operations;
  }
  for (uint64_t n = 1; n <= operations; ++n) {
    Machine machine(200);
    ASSERT_TRUE(machine.Open().ok());
    Workload workload(200);
    ASSERT_TRUE(workload.Run(machine, 13).ok());
    machine.files.FailAt(machine.files.operations() + n, Internal("the device fails"));
    (void)machine.partition->Checkpoint();
    const std::string where = "failed operation " + std::to_string(n);
    ASSERT_NO_FATAL_FAILURE(ExpectBetween(ModelOf(ReadAll(*machine.partition, {MatchEverything()})),
                                          workload.acknowledged, workload.attempted, where));
    machine.Close();
    machine.files.PowerCut();
    const Status opened = machine.Open();
    ASSERT_TRUE(opened.ok()) << where << ": " << opened.ToString();
    ASSERT_NO_FATAL_FAILURE(ExpectBetween(ModelOf(ReadAll(*machine.partition, {MatchEverything()})),
                                          workload.acknowledged, workload.attempted, where));
  }
}

}  // namespace
}  // namespace millstream::tsdb

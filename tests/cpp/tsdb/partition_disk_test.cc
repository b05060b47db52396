#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "block_writer.h"
#include "millstream/env/file_util.h"
#include "millstream/tsdb/partition.h"
#include "tsdb_machine.h"
#include "tsdb_testing.h"

namespace millstream::tsdb {
namespace {

using testing::BatchBuilder;
using testing::CountBlocks;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::kFolder;
using testing::kLogFolder;
using testing::LabelsOf;
using testing::Machine;
using testing::MatchEverything;
using testing::Model;
using testing::ModelOf;
using testing::ReadAll;
using testing::SmallOptions;
using testing::Workload;

TEST(PartitionOnDisk, RestartFindsEverythingFromBlocksSnapshotAndLog) {
  Machine machine(1);
  ASSERT_TRUE(machine.Open().ok());
  Workload workload(1);
  ASSERT_TRUE(workload.Run(machine, 100).ok());
  EXPECT_GT(CountBlocks(machine), 2u);
  EXPECT_GT(machine.log->start(), Offset(0)) << "the log was never truncated";
  EXPECT_EQ(ModelOf(ReadAll(*machine.partition, {MatchEverything()})), workload.acknowledged);
  machine.Close();
  const Status opened = machine.Open();
  ASSERT_TRUE(opened.ok()) << opened.ToString();
  EXPECT_EQ(ModelOf(ReadAll(*machine.partition, {MatchEverything()})), workload.acknowledged);
  ASSERT_TRUE(workload.Run(machine, 30).ok());
  EXPECT_EQ(ModelOf(ReadAll(*machine.partition, {MatchEverything()})), workload.acknowledged);
}

TEST(PartitionOnDisk, WhatIsWrittenDuringACheckpointIsThereOnceAlsoAfterARestart) {
  constexpr int64_t kStart = 900'000;
  Machine machine(7);
  ASSERT_TRUE(machine.Open().ok());
  uint64_t written = 0;
  for (int checkpoint = 0; checkpoint < 12; ++checkpoint) {
    const int64_t begin = kStart + checkpoint * 400;
    machine.clock.SetWall(begin);
    machine.partition->BeginCheckpoint();
    Status finished;
    std::thread checkpointer([&] { finished = machine.partition->RunCheckpoint(); });
    for (int i = 0; i < 40; ++i) {
      BatchBuilder batch;
      // Every time a new series, some that go on, and late samples, which the checkpoint would move to a block.
      batch.Float(LabelsOf("new", std::to_string(begin + i)), begin + i, i);
      for (int s = 0; s < 3; ++s) batch.Float(LabelsOf("m", std::to_string(s)), begin + i * 10, i);
      if (checkpoint > 0) batch.Float(LabelsOf("m", "0"), begin - 397 + i * 10, i);
      storage::WriteOutcome outcome;
      EXPECT_TRUE(machine.Write(batch, &outcome).ok());
      written += outcome.floats_written;
    }
    checkpointer.join();
    ASSERT_TRUE(finished.ok()) << finished.ToString();
  }
  EXPECT_GT(CountBlocks(machine), 0u);
  EXPECT_EQ(written, 12u * 40 * 5 - 40);
  const Model before = ModelOf(ReadAll(*machine.partition, {MatchEverything()}));
  uint64_t found = 0;
  for (const auto& [labels, samples] : before) found += samples.size();
  EXPECT_EQ(found, written);
  machine.Close();
  machine.files.ProcessDeath();
  ASSERT_TRUE(machine.Open().ok());
  EXPECT_EQ(ModelOf(ReadAll(*machine.partition, {MatchEverything()})), before);
}

TEST(PartitionOnDisk, ResendingEverythingAfterARestartDoublesNothing) {
  Machine machine(2);
  ASSERT_TRUE(machine.Open().ok());
  std::vector<BatchBuilder> sent;
  for (int i = 0; i < 40; ++i) {
    BatchBuilder batch;
    for (int s = 0; s < 3; ++s) batch.Float(LabelsOf("m", std::to_string(s)), 900'000 + i * 100, i);
    storage::WriteOutcome outcome;
    ASSERT_TRUE(machine.Write(batch, &outcome).ok());
    sent.push_back(batch);
    if (i == 25) ASSERT_TRUE(machine.partition->Checkpoint().ok());
  }
  EXPECT_GT(CountBlocks(machine), 0u);
  PartitionOptions options = SmallOptions();
  options.out_of_order_window_ms = 100'000;
  ASSERT_TRUE(machine.Open(options).ok());
  const Model before = ModelOf(ReadAll(*machine.partition, {MatchEverything()}));
  for (BatchBuilder& batch : sent) {
    for (auto& series : batch.batch.series) series.ref = SeriesRef(0);
    storage::WriteOutcome outcome;
    ASSERT_TRUE(machine.Write(batch, &outcome).ok());
    EXPECT_EQ(outcome.rejected, 0u);
    EXPECT_EQ(outcome.floats_written, 3u);
  }
  EXPECT_EQ(machine.partition->Stats().samples_duplicate, 120u);
  EXPECT_EQ(ModelOf(ReadAll(*machine.partition, {MatchEverything()})), before);
  BatchBuilder other;
  other.Float(LabelsOf("m", "0"), 900'000, 77);
  storage::WriteOutcome outcome;
  ASSERT_TRUE(machine.Write(other, &outcome).ok());
  ASSERT_EQ(outcome.rejections.size(), 1u) << "another value at the time of a sample that is in a block";
  EXPECT_EQ(outcome.rejections[0].reason.code(), StatusCode::kAlreadyExists);
}

TEST(PartitionOnDisk, AWriteThatTheLogRefusesGivesNoRefsAway) {
  Machine machine(10);
  ASSERT_TRUE(machine.Open().ok());
  BatchBuilder refused;
  refused.Float(LabelsOf("refused"), 1000, 1);
  machine.files.FailNext(env::SimFileSystem::Operation::kAppend, ResourceExhausted("the disk is full"));
  storage::WriteOutcome outcome;
  EXPECT_EQ(machine.Write(refused, &outcome).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(refused.batch.series[0].ref, SeriesRef(0));
  EXPECT_EQ(ReadAll(*machine.partition, {MatchEverything()}).size(), 0u);
  BatchBuilder other;
  other.Float(LabelsOf("other"), 1000, 2);
  ASSERT_TRUE(machine.Write(other, &outcome).ok());
  ASSERT_TRUE(machine.Write(refused, &outcome).ok());
  const auto all = ReadAll(*machine.partition, {MatchEverything()});
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[1].labels, LabelsOf("refused"));
  EXPECT_THAT(all[1].samples.values, ElementsAre(1));
}

TEST(PartitionOnDisk, RefsStayTheSameAfterARestartAndAreNeverGivenAgain) {
  Machine machine(3);
  ASSERT_TRUE(machine.Open().ok());
  BatchBuilder first;
  first.Float(LabelsOf("a"), 1000, 1).Float(LabelsOf("b"), 1000, 1);
  storage::WriteOutcome outcome;
  ASSERT_TRUE(machine.Write(first, &outcome).ok());
  ASSERT_TRUE(machine.partition->Checkpoint().ok());
  BatchBuilder second;
  second.Float(LabelsOf("c"), 1000, 1);
  ASSERT_TRUE(machine.Write(second, &outcome).ok());
  ASSERT_TRUE(machine.Open().ok());
  BatchBuilder third;
  third.Float(LabelsOf("d"), 1000, 1).Float(LabelsOf("a"), 2000, 1).Float(LabelsOf("c"), 2000, 1);
  ASSERT_TRUE(machine.Write(third, &outcome).ok());
  EXPECT_EQ(third.batch.series[0].ref, SeriesRef(4));
  EXPECT_EQ(third.batch.series[1].ref, SeriesRef(1));
  EXPECT_EQ(third.batch.series[2].ref, SeriesRef(3));
}

TEST(PartitionOnDisk, ASilentSeriesLeavesTheHeadAndComesBackWithANewRef) {
  Machine machine(4);
  ASSERT_TRUE(machine.Open().ok());
  BatchBuilder old;
  old.Float(LabelsOf("old"), 1000, 1);
  storage::WriteOutcome outcome;
  ASSERT_TRUE(machine.Write(old, &outcome).ok());
  BatchBuilder now;
  now.Float(LabelsOf("now"), 100'000, 1);
  ASSERT_TRUE(machine.Write(now, &outcome).ok());
  ASSERT_TRUE(machine.partition->Checkpoint().ok());
  EXPECT_EQ(machine.partition->Stats().series, 1u);
  EXPECT_EQ(ReadAll(*machine.partition, {MatchEverything()}).size(), 2u);
  // Its ref is unknown now; without labels nothing is written.
  storage::WriteBatch by_ref;
  by_ref.series = {{old.batch.series[0].ref, {}}};
  by_ref.floats.series = {0};
  by_ref.floats.timestamps = {100'001};
  by_ref.floats.values = {2};
  ASSERT_TRUE(machine.partition->Write(by_ref, &outcome).ok());
  EXPECT_THAT(outcome.unknown_series, ElementsAre(0));
  by_ref.series[0].labels = LabelsOf("old");
  ASSERT_TRUE(machine.partition->Write(by_ref, &outcome).ok());
  EXPECT_EQ(by_ref.series[0].ref, SeriesRef(3));
  // Also when a crash brings the old head back before the new ref's record.
  ASSERT_TRUE(machine.Open().ok());
  const auto all = ReadAll(*machine.partition, {testing::Match(model::MatchType::kEqual, "__name__", "old")});
  ASSERT_EQ(all.size(), 1u);
  EXPECT_THAT(all[0].samples.timestamps, ElementsAre(1000, 100'001));
}

TEST(PartitionOnDisk, MetadataAndHintsSurviveARestart) {
  Machine machine(5);
  ASSERT_TRUE(machine.Open().ok());
  BatchBuilder batch;
  batch.batch.metadata = {{"m", "counter", "help", "bytes"}};
  for (int i = 0; i < 3; ++i) batch.Histogram(LabelsOf("h"), 1000 + i, testing::SomeHistogram(i + 1));
  storage::WriteOutcome outcome;
  ASSERT_TRUE(machine.Write(batch, &outcome).ok());
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(machine.Open().ok());
    EXPECT_EQ(machine.partition->Metadata(TenantId(0), "m", 0).at(0).unit, "bytes");
    const auto all = ReadAll(*machine.partition, {MatchEverything()});
    ASSERT_EQ(all[0].samples.histograms.size(), 3u);
    EXPECT_EQ(all[0].samples.histograms[0]->counter_reset_hint, model::CounterResetHint::kUnknown);
    EXPECT_EQ(all[0].samples.histograms[2]->counter_reset_hint, model::CounterResetHint::kNotReset);
    ASSERT_TRUE(machine.partition->Checkpoint().ok());
  }
}

TEST(PartitionOnDisk, RetentionDropsWholeBlocks) {
  Machine machine(6);
  PartitionOptions options = SmallOptions();
  options.retention_ms = 10'000;
  machine.clock.SetWall(10'000);
  ASSERT_TRUE(machine.Open(options).ok());
  storage::WriteOutcome outcome;
  BatchBuilder batch;
  for (int i = 0; i < 20; ++i) batch.Float(LabelsOf("m"), i * 1000, i);
  ASSERT_TRUE(machine.Write(batch, &outcome).ok());
  machine.clock.SetWall(20'000);
  ASSERT_TRUE(machine.partition->Checkpoint().ok());
  const uint64_t before = CountBlocks(machine);
  ASSERT_TRUE(machine.partition->DropExpiredBlocks().ok());
  EXPECT_LT(CountBlocks(machine), before);
  const auto times = ReadAll(*machine.partition, {MatchEverything()})[0].samples.timestamps;
  // The block that holds 6 to 12 seconds reaches into the retention, so it stays whole.
  EXPECT_EQ(times.front(), 6'000);
  EXPECT_EQ(times.back(), 19'000);
  ASSERT_TRUE(machine.Open(options).ok());
  EXPECT_EQ(ReadAll(*machine.partition, {MatchEverything()})[0].samples.timestamps, times);
}

TEST(PartitionOnDisk, SampleThatTheRetentionWouldDropIsRefused) {
  Machine machine(6);
  PartitionOptions options = SmallOptions();
  options.retention_ms = 10'000;
  machine.clock.SetWall(100'000);
  ASSERT_TRUE(machine.Open(options).ok());
  storage::WriteOutcome outcome;
  BatchBuilder batch;
  for (const int64_t time : {1'000, 89'999, 90'000, 99'000}) batch.Float(LabelsOf("m"), time, 1);
  ASSERT_TRUE(machine.Write(batch, &outcome).ok());
  ASSERT_EQ(outcome.rejections.size(), 2u);
  EXPECT_EQ(outcome.rejections[1].reason.code(), StatusCode::kOutOfRange);
  EXPECT_EQ(outcome.rejections[1].reason.message(),
            "too old sample: timestamp 89999 is before 90000, where the retention begins");
  EXPECT_EQ(ReadAll(*machine.partition, {MatchEverything()})[0].samples.timestamps,
            (std::vector<TimestampMs>{90'000, 99'000}));
}

TEST(PartitionOnDisk, AnImportOfYearsMakesAFewBlocks) {
  Machine machine(7);
  ASSERT_TRUE(machine.Open().ok());
  storage::WriteOutcome outcome;
  BatchBuilder batch;
  for (int64_t i = 0; i < 1000; ++i) batch.Float(LabelsOf("m"), i * 86'400'000 - 40'000'000'000, 1);
  ASSERT_TRUE(machine.Write(batch, &outcome).ok());
  machine.clock.SetWall(1'000 * int64_t{86'400'000});
  ASSERT_TRUE(machine.partition->Checkpoint().ok());
  EXPECT_LE(CountBlocks(machine), 17u);
  EXPECT_EQ(ReadAll(*machine.partition, {MatchEverything()})[0].samples.timestamps.size(), 1000u);
}

TEST(PartitionOnDisk, ASampleFromTheFutureDoesNotEmptyTheHead) {
  Machine machine(8);
  ASSERT_TRUE(machine.Open().ok());
  machine.clock.SetWall(10'000);
  storage::WriteOutcome outcome;
  BatchBuilder batch;
  batch.Float(LabelsOf("now"), 9'900, 1).Float(LabelsOf("future"), INT64_MAX, 1);
  ASSERT_TRUE(machine.Write(batch, &outcome).ok());
  ASSERT_TRUE(machine.partition->Checkpoint().ok());
  EXPECT_EQ(CountBlocks(machine), 0u);
}

TEST(PartitionOnDisk, AFullDiskRefusesWritesAndLosesNothing) {
  Machine machine(9);
  ASSERT_TRUE(machine.Open().ok());
  Workload workload(9);
  ASSERT_TRUE(workload.Run(machine, 20).ok());
  machine.files.SetCapacity(machine.files.used_bytes() + 100);
  EXPECT_EQ(machine.partition->Checkpoint().code(), StatusCode::kResourceExhausted);
  BatchBuilder batch;
  for (int i = 0; i < 100; ++i) batch.Float(LabelsOf("big", std::to_string(i)), 500'000, i);
  storage::WriteOutcome outcome;
  EXPECT_EQ(machine.Write(batch, &outcome).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(ModelOf(ReadAll(*machine.partition, {MatchEverything()})), workload.acknowledged);
  machine.files.SetCapacity(UINT64_MAX);
  EXPECT_TRUE(machine.Write(batch, &outcome).ok()) << "there is room again";
  EXPECT_EQ(outcome.floats_written, 100u);
  EXPECT_TRUE(machine.partition->Checkpoint().ok());
  ASSERT_TRUE(machine.Open().ok());
  EXPECT_EQ(ReadAll(*machine.partition, {MatchEverything()}).size(), workload.acknowledged.size() + 100);
}

// A partition with one block of two series and nothing else, and where its files are.
struct OneBlock {
  OneBlock() : machine(300) {
    EXPECT_TRUE(machine.Open().ok());
    storage::WriteOutcome outcome;
    BatchBuilder batch;
    for (int i = 0; i < 8; ++i) {
      batch.Float(LabelsOf("a"), 1000 + i, i);
      batch.Float(LabelsOf("b"), 1000 + i, i * 1.1);
    }
    batch.Float(LabelsOf("now"), 900'000, 1);
    EXPECT_TRUE(machine.Write(batch, &outcome).ok());
    EXPECT_TRUE(machine.partition->Checkpoint().ok());
    EXPECT_EQ(machine.partition->Stats().blocks, 1u);
    machine.Close();
    for (const auto& entry : machine.List(kFolder)) {
      if (entry.name.starts_with(kBlockPrefix)) folder = env::JoinPath(kFolder, entry.name);
    }
  }

  Machine machine;
  std::string folder;
};

TEST(PartitionOnDisk, EveryCorruptByteOfABlockIsNamedAndTheRestStaysReadable) {
  OneBlock block;
  for (const char* name : {"meta", "index", "chunks"}) {
    const std::string path = env::JoinPath(block.folder, name);
    const std::string good = *block.machine.files.Contents(path);
    for (size_t at = 0; at < good.size(); ++at) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ 0x10);
      ASSERT_TRUE(block.machine.files.Overwrite(path, bad).ok());
      ASSERT_TRUE(block.machine.Open().ok()) << path << " at " << at;
      const Partition& partition = *block.machine.partition;
      const auto all = testing::TryReadAll(partition, {MatchEverything()});
      ASSERT_FALSE(all.ok()) << path << " at " << at;
      EXPECT_EQ(all.status().code(), StatusCode::kDataLoss);
      EXPECT_THAT(std::string(all.status().message()), HasSubstr(path)) << at;
      EXPECT_THAT(std::string(all.status().message()), HasSubstr("byte")) << at;
      EXPECT_EQ(ReadAll(partition, {MatchEverything()}, {800'000, 1'000'000}).size(), 1u) << path << " at " << at;
      block.machine.Close();
    }
    ASSERT_TRUE(block.machine.files.Overwrite(path, good).ok());
  }
  // One series' chunk alone.
  const std::string path = env::JoinPath(block.folder, "chunks");
  std::string bad = *block.machine.files.Contents(path);
  bad.back() = static_cast<char>(bad.back() ^ 1);
  ASSERT_TRUE(block.machine.files.Overwrite(path, bad).ok());
  ASSERT_TRUE(block.machine.Open().ok());
  const auto match = [](const char* value) {
    return std::vector<model::Matcher>{testing::Match(model::MatchType::kEqual, "__name__", value)};
  };
  EXPECT_EQ(ReadAll(*block.machine.partition, match("a")).size(), 1u);
  EXPECT_FALSE(testing::TryReadAll(*block.machine.partition, match("b")).ok());
}

TEST(PartitionOnDisk, AMissingFileOfABlockIsNamed) {
  for (const char* name : {"meta", "index", "chunks"}) {
    OneBlock block;
    ASSERT_TRUE(block.machine.files.Remove(env::JoinPath(block.folder, name)).ok());
    ASSERT_TRUE(block.machine.Open().ok());
    const auto all = testing::TryReadAll(*block.machine.partition, {MatchEverything()});
    ASSERT_FALSE(all.ok());
    EXPECT_EQ(all.status().code(), StatusCode::kDataLoss);
    EXPECT_THAT(std::string(all.status().message()), HasSubstr(name));
  }
}

TEST(PartitionOnDisk, ACorruptNewestSnapshotCostsNothingAndTwoAreAnError) {
  Machine machine(400);
  ASSERT_TRUE(machine.Open().ok());
  Workload workload(400);
  ASSERT_TRUE(workload.Run(machine, 60).ok());
  machine.Close();
  std::vector<std::string> snapshots;
  for (const auto& entry : machine.List(kFolder)) {
    if (entry.name.starts_with("head-")) snapshots.push_back(env::JoinPath(kFolder, entry.name));
  }
  ASSERT_EQ(snapshots.size(), 2u);
  std::string bytes = *machine.files.Contents(snapshots[1]);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
  ASSERT_TRUE(machine.files.Overwrite(snapshots[1], bytes).ok());
  ASSERT_TRUE(machine.Open().ok());
  EXPECT_EQ(ModelOf(ReadAll(*machine.partition, {MatchEverything()})), workload.acknowledged);
  machine.Close();
  bytes = *machine.files.Contents(snapshots[0]);
  ASSERT_TRUE(machine.files.Overwrite(snapshots[0], bytes.substr(0, bytes.size() - 1)).ok());
  const Status opened = machine.Open();
  EXPECT_EQ(opened.code(), StatusCode::kDataLoss);
  EXPECT_THAT(std::string(opened.message()), HasSubstr(snapshots[1]));
}

TEST(PartitionOnDisk, ALogThatEndsBeforeTheSnapshotIsAnError) {
  Machine machine(500);
  ASSERT_TRUE(machine.Open().ok());
  Workload workload(500);
  ASSERT_TRUE(workload.Run(machine, 20).ok());
  machine.Close();
  for (const auto& entry : machine.List(kLogFolder)) {
    ASSERT_TRUE(machine.files.Remove(env::JoinPath(kLogFolder, entry.name)).ok());
  }
  EXPECT_EQ(machine.Open().code(), StatusCode::kDataLoss);
}

TEST(PartitionOnDisk, SmallBlocksBecomeLargeOnesWithTheSameSamplesEachOnce) {
  Machine machine(700);
  ASSERT_TRUE(machine.Open().ok());
  Workload workload(700);
  ASSERT_TRUE(workload.Run(machine, 250).ok());
  // Of more than 90 seconds with block ranges of one: most of it stands in one block of 84.
  EXPECT_LT(CountBlocks(machine), 25u);
  uint64_t merged = 0;
  for (const auto& entry : machine.List(kFolder)) {
    BlockMeta named;
    if (ParseBlockFolderName(entry.name, &named) && named.max_time - named.min_time > 2000) ++merged;
  }
  EXPECT_GT(merged, 1u);
  EXPECT_EQ(ModelOf(ReadAll(*machine.partition, {MatchEverything()})), workload.acknowledged);
  ASSERT_TRUE(machine.Open().ok());
  EXPECT_EQ(ModelOf(ReadAll(*machine.partition, {MatchEverything()})), workload.acknowledged);
}

TEST(PartitionOnDisk, ReadersMissNothingWhileCheckpointsMoveSamplesToBlocks) {
  Machine machine(600);
  ASSERT_TRUE(machine.Open().ok());
  constexpr int kRounds = 120;
  std::atomic<int> written{0};
  std::atomic<int> failures{0};
  std::vector<std::thread> readers;
  for (int r = 0; r < 2; ++r) {
    readers.emplace_back([&] {
      int before = 0;
      do {
        before = written.load();
        const auto all = testing::TryReadAll(*machine.partition, {MatchEverything()});
        if (!all.ok() || (before > 0 && all->size() != 3)) {
          ++failures;
          continue;
        }
        for (const auto& series : *all) {
          const auto& times = series.samples.timestamps;
          if (times.size() < static_cast<size_t>(before)) ++failures;
          for (size_t i = 0; i < times.size(); ++i) {
            if (times[i] != static_cast<int64_t>(i) * 100) ++failures;
          }
        }
      } while (before < kRounds);
    });
  }
  for (int i = 0; i < kRounds; ++i) {
    BatchBuilder batch;
    for (int s = 0; s < 3; ++s) batch.Float(LabelsOf("m", std::to_string(s)), i * 100, i);
    storage::WriteOutcome outcome;
    EXPECT_TRUE(machine.Write(batch, &outcome).ok());
    written.store(i + 1);
    if (i % 10 == 9) EXPECT_TRUE(machine.partition->Checkpoint().ok());
  }
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(failures.load(), 0);
  EXPECT_GT(CountBlocks(machine), 3u);
}

}  // namespace
}  // namespace millstream::tsdb

// A partition on a simulated disk and a workload that knows what must survive.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "millstream/env/env.h"
#include "millstream/env/sim_clock.h"
#include "millstream/env/sim_file_system.h"
#include "millstream/log/local_log.h"
#include "millstream/tsdb/partition.h"
#include "tsdb_testing.h"

namespace millstream::tsdb::testing {

inline constexpr char kLogFolder[] = "/log";
inline constexpr char kFolder[] = "/tsdb";

inline PartitionOptions SmallOptions() {
  PartitionOptions options;
  options.block_range_ms = 1000;
  options.out_of_order_window_ms = 1500;
  options.float_chunk_samples_max = 8;
  options.histogram_chunk_samples_max = 4;
  return options;
}

// A machine with a partition and its log on a simulated disk.
class Machine {
 public:
  explicit Machine(uint64_t seed, storage::Durability durability = storage::Durability::kFsync)
      : files(seed), clock(1'000'000'000), random_(seed), durability_(durability) {
    EXPECT_TRUE(files.MakeFolder(kLogFolder).ok());
    EXPECT_TRUE(files.SyncFolder("/").ok());
  }

  Status Open(const PartitionOptions& options = SmallOptions()) {
    partition.reset();
    log.reset();
    log::LocalLogOptions log_options;
    log_options.durability = durability_;
    log_options.segment_bytes = log::kSegmentBytesMin;
    log_options.sync_thread = false;
    const env::Env env{&clock, &random_, &files, env::SystemEnv().executor};
    MS_ASSIGN_OR_RETURN(log, log::LocalLog::Open(env, kLogFolder, log_options));
    MS_ASSIGN_OR_RETURN(partition, Partition::Open(options, files, clock, kFolder, log.get()));
    return Status::Ok();
  }
  void Close() {
    partition.reset();
    log.reset();
  }

  // OK when the write is acknowledged.
  Status Write(BatchBuilder& builder, storage::WriteOutcome* outcome) {
    MS_ASSIGN_OR_RETURN(const auto offset, partition->Write(builder.batch, outcome));
    return offset.has_value() ? log->WaitDurable(*offset) : Status::Ok();
  }

  std::vector<env::FolderEntry> List(const std::string& path) { return files.List(path).value(); }

  env::SimFileSystem files;
  env::SimClock clock;
  std::unique_ptr<log::LocalLog> log;
  std::unique_ptr<Partition> partition;

 private:
  env::SeededRandom random_;
  const storage::Durability durability_;
};

// A fixed sequence of writes and checkpoints, and what is known of its samples.
class Workload {
 public:
  explicit Workload(uint64_t seed) : random_(seed) {}

  // Runs `rounds` rounds or up to the first error.
  Status Run(Machine& machine, int rounds) {
    bool begun = false;
    for (int round = 0; round < rounds; ++round) {
      BatchBuilder batch;
      Model offered;
      for (uint64_t k = random_() % 12 + 1; k > 0; --k) AddSample(&batch, &offered);
      storage::WriteOutcome outcome;
      const Status status = machine.Write(batch, &outcome);
      Merge(offered, &attempted);
      MS_RETURN_IF_ERROR(status);
      EXPECT_EQ(outcome.rejected, 0u);
      EXPECT_THAT(outcome.unknown_series, ::testing::IsEmpty());
      Merge(offered, &acknowledged);
      // By turns in one step, and in two with a write between them.
      if (begun) MS_RETURN_IF_ERROR(machine.partition->RunCheckpoint());
      begun = round % 14 == 6;
      if (begun) machine.partition->BeginCheckpoint();
      if (round % 14 == 13) MS_RETURN_IF_ERROR(machine.partition->Checkpoint());
      machine.clock.SetWall(now_);
    }
    return Status::Ok();
  }

  Model attempted;     // acknowledged, and what was under way
  Model acknowledged;  // must be there

 private:
  void AddSample(BatchBuilder* batch, Model* offered) {
    const auto labels = LabelsOf("m" + std::to_string(random_() % 4), std::to_string(now_ / 3000));
    now_ += static_cast<int64_t>(random_() % 120);
    // Old ones are distinct from new ones by their last digit, so that no two collide.
    const bool late = random_() % 4 == 0;
    const int64_t time = (now_ / 10 - (late ? static_cast<int64_t>(random_() % 100) : 0)) * 10 + (late ? 5 : 0);
    if (!used_[std::string(labels.encoded())].insert(time).second) return;
    ModelSample sample;
    if (random_() % 4 == 0) {
      auto histogram = SomeHistogram(static_cast<double>(random_() % 10));
      sample.histogram = std::make_shared<model::Histogram>(histogram);
      batch->Histogram(labels, time, histogram);
    } else {
      const double value = RandomValue(random_);
      sample.bits = std::bit_cast<uint64_t>(value);
      batch->Float(labels, time, value);
    }
    (*offered)[std::string(labels.encoded())].emplace(time, sample);
  }
  static void Merge(const Model& from, Model* into) {
    for (const auto& [key, samples] : from) (*into)[key].insert(samples.begin(), samples.end());
  }

  std::mt19937_64 random_;
  int64_t now_ = 10'000;
  std::map<std::string, std::set<int64_t>> used_;
};

inline void ExpectBetween(const Model& found, const Model& least, const Model& most, const std::string& where) {
  for (const auto& [key, samples] : least) {
    const auto series = found.find(key);
    ASSERT_TRUE(series != found.end()) << where << ": a series is lost";
    for (const auto& [time, sample] : samples) {
      const auto at = series->second.find(time);
      ASSERT_TRUE(at != series->second.end()) << where << ": the sample at " << time << " is lost";
      ASSERT_TRUE(at->second == sample) << where << ": the sample at " << time << " has changed";
    }
  }
  for (const auto& [key, samples] : found) {
    const auto series = most.find(key);
    ASSERT_TRUE(series != most.end()) << where << ": a series nobody wrote";
    for (const auto& [time, sample] : samples) {
      const auto at = series->second.find(time);
      ASSERT_TRUE(at != series->second.end() && at->second == sample) << where << ": nobody wrote " << time;
    }
  }
}

inline uint64_t CountBlocks(Machine& machine) {
  return machine.partition->Stats().blocks;
}

}  // namespace millstream::tsdb::testing

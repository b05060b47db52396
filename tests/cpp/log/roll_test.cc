// Rolls that the writer leaves to be finished: what is there meanwhile, what a crash makes of it, and what fails.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../env/temp_folder.h"
#include "log_fixture.h"
#include "millstream/env/file_util.h"
#include "millstream/log/local_log.h"
#include "millstream/log/roll_queue.h"

namespace millstream::log {
namespace {

using env::SimFileSystem;
using storage::Durability;
using Operation = SimFileSystem::Operation;

// A log at the durability `process` whose rolls nobody finishes by himself.
struct Rolling {
  explicit Rolling(uint64_t seed) : machine(seed) {
    machine.LeaveRolls();
    Open();
  }
  void Open() {
    auto opened = machine.Open(Durability::kProcess);
    ASSERT_TRUE(opened.ok()) << opened.status().ToString();
    log = std::move(*opened);
  }
  Status Append() { return AppendOne(*log, Payload(log->end().value())).status(); }
  // Until the next segment has `count` records and its roll is unfinished.
  void AppendUntilRolled(uint64_t count = 3) {
    while (machine.NextPaths().empty()) ASSERT_TRUE(Append().ok());
    for (uint64_t i = 1; i < count; ++i) ASSERT_TRUE(Append().ok());
    ASSERT_EQ(machine.NextPaths().size(), 1U);
  }

  SimMachine machine;
  std::unique_ptr<LocalLog> log;
};

TEST(SegmentName, OfANextSegmentReadsBackAndNothingElseDoes) {
  EXPECT_EQ(NextSegmentName(Offset(1234)), "00000000000000001234.next");
  EXPECT_EQ(ParseNextSegmentName("00000000000000001234.next"), Offset(1234));
  EXPECT_EQ(ParseSegmentName("00000000000000001234.next"), std::nullopt);
  for (const std::string other : {"00000000000000001234.log", "1234.next", "0000000000000000123x.next", ".next"}) {
    EXPECT_EQ(ParseNextSegmentName(other), std::nullopt) << other;
  }
}

TEST(Roll, TheWriterWaitsForNoSync) {
  Rolling rolling(1);
  const auto syncs = [&] {
    return rolling.machine.files.operations(Operation::kSync) +
           rolling.machine.files.operations(Operation::kSyncFolder);
  };
  const uint64_t before = syncs();
  rolling.AppendUntilRolled();
  EXPECT_EQ(syncs(), before);
  EXPECT_EQ(rolling.machine.SegmentPaths().size(), 1U);
  EXPECT_EQ(rolling.log->Spans().size(), 2U);
  EXPECT_TRUE(rolling.machine.rolls->FinishOne());
  EXPECT_FALSE(rolling.machine.rolls->FinishOne());
  EXPECT_GT(syncs(), before);
  EXPECT_EQ(rolling.machine.SegmentPaths().size(), 2U);
  EXPECT_TRUE(rolling.machine.NextPaths().empty());
}

TEST(Roll, TheSegmentBeforeIsWholeAndPaddedThoughItsLastAppendFailed) {
  Rolling rolling(1);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(rolling.Append().ok());
  // Bytes of it stay behind, for now.
  rolling.machine.files.FailNext(Operation::kAppend, Internal("input/output error"));
  rolling.machine.files.FailNext(Operation::kTruncate, Internal("input/output error"));
  ASSERT_FALSE(rolling.Append().ok());
  rolling.machine.files.FailNext(Operation::kRename, ResourceExhausted("no space left"));
  ASSERT_EQ(rolling.log->Seal().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(rolling.machine.files.Contents(rolling.machine.SegmentPaths()[0])->size() % kSectorBytes, 0U);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(rolling.Append().ok());
  EXPECT_EQ(MustReadAll(*rolling.log), Payloads(0, 10));
  rolling.machine.files.ProcessDeath();
  rolling.log = nullptr;
  rolling.Open();
  EXPECT_FALSE(rolling.log->recovery().tail_was_cut);
  EXPECT_EQ(MustReadAll(*rolling.log), Payloads(0, 10));
}

TEST(Roll, WhatARefusedAppendLeftIsInNoSegmentThatIsClosedWhoeverWaitsForTheDisk) {
  for (const bool cut_fails : {false, true}) {
    // The process dies, or by several seeds the power is cut.
    for (uint64_t seed = 0; seed < 20; ++seed) {
      SimMachine machine(seed);
      auto log = *machine.Open(Durability::kFsync);
      for (uint64_t i = 0; i < 5; ++i) ASSERT_TRUE(AppendOne(*log, Payload(i)).ok());
      ASSERT_TRUE(log->Sync().ok());
      machine.files.FailNext(Operation::kAppend, Internal("input/output error"));
      if (cut_fails) machine.files.FailNext(Operation::kTruncate, Internal("input/output error"));
      ASSERT_FALSE(AppendOne(*log, Payload(5)).ok());
      ASSERT_TRUE(log->Seal().ok());
      for (uint64_t i = 5; i < 10; ++i) ASSERT_TRUE(AppendOne(*log, Payload(i)).ok());
      ASSERT_TRUE(log->Sync().ok());
      if (seed > 0) {
        machine.files.PowerCut();
      } else {
        machine.files.ProcessDeath();
      }
      log = nullptr;
      log = *machine.Open(Durability::kFsync);
      EXPECT_EQ(MustReadAll(*log), Payloads(0, 10)) << cut_fails << " seed " << seed;
    }
  }
}

TEST(Roll, ASecondOneFinishesTheFirst) {
  Rolling rolling(1);
  rolling.AppendUntilRolled();
  const std::string first = rolling.machine.NextPaths()[0];
  while (rolling.machine.NextPaths()[0] == first) {
    ASSERT_TRUE(rolling.Append().ok());
    ASSERT_EQ(rolling.machine.NextPaths().size(), 1U);
  }
  EXPECT_EQ(rolling.machine.SegmentPaths().size(), 2U);
  const uint64_t end = rolling.log->end().value();
  EXPECT_EQ(MustReadAll(*rolling.log), Payloads(0, end));
}

TEST(Roll, WithFsyncTheSegmentBeforeIsOnTheDiskAtOnce) {
  SimMachine machine(1);
  machine.LeaveRolls();
  auto log = *machine.Open(Durability::kFsync);
  while (log->Spans().size() < 3) {
    ASSERT_TRUE(AppendOne(*log, Payload(log->end().value())).ok());
    ASSERT_TRUE(machine.NextPaths().empty());
    ASSERT_EQ(log->closed_end(), log->active_start());
  }
  EXPECT_FALSE(machine.rolls->FinishOne());
}

TEST(Roll, SyncFinishesItSoThatWhatItAnsweredSurvivesAPowerCut) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Rolling rolling(seed);
    rolling.AppendUntilRolled(1 + seed % 5);
    const uint64_t end = rolling.log->end().value();
    ASSERT_TRUE(rolling.log->Sync().ok());
    EXPECT_TRUE(rolling.machine.NextPaths().empty());
    ASSERT_TRUE(rolling.Append().ok());
    rolling.machine.files.PowerCut();
    rolling.log = nullptr;
    rolling.Open();
    ASSERT_GE(rolling.log->end().value(), end) << "seed " << seed;
  }
}

TEST(Roll, SealAndCloseLeaveNothingUnfinished) {
  Rolling rolling(1);
  rolling.AppendUntilRolled();
  ASSERT_TRUE(rolling.log->Seal().ok());
  EXPECT_TRUE(rolling.machine.NextPaths().empty());
  EXPECT_EQ(rolling.log->closed_end(), rolling.log->end());
  rolling.AppendUntilRolled();
  const uint64_t end = rolling.log->end().value();
  ASSERT_TRUE(rolling.log->Close().ok());
  EXPECT_TRUE(rolling.machine.NextPaths().empty());
  EXPECT_FALSE(rolling.machine.rolls->FinishOne());
  rolling.machine.files.PowerCut();
  rolling.log = nullptr;
  rolling.Open();
  EXPECT_FALSE(rolling.log->recovery().tail_was_cut);
  EXPECT_EQ(MustReadAll(*rolling.log), Payloads(0, end));
}

TEST(Roll, ReadersSeeTheNextSegmentUnderBothOfItsNames) {
  Rolling rolling(1);
  const auto early = *rolling.log->Read(Offset(0));
  ASSERT_FALSE((*early->Next()).has_value());
  rolling.AppendUntilRolled();
  const uint64_t end = rolling.log->end().value();
  const uint64_t start = rolling.log->active_start().value();
  // In the middle of the next segment when it is renamed, and before it.
  const auto middle = *rolling.log->Read(Offset(start));
  ASSERT_EQ((*middle->Next())->payload, Payload(start));
  const auto before = *rolling.log->Read(Offset(start - 1));
  EXPECT_EQ(MustReadAll(*rolling.log), Payloads(0, end));
  ASSERT_TRUE(rolling.machine.rolls->FinishOne());
  ASSERT_EQ((*middle->Next())->payload, Payload(start + 1));
  for (uint64_t i = start - 1; i < end; ++i) ASSERT_EQ((*before->Next())->payload, Payload(i));
  for (uint64_t i = 0; i < end; ++i) ASSERT_EQ((*early->Next())->payload, Payload(i));
  EXPECT_EQ(MustReadAll(*rolling.log), Payloads(0, end));
}

TEST(Roll, AReaderFindsAFileThatHasItsNameBeforeTheLogKnows) {
  Rolling rolling(1);
  rolling.AppendUntilRolled();
  const uint64_t end = rolling.log->end().value();
  // The instant between the renaming and its being noted.
  const std::string next = rolling.machine.NextPaths()[0];
  const std::string named = std::string(kFolder) + "/" + SegmentName(rolling.log->active_start());
  ASSERT_TRUE(rolling.machine.files.Rename(next, named).ok());
  EXPECT_EQ(MustReadAll(*rolling.log), Payloads(0, end));
  ASSERT_TRUE(rolling.machine.files.Rename(named, next).ok());
}

TEST(Roll, WhatIsNotYetOnTheDiskIsNotClosedAndNotRewritten) {
  Rolling rolling(1);
  rolling.AppendUntilRolled();
  const Offset start = rolling.log->active_start();
  const RecordEditor keep = [](const storage::LogRecord& record) -> Result<std::optional<std::string_view>> {
    return std::optional(record.payload);
  };
  EXPECT_EQ(rolling.log->closed_end(), Offset(0));
  EXPECT_FALSE(rolling.log->Spans()[0].is_closed);
  EXPECT_EQ(rolling.log->Rewrite(Offset(0), start, keep).status().code(), StatusCode::kNotFound);
  ASSERT_TRUE(rolling.machine.rolls->FinishOne());
  EXPECT_EQ(rolling.log->closed_end(), start);
  EXPECT_TRUE(rolling.log->Spans()[0].is_closed);
  EXPECT_TRUE(rolling.log->Rewrite(Offset(0), start, keep).ok());
}

TEST(Roll, RemovingTheSegmentBeforeFinishesItFirst) {
  for (const bool power_cut : {false, true}) {
    Rolling rolling(1);
    rolling.AppendUntilRolled();
    const Offset start = rolling.log->active_start();
    const uint64_t end = rolling.log->end().value();
    ASSERT_TRUE(rolling.log->TruncateBefore(start).ok());
    EXPECT_EQ(rolling.log->start(), start);
    if (power_cut) {
      rolling.machine.files.PowerCut();
    } else {
      rolling.machine.files.ProcessDeath();
    }
    rolling.log = nullptr;
    rolling.Open();
    EXPECT_EQ(rolling.log->start(), start);
    if (!power_cut) EXPECT_EQ(MustReadAll(*rolling.log, start), Payloads(start.value(), end));
  }
}

// --- crashes ---

// Rolls several times; after each `pause` appends what is unfinished is finished, after each `sync` all is synced.
void RunUntilDown(Rolling& rolling, uint64_t pause, uint64_t sync, uint64_t* tried, uint64_t* appended,
                  uint64_t* synced) {
  for (uint64_t i = 1; i <= 150; ++i) {
    *tried = i;
    if (!rolling.Append().ok()) return;
    *appended = i;
    if (i % pause == 0) rolling.machine.rolls->FinishOne();
    if (i % sync == 0 && !rolling.log->Sync().ok()) return;
    if (i % sync == 0) *synced = i;
  }
}

TEST(Roll, ADyingProcessLosesNothingAtAnyOperation) {
  uint64_t kept = 0;
  for (const uint64_t pause : {1, 7, 1000}) {
    bool crashed = true;
    for (uint64_t at = 1; crashed; ++at) {
      Rolling rolling(at);
      rolling.machine.files.CrashAt(rolling.machine.files.operations() + at);
      uint64_t tried = 0;
      uint64_t appended = 0;
      uint64_t synced = 0;
      RunUntilDown(rolling, pause, 1000, &tried, &appended, &synced);
      crashed = rolling.machine.files.crashed();
      rolling.machine.files.ProcessDeath();
      rolling.log = nullptr;
      kept += rolling.machine.NextPaths().size();
      rolling.Open();
      ASSERT_GE(rolling.log->end().value(), appended) << "crash at " << at;
      ASSERT_EQ(MustReadAll(*rolling.log), Payloads(0, rolling.log->end().value())) << "crash at " << at;
      ASSERT_TRUE(rolling.machine.NextPaths().empty());
      // And again, and after that the power goes.
      ASSERT_TRUE(rolling.Append().ok());
      const uint64_t end = rolling.log->end().value();
      ASSERT_TRUE(rolling.log->Close().ok());
      rolling.machine.files.PowerCut();
      rolling.Open();
      ASSERT_EQ(MustReadAll(*rolling.log), Payloads(0, end)) << "crash at " << at;
    }
  }
  EXPECT_GT(kept, 10U);
}

TEST(Roll, APowerCutAtAnyOperationLeavesAPrefixThatHasAllThatWasSynced) {
  uint64_t kept = 0;
  uint64_t dropped = 0;
  for (const uint64_t pause : {3, 7, 1000}) {
    for (const uint64_t sync : {40, 1000}) {
      bool crashed = true;
      for (uint64_t at = 1; crashed; ++at) {
        const std::string what = fmt::format("pause {}, sync {}, crash at {}", pause, sync, at);
        Rolling rolling(at * 31 + pause);
        rolling.machine.files.CrashAt(rolling.machine.files.operations() + at);
        uint64_t tried = 0;
        uint64_t appended = 0;
        uint64_t synced = 0;
        RunUntilDown(rolling, pause, sync, &tried, &appended, &synced);
        crashed = rolling.machine.files.crashed();
        rolling.machine.files.PowerCut();
        rolling.log = nullptr;
        const std::vector<std::string> left = rolling.machine.NextPaths();
        const size_t segments = rolling.machine.SegmentPaths().size();
        // Opening is itself interrupted, somewhere.
        rolling.machine.files.CrashAt(rolling.machine.files.operations() + 1 + at % 23);
        (void)rolling.machine.Open(Durability::kProcess);
        rolling.machine.files.PowerCut();
        rolling.Open();
        const uint64_t end = rolling.log->end().value();
        ASSERT_GE(end, synced) << what;
        ASSERT_LE(end, tried) << what;
        ASSERT_EQ(MustReadAll(*rolling.log), Payloads(0, end)) << what;
        ASSERT_TRUE(rolling.machine.NextPaths().empty()) << what;
        const bool has_more = rolling.machine.SegmentPaths().size() > segments;
        kept += !left.empty() && has_more ? 1 : 0;
        dropped += !left.empty() && !has_more ? 1 : 0;
        // What was found stays, and what was not found never comes back.
        for (uint64_t i = 0; i < 30; ++i) ASSERT_TRUE(rolling.Append().ok());
        ASSERT_TRUE(rolling.log->Sync().ok());
        rolling.machine.files.PowerCut();
        rolling.log = nullptr;
        rolling.Open();
        ASSERT_EQ(MustReadAll(*rolling.log), Payloads(0, end + 30)) << what;
      }
    }
  }
  EXPECT_GT(kept, 10U);
  EXPECT_GT(dropped, 10U);
}

TEST(Roll, ANextSegmentBehindATornTailGoesWithItAndTheReportSaysSo) {
  Rolling rolling(1);
  rolling.AppendUntilRolled();
  const std::string next = rolling.machine.NextPaths()[0];
  const std::string before = rolling.machine.SegmentPaths()[0];
  const std::string next_bytes = *rolling.machine.files.Contents(next);
  const std::string bytes = *rolling.machine.files.Contents(before);
  rolling.machine.files.PowerCut();
  rolling.log = nullptr;
  // The power cut kept all but the last sectors of the segment before.
  ASSERT_TRUE(rolling.machine.files.Overwrite(next, next_bytes).ok());
  ASSERT_TRUE(rolling.machine.files.Overwrite(before, bytes.substr(0, bytes.size() / 2)).ok());
  rolling.Open();
  const RecoveryReport& report = rolling.log->recovery();
  EXPECT_TRUE(report.tail_was_cut);
  EXPECT_EQ(report.file, before);
  EXPECT_GE(report.bytes_cut, next_bytes.size());
  EXPECT_NE(report.reason.find(next), std::string::npos) << report.reason;
  EXPECT_TRUE(rolling.machine.NextPaths().empty());
  const uint64_t end = rolling.log->end().value();
  EXPECT_GT(end, 0U);
  EXPECT_EQ(MustReadAll(*rolling.log), Payloads(0, end));
}

TEST(Roll, ANextSegmentWhosePredecessorEndsAtAWholeBatchBeforeItGoesToo) {
  Rolling rolling(1);
  ASSERT_TRUE(rolling.Append().ok());
  // So long as only the first record was on the disk.
  const std::string before = rolling.machine.SegmentPaths()[0];
  const std::string bytes = *rolling.machine.files.Contents(before);
  rolling.AppendUntilRolled();
  const std::string next = rolling.machine.NextPaths()[0];
  const std::string next_bytes = *rolling.machine.files.Contents(next);
  rolling.machine.files.PowerCut();
  rolling.log = nullptr;
  ASSERT_TRUE(rolling.machine.files.Overwrite(next, next_bytes).ok());
  ASSERT_TRUE(rolling.machine.files.Overwrite(before, bytes).ok());
  rolling.Open();
  EXPECT_TRUE(rolling.log->recovery().tail_was_cut);
  EXPECT_EQ(rolling.log->recovery().file, next);
  EXPECT_EQ(rolling.log->recovery().bytes_cut, next_bytes.size());
  EXPECT_EQ(MustReadAll(*rolling.log), Payloads(0, 1));
}

TEST(Roll, AfterAnOrderlyRestartOfTheMachineANextSegmentIsKept) {
  Rolling rolling(1);
  rolling.AppendUntilRolled();
  const uint64_t end = rolling.log->end().value();
  const std::string next = rolling.machine.NextPaths()[0];
  const std::string before = rolling.machine.SegmentPaths()[0];
  const std::string next_bytes = *rolling.machine.files.Contents(next);
  const std::string bytes = *rolling.machine.files.Contents(before);
  rolling.machine.files.PowerCut();
  rolling.log = nullptr;
  ASSERT_TRUE(rolling.machine.files.Overwrite(next, next_bytes).ok());
  ASSERT_TRUE(rolling.machine.files.Overwrite(before, bytes).ok());
  rolling.Open();
  EXPECT_FALSE(rolling.log->recovery().tail_was_cut);
  EXPECT_EQ(MustReadAll(*rolling.log), Payloads(0, end));
}

// --- corruption ---

TEST(Roll, RecordsMissingBeforeANextSegmentAreCorruptionWhileTheMachineHasNotRestarted) {
  Rolling rolling(1);
  rolling.AppendUntilRolled();
  const std::string before = rolling.machine.SegmentPaths()[0];
  const std::string next = rolling.machine.NextPaths()[0];
  const std::string bytes = *rolling.machine.files.Contents(before);
  const std::string next_bytes = *rolling.machine.files.Contents(next);
  rolling.machine.files.ProcessDeath();
  rolling.log = nullptr;
  for (uint64_t size = kSectorBytes; size + kSectorBytes < bytes.size(); size += 611) {
    const std::string cut = bytes.substr(0, size);
    ASSERT_TRUE(rolling.machine.files.Overwrite(before, cut).ok());
    const Status status = rolling.machine.Open(Durability::kProcess).status();
    ASSERT_EQ(status.code(), StatusCode::kDataLoss) << "cut to " << size;
    EXPECT_NE(status.message().find(before), std::string_view::npos) << status.ToString();
    // Evidence.
    ASSERT_EQ(*rolling.machine.files.Contents(before), cut);
    ASSERT_EQ(*rolling.machine.files.Contents(next), next_bytes);
  }
}

TEST(Roll, RecordsMissingBeforeANextSegmentThatSawThemOnTheDiskAreCorruption) {
  Rolling rolling(1);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(rolling.Append().ok());
  ASSERT_TRUE(rolling.log->Sync().ok());
  rolling.AppendUntilRolled();
  const std::string before = rolling.machine.SegmentPaths()[0];
  const std::string next = rolling.machine.NextPaths()[0];
  const std::string bytes = *rolling.machine.files.Contents(before);
  const std::string next_bytes = *rolling.machine.files.Contents(next);
  rolling.machine.files.PowerCut();
  rolling.log = nullptr;
  ASSERT_TRUE(rolling.machine.files.Overwrite(next, next_bytes).ok());
  // The first records had been synced before those in the next segment were written.
  ASSERT_TRUE(rolling.machine.files.Overwrite(before, bytes.substr(0, kSectorBytes)).ok());
  EXPECT_EQ(rolling.machine.Open(Durability::kProcess).status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(*rolling.machine.files.Contents(next), next_bytes);
}

TEST(Roll, AFlippedBitInANextSegmentIsCorruptionWhileTheMachineHasNotRestarted) {
  Rolling rolling(1);
  rolling.AppendUntilRolled(6);
  const std::string before = rolling.machine.SegmentPaths()[0];
  const std::string next = rolling.machine.NextPaths()[0];
  const std::string good = *rolling.machine.files.Contents(next);
  const std::string good_before = *rolling.machine.files.Contents(before);
  rolling.machine.files.ProcessDeath();
  rolling.log = nullptr;
  for (uint64_t position = 0; position < good.size(); position += position < 80 ? 1 : 53) {
    std::string bad = good;
    bad[position] = static_cast<char>(bad[position] ^ 4);
    ASSERT_TRUE(rolling.machine.files.Overwrite(next, bad).ok());
    const Status status = rolling.machine.Open(Durability::kProcess).status();
    ASSERT_EQ(status.code(), StatusCode::kDataLoss) << "byte " << position;
    EXPECT_NE(status.message().find(next), std::string_view::npos) << status.ToString();
    ASSERT_EQ(*rolling.machine.files.Contents(next), bad);
    ASSERT_EQ(*rolling.machine.files.Contents(before), good_before);
  }
}

TEST(Roll, RecordsMissingBeforeANextSegmentWithoutRecordsAreCorruptionToo) {
  Rolling rolling(1);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(rolling.Append().ok());
  rolling.machine.files.FailNext(Operation::kRename, ResourceExhausted("no space left"));
  ASSERT_EQ(rolling.log->Seal().code(), StatusCode::kResourceExhausted);
  rolling.machine.files.ProcessDeath();
  rolling.log = nullptr;
  const std::string before = rolling.machine.SegmentPaths()[0];
  const std::string bytes = *rolling.machine.files.Contents(before);
  // Its end, all of it but the header, and the header, too.
  for (const std::string& broken :
       {bytes.substr(0, bytes.size() / 2), bytes.substr(0, kSectorBytes), std::string(kSectorBytes, 'M')}) {
    ASSERT_TRUE(rolling.machine.files.Overwrite(before, broken).ok());
    EXPECT_EQ(rolling.machine.Open(Durability::kProcess).status().code(), StatusCode::kDataLoss);
    EXPECT_EQ(rolling.machine.NextPaths().size(), 1U);
  }
}

TEST(Roll, ClosingNamesANextSegmentThatHasNoRecords) {
  Rolling rolling(1);
  ASSERT_TRUE(rolling.Append().ok());
  ASSERT_TRUE(rolling.log->Sync().ok());
  rolling.machine.files.FailNext(Operation::kRename, ResourceExhausted("no space left"));
  ASSERT_EQ(rolling.log->Seal().code(), StatusCode::kResourceExhausted);
  ASSERT_EQ(rolling.machine.NextPaths().size(), 1U);
  ASSERT_TRUE(rolling.log->Close().ok());
  EXPECT_TRUE(rolling.machine.NextPaths().empty());
}

TEST(Roll, ANextSegmentThatNothingPrecedesIsDataLoss) {
  Rolling rolling(1);
  rolling.AppendUntilRolled();
  rolling.machine.files.ProcessDeath();
  rolling.log = nullptr;
  const std::string next = rolling.machine.NextPaths()[0];
  const std::string bytes = *rolling.machine.files.Contents(next);
  const std::string other = std::string(kFolder) + "/" + NextSegmentName(Offset(1));
  ASSERT_TRUE(rolling.machine.files.Overwrite(other, bytes).ok());
  EXPECT_EQ(rolling.machine.Open(Durability::kProcess).status().code(), StatusCode::kDataLoss);
  ASSERT_TRUE(rolling.machine.files.Remove(other).ok());
  ASSERT_TRUE(rolling.machine.files.Remove(rolling.machine.SegmentPaths()[0]).ok());
  const Status status = rolling.machine.Open(Durability::kProcess).status();
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_NE(status.message().find(next), std::string_view::npos) << status.ToString();
}

TEST(Roll, ANextSegmentThatWasNotFinishedWhenItWasMadeGoes) {
  for (const uint64_t size :
       {uint64_t{0}, uint64_t{1}, kSegmentHeaderBytes - 1, kSegmentHeaderBytes + 1, kSectorBytes}) {
    Rolling rolling(1);
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(rolling.Append().ok());
    rolling.machine.files.ProcessDeath();
    rolling.log = nullptr;
    const std::string next = std::string(kFolder) + "/" + NextSegmentName(Offset(3));
    ASSERT_TRUE(rolling.machine.files.Overwrite(next, std::string(size, 'M')).ok());
    rolling.Open();
    EXPECT_TRUE(rolling.log->recovery().tail_was_cut);
    EXPECT_EQ(rolling.log->recovery().file, next);
    EXPECT_TRUE(rolling.machine.NextPaths().empty());
    EXPECT_EQ(MustReadAll(*rolling.log), Payloads(0, 3));
  }
}

// --- a full disk ---

TEST(Roll, AFullDiskRefusesAppendsAndTheLogGoesOnOnceThereIsRoom) {
  for (uint64_t free = 0; free < 45'000; free += 397) {
    Rolling rolling(free);
    rolling.machine.files.SetCapacity(rolling.machine.files.used_bytes() + free);
    Status refused;
    for (uint64_t i = 0; refused.ok(); ++i) {
      refused = rolling.Append();
      if (i % 9 == free % 9) rolling.machine.rolls->FinishOne();
    }
    EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted) << refused.ToString();
    const uint64_t appended = rolling.log->end().value();
    for (int i = 0; i < 3; ++i) EXPECT_FALSE(rolling.Append().ok());
    EXPECT_EQ(MustReadAll(*rolling.log), Payloads(0, appended));
    rolling.machine.files.SetCapacity(UINT64_MAX);
    for (int i = 0; i < 40; ++i) ASSERT_TRUE(rolling.Append().ok());
    rolling.machine.files.ProcessDeath();
    rolling.log = nullptr;
    rolling.Open();
    EXPECT_EQ(MustReadAll(*rolling.log), Payloads(0, appended + 40));
    EXPECT_FALSE(rolling.log->recovery().tail_was_cut);
  }
}

TEST(Roll, WithoutRoomForTheNameTheNextRollAndSyncAreRefusedUntilThereIsSome) {
  Rolling rolling(1);
  rolling.AppendUntilRolled();
  rolling.machine.files.FailNext(Operation::kRename, ResourceExhausted("no space left"), 1'000);
  ASSERT_TRUE(rolling.machine.rolls->FinishOne());
  EXPECT_EQ(rolling.log->Sync().code(), StatusCode::kResourceExhausted);
  Status refused;
  while (refused.ok()) refused = rolling.Append();
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted) << refused.ToString();
  EXPECT_NE(refused.message().find("goes on once"), std::string_view::npos) << refused.ToString();
  const uint64_t end = rolling.log->end().value();
  EXPECT_EQ(MustReadAll(*rolling.log), Payloads(0, end));
  rolling.machine.files.FailNext(Operation::kRename, ResourceExhausted("no space left"), 0);
  ASSERT_TRUE(rolling.Append().ok());
  ASSERT_TRUE(rolling.log->Sync().ok());
  rolling.machine.files.PowerCut();
  rolling.log = nullptr;
  rolling.Open();
  EXPECT_EQ(MustReadAll(*rolling.log), Payloads(0, end + 1));
}

TEST(Roll, WithoutRoomForTheNameASyncThreadAnswersAndTriesAgainLater) {
  SimMachine machine(1);
  LocalLogOptions options;
  options.segment_bytes = kSegmentBytesMin;
  auto log = *LocalLog::Open(machine.env(), std::string(kFolder), options);
  machine.files.FailNext(Operation::kRename, ResourceExhausted("no space left"), 1'000'000);
  Status refused;
  while (refused.ok()) refused = AppendOne(*log, Payload(log->end().value())).status();
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted) << refused.ToString();
  EXPECT_EQ(log->Sync().code(), StatusCode::kResourceExhausted);
  machine.files.FailNext(Operation::kRename, ResourceExhausted("no space left"), 0);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(AppendOne(*log, Payload(log->end().value())).ok());
  EXPECT_TRUE(log->Sync().ok());
  EXPECT_EQ(MustReadAll(*log), Payloads(0, log->end().value()));
}

// --- a failing disk ---

TEST(Roll, AfterAFailureInFinishingItTheLogTakesNothingAndAnotherOpeningHasAll) {
  // A sync that fails is not tried again for want of room either: the next would find nothing to bring to the disk.
  const std::pair<Operation, Status> failures[] = {{Operation::kSync, Internal("input/output error")},
                                                   {Operation::kSync, ResourceExhausted("no space left")},
                                                   {Operation::kRename, Internal("input/output error")},
                                                   {Operation::kSyncFolder, Internal("input/output error")},
                                                   {Operation::kSyncFolder, ResourceExhausted("no space left")}};
  for (const auto& [operation, failure] : failures) {
    Rolling rolling(1);
    rolling.AppendUntilRolled();
    const uint64_t end = rolling.log->end().value();
    rolling.machine.files.FailNext(operation, failure);
    ASSERT_TRUE(rolling.machine.rolls->FinishOne());
    EXPECT_EQ(rolling.Append().code(), StatusCode::kUnavailable);
    EXPECT_EQ(rolling.log->Sync().code(), StatusCode::kUnavailable);
    EXPECT_EQ(rolling.log->FinishRoll().code(), StatusCode::kUnavailable);
    EXPECT_EQ(MustReadAll(*rolling.log), Payloads(0, end));
    EXPECT_EQ(rolling.log->Close().code(), StatusCode::kUnavailable);
    rolling.machine.files.ProcessDeath();
    rolling.log = nullptr;
    rolling.Open();
    EXPECT_EQ(MustReadAll(*rolling.log), Payloads(0, end));
  }
}

// What an older version leaves, which knows of no next segment and appends to the one before it.
TEST(Roll, ANextSegmentWithRecordsThatTheLastOneHasTooIsCorruption) {
  Rolling rolling(1);
  rolling.AppendUntilRolled();
  const std::string next = rolling.machine.NextPaths()[0];
  const uint64_t first = rolling.log->active_start().value();
  const std::string bytes = *rolling.machine.files.Contents(next);
  rolling.machine.files.ProcessDeath();
  rolling.log = nullptr;
  ASSERT_TRUE(rolling.machine.files.Remove(next).ok());
  rolling.Open();
  ASSERT_EQ(rolling.log->end(), Offset(first));
  rolling.log = nullptr;
  rolling.log = *rolling.machine.Open(Durability::kProcess, kSegmentBytesMax);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(rolling.Append().ok());
  rolling.machine.files.ProcessDeath();
  rolling.log = nullptr;
  ASSERT_TRUE(env::WriteFileAtomically(rolling.machine.files, next, bytes).ok());
  const Status status = rolling.machine.Open(Durability::kProcess).status();
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_NE(status.message().find(" begins with record " + std::to_string(first)), std::string::npos)
      << status.message();
}

// --- several threads ---

// Nobody appends, syncs or closes meanwhile: whoever else is to finish the roll has done it.
void ExpectFinished(const LocalLog& log) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (log.closed_end() != log.active_start() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_EQ(log.closed_end(), log.active_start());
  EXPECT_GT(log.closed_end(), Offset(0));
}

TEST(Roll, TheQueuesThreadFinishesIt) {
  const env::TempFolder folder;
  const env::Env env = env::SystemEnv();
  RollQueue rolls(env.executor, "rolls");
  LocalLogOptions options;
  options.segment_bytes = kSegmentBytesMin;
  options.sync_thread = false;
  options.rolls = &rolls;
  const auto log = *LocalLog::Open(env, folder.path(), options);
  while (log->Spans().size() < 2) ASSERT_TRUE(AppendOne(*log, Payload(log->end().value())).ok());
  ExpectFinished(*log);
  EXPECT_TRUE(log->Close().ok());
}

TEST(Roll, TheSyncThreadFinishesItThoughNobodyAsksForASync) {
  const env::TempFolder folder;
  LocalLogOptions options;
  options.segment_bytes = kSegmentBytesMin;
  options.background_sync_bytes = UINT64_MAX;
  const auto log = *LocalLog::Open(env::SystemEnv(), folder.path(), options);
  while (log->Spans().size() < 2) ASSERT_TRUE(AppendOne(*log, Payload(log->end().value())).ok());
  ExpectFinished(*log);
}

TEST(Roll, OneQueueFinishesTheRollsOfManyLogsOnARealDisk) {
  const env::TempFolder folder;
  const env::Env env = env::SystemEnv();
  constexpr uint64_t kRecords = 400;
  {
    RollQueue rolls(env.executor, "rolls");
    std::vector<std::thread> writers;
    for (int i = 0; i < 3; ++i) {
      writers.emplace_back([&, path = folder.path() + "/" + std::to_string(i)] {
        ASSERT_TRUE(env.files->MakeFolder(path).ok());
        LocalLogOptions options;
        options.segment_bytes = kSegmentBytesMin;
        options.sync_thread = false;
        options.rolls = &rolls;
        auto log = *LocalLog::Open(env, path, options);
        const auto reader = *log->Read(Offset(0));
        for (uint64_t i = 0; i < kRecords; ++i) {
          ASSERT_TRUE(AppendOne(*log, Payload(i)).ok());
          const auto record = reader->Next();
          ASSERT_TRUE(record.ok()) << record.status().ToString();
          ASSERT_EQ((*record)->payload, Payload(i));
          if (i % 100 == 50) ASSERT_TRUE(log->Sync().ok());
        }
        ASSERT_TRUE(log->Close().ok());
      });
    }
    for (std::thread& writer : writers) writer.join();
  }
  for (int i = 0; i < 3; ++i) {
    auto log = LocalLog::Open(env, folder.path() + "/" + std::to_string(i), {.sync_thread = false});
    ASSERT_TRUE(log.ok()) << log.status().ToString();
    EXPECT_FALSE((*log)->recovery().tail_was_cut);
    EXPECT_EQ(MustReadAll(**log), Payloads(0, kRecords));
    EXPECT_GT((*log)->stats().segments, 5U);
  }
}

TEST(Roll, SyncsFromOtherThreadsCoverWhatWasAppendedBeforeThemAcrossRolls) {
  constexpr uint64_t kRecords = 1'500;
  for (uint64_t seed = 0; seed < 5; ++seed) {
    SimMachine machine(seed);
    LocalLogOptions options;
    options.segment_bytes = kSegmentBytesMin;
    options.background_sync_bytes = 8 << 10;
    auto log = *LocalLog::Open(machine.env(), std::string(kFolder), options);
    std::atomic<uint64_t> end{0};       // the appending thread writes
    std::atomic<bool> cut{false};       // likewise
    std::atomic<uint64_t> promised{0};  // the syncing thread writes
    std::thread syncer([&] {
      while (!cut.load()) {
        const uint64_t before = end.load();
        if (log->Sync().ok()) promised = before;
      }
    });
    // Sees at once what the two would do to each other's file.
    std::thread follower([&] {
      const auto reader = *log->Read(Offset(0));
      for (uint64_t i = 0; i < kRecords;) {
        const auto record = reader->Next();
        ASSERT_TRUE(record.ok()) << record.status().ToString();
        if (!record->has_value()) continue;
        ASSERT_EQ((*record)->payload, Payload(i));
        ++i;
      }
    });
    for (uint64_t i = 0; i < kRecords; ++i) {
      ASSERT_TRUE(AppendOne(*log, Payload(i)).ok());
      end = i + 1;
    }
    follower.join();
    cut = true;
    syncer.join();
    const uint64_t kept = promised.load();
    machine.files.PowerCut();
    log = nullptr;
    auto reopened = machine.Open(Durability::kProcess);
    ASSERT_TRUE(reopened.ok()) << reopened.status().ToString();
    EXPECT_GE((*reopened)->end().value(), kept);
    EXPECT_EQ(MustReadAll(**reopened), Payloads(0, (*reopened)->end().value()));
  }
}

}  // namespace
}  // namespace millstream::log

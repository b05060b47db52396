// The faults of SimFileSystem; what it has in common with POSIX is in file_system_test.cc.
#include "millstream/env/sim_file_system.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "millstream/env/file_util.h"

namespace millstream::env {
namespace {

using Operation = SimFileSystem::Operation;

std::unique_ptr<WritableFile> Create(SimFileSystem& files, const std::string& path) {
  auto file = files.OpenForWrite(path, OpenMode::kCreate);
  EXPECT_TRUE(file.ok()) << file.status().ToString();
  return std::move(file).value();
}

TEST(SimFileSystem, SyncedBytesInASyncedFolderSurviveEveryPowerCut) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    SimFileSystem files(seed);
    auto file = Create(files, "a");
    ASSERT_TRUE(file->Append(std::string(3000, 'x')).ok());
    ASSERT_TRUE(file->Sync().ok());
    ASSERT_TRUE(files.SyncFolder("/").ok());
    files.PowerCut();
    EXPECT_EQ(*files.Contents("a"), std::string(3000, 'x')) << "seed " << seed;
  }
}

TEST(SimFileSystem, UnsyncedSectorsAreKeptDroppedAndGarbledIndependently) {
  std::set<std::string> fates;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SimFileSystem files(seed);
    auto file = Create(files, "a");
    ASSERT_TRUE(file->Append(std::string(1024, 'o')).ok());
    ASSERT_TRUE(file->Sync().ok());
    ASSERT_TRUE(files.SyncFolder("/").ok());
    ASSERT_TRUE(file->Truncate(0).ok());
    ASSERT_TRUE(file->Append(std::string(1024, 'n')).ok());
    files.PowerCut();
    const std::string bytes = *files.Contents("a");
    if (bytes.size() < 1024) continue;
    std::string fate;
    for (size_t sector = 0; sector < 2; ++sector) {
      const std::string part = bytes.substr(sector * 512, 512);
      fate += part == std::string(512, 'n') ? "kept " : part == std::string(512, 'o') ? "dropped " : "garbled ";
    }
    fates.insert(fate);
  }
  EXPECT_EQ(fates.size(), 9U);
}

TEST(SimFileSystem, BytesInASectorWithUnsyncedBytesAreAtRiskAndOthersAreNot) {
  bool hurt = false;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    SimFileSystem files(seed);
    auto file = Create(files, "a");
    ASSERT_TRUE(file->Append(std::string(600, 's')).ok());
    ASSERT_TRUE(file->Sync().ok());
    ASSERT_TRUE(files.SyncFolder("/").ok());
    ASSERT_TRUE(file->Append("unsynced").ok());
    files.PowerCut();
    const std::string bytes = *files.Contents("a");
    ASSERT_GE(bytes.size(), 600U);
    ASSERT_EQ(bytes.substr(0, 512), std::string(512, 's'));
    hurt |= bytes.substr(512, 88) != std::string(88, 's');
  }
  EXPECT_TRUE(hurt);
}

TEST(SimFileSystem, NamesAreDurableOnlyAfterTheFolderIsSynced) {
  std::set<std::string> outcomes;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SimFileSystem files(seed);
    ASSERT_TRUE(Create(files, "old")->Sync().ok());
    ASSERT_TRUE(Create(files, "gone")->Sync().ok());
    ASSERT_TRUE(files.SyncFolder("/").ok());
    ASSERT_TRUE(Create(files, "made")->Sync().ok());
    ASSERT_TRUE(files.Rename("old", "new").ok());
    ASSERT_TRUE(files.Remove("gone").ok());
    files.PowerCut();
    std::string outcome;
    const std::vector<FolderEntry> entries = *files.List("/");
    for (const FolderEntry& entry : entries) outcome += entry.name + " ";
    outcomes.insert(outcome);
    // A rename is one step: one of its names is there, never both and never none.
    EXPECT_NE(*files.Exists("old"), *files.Exists("new"));
  }
  EXPECT_EQ(outcomes.size(), 8U);
}

TEST(SimFileSystem, ProcessDeathKeepsWhatWasWrittenAndKillsHandlesAndLocks) {
  SimFileSystem files(1);
  auto file = Create(files, "a");
  auto lock = files.LockFolder("/");
  const std::string boot = files.BootId();
  ASSERT_TRUE(file->Append("unsynced").ok());
  files.ProcessDeath();
  EXPECT_EQ(*files.Contents("a"), "unsynced");
  EXPECT_EQ(file->Append("more").code(), StatusCode::kUnavailable);
  EXPECT_TRUE(files.LockFolder("/").ok());
  EXPECT_EQ(files.BootId(), boot);
  files.PowerCut();
  EXPECT_NE(files.BootId(), boot);
}

TEST(SimFileSystem, AFailedSyncDropsDirtyBytesAndALaterSyncDoesNotBringThemBack) {
  bool lost = false;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SimFileSystem files(seed);
    auto file = Create(files, "a");
    ASSERT_TRUE(files.SyncFolder("/").ok());
    files.FailNext(Operation::kSync, Internal("injected"));
    ASSERT_TRUE(file->Append(std::string(512, 'x')).ok());
    EXPECT_EQ(file->Sync(), Internal("injected"));
    EXPECT_EQ(*files.Contents("a"), std::string(512, 'x'));
    ASSERT_TRUE(file->Append(std::string(512, 'y')).ok());
    EXPECT_TRUE(file->Sync().ok());
    files.PowerCut();
    const std::string bytes = *files.Contents("a");
    ASSERT_EQ(bytes.size(), 1024U);
    EXPECT_EQ(bytes.substr(512), std::string(512, 'y'));
    lost |= bytes.substr(0, 512) != std::string(512, 'x');
  }
  EXPECT_TRUE(lost);
}

TEST(SimFileSystem, NothingWorksFromACrashUntilTheRestart) {
  SimFileSystem files(1);
  auto file = Create(files, "a");
  files.CrashAt(files.operations() + 2);
  EXPECT_TRUE(file->Append("one").ok());
  EXPECT_EQ(file->Append("two").code(), StatusCode::kUnavailable);
  EXPECT_TRUE(files.crashed());
  EXPECT_EQ(files.crashed_in(), Operation::kAppend);
  EXPECT_EQ(file->Append("three").code(), StatusCode::kUnavailable);
  EXPECT_EQ(file->Sync().code(), StatusCode::kUnavailable);
  EXPECT_EQ(files.List("/").status().code(), StatusCode::kUnavailable);
  files.ProcessDeath();
  EXPECT_FALSE(files.crashed());
  EXPECT_TRUE(std::string("onetwo").starts_with(*files.Contents("a")));
  EXPECT_TRUE(files.Contents("a")->starts_with("one"));
}

TEST(SimFileSystem, FailAtFailsThatOperationAlone) {
  SimFileSystem files(1);
  auto file = Create(files, "a");
  files.FailAt(files.operations() + 2, Internal("injected"));
  EXPECT_TRUE(file->Append("one").ok());
  EXPECT_EQ(file->Append("two"), Internal("injected"));
  EXPECT_EQ(file->size(), 3U);
  EXPECT_TRUE(file->Truncate(3).ok());
  EXPECT_TRUE(file->Append("three").ok());
  EXPECT_EQ(*files.Contents("a"), "onethree");
}

TEST(SimFileSystem, AFullDiskTakesAPrefixAndRefusesTheRestUntilSpaceIsFreed) {
  SimFileSystem files(1);
  auto file = Create(files, "a");
  ASSERT_TRUE(Create(files, "other")->Append("123").ok());
  files.SetCapacity(8);
  EXPECT_EQ(*files.FreeBytes("/"), 5U);
  EXPECT_EQ(file->Append("abcdefgh").code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(*files.Contents("a"), "abcde");
  EXPECT_EQ(files.used_bytes(), 8U);
  ASSERT_TRUE(files.Remove("other").ok());
  ASSERT_TRUE(file->Truncate(0).ok());
  EXPECT_TRUE(file->Append("abcdefgh").ok());
}

TEST(SimFileSystem, OperationsAreCountedByKind) {
  SimFileSystem files(1);
  auto file = Create(files, "a");
  ASSERT_TRUE(file->Append("x").ok());
  ASSERT_TRUE(file->Append("y").ok());
  ASSERT_TRUE(file->SyncData().ok());
  EXPECT_EQ(files.operations(), 4U);
  EXPECT_EQ(files.operations(Operation::kAppend), 2U);
  EXPECT_EQ(files.operations(Operation::kSync), 1U);
}

TEST(SimFileSystem, TheSameSeedRepeatsTheSameRun) {
  std::string first;
  for (int run = 0; run < 2; ++run) {
    SimFileSystem files(99);
    auto file = Create(files, "a");
    ASSERT_TRUE(files.SyncFolder("/").ok());
    ASSERT_TRUE(file->Append(std::string(5000, 'x')).ok());
    files.PowerCut();
    if (run == 0) first = *files.Contents("a");
    EXPECT_EQ(*files.Contents("a"), first);
  }
}

TEST(WriteFileAtomically, AfterACrashAtAnyOperationTheFileIsOldOrNewAndNewOnceAcknowledged) {
  bool finished = false;
  for (uint64_t crash_at = 1; !finished; ++crash_at) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      SimFileSystem files(seed);
      ASSERT_TRUE(WriteFileAtomically(files, "a", std::string(2000, 'o')).ok());
      files.CrashAt(files.operations() + crash_at);
      const Status status = WriteFileAtomically(files, "a", std::string(2000, 'n'));
      finished = !files.crashed();
      files.PowerCut();
      const std::string bytes = *files.Contents("a");
      if (status.ok()) {
        EXPECT_EQ(bytes, std::string(2000, 'n'));
      } else {
        EXPECT_TRUE(bytes == std::string(2000, 'o') || bytes == std::string(2000, 'n'))
            << "crash at " << crash_at << ", seed " << seed;
      }
    }
  }
}

}  // namespace
}  // namespace millstream::env

// What a log does while nothing goes wrong, and with a full or failing disk.
#include "millstream/log/local_log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "../env/temp_folder.h"
#include "log_fixture.h"

namespace millstream::log {
namespace {

using env::SimFileSystem;
using storage::Durability;

// Answers as a file of so many bytes would, and counts what is read of it.
class CountedFile final : public env::ReadableFile {
 public:
  explicit CountedFile(uint64_t bytes) : bytes_(bytes) {}
  static char At(uint64_t position) { return static_cast<char>(position * 7 + (position >> 8)); }

  Result<size_t> Read(uint64_t position, std::span<char> out) const override {
    const size_t count = std::min<uint64_t>(out.size(), bytes_ - std::min(position, bytes_));
    for (size_t i = 0; i < count; ++i) out[i] = At(position + i);
    read_ += count;
    return count;
  }
  Result<uint64_t> Size() const override { return bytes_; }
  uint64_t read() const { return read_; }

 private:
  const uint64_t bytes_;
  mutable uint64_t read_ = 0;
};

TEST(FileWindow, ReadsEachByteOnceAsItMovesAlong) {
  constexpr uint64_t kBytes = 5'000'000;
  const CountedFile file(kBytes);
  FileWindow window(&file);
  uint64_t at = 0;
  for (uint64_t count = 1; at + count <= kBytes; count = count * 5 % 99'991 + 1) {
    const auto view = window.View(at, count, kBytes);
    ASSERT_TRUE(view.ok());
    ASSERT_EQ(view->size(), count);
    EXPECT_EQ(view->front(), CountedFile::At(at));
    EXPECT_EQ(view->back(), CountedFile::At(at + count - 1));
    at += count;
  }
  EXPECT_GT(at, kBytes - 100'000);
  EXPECT_LE(file.read(), kBytes);
  // Back to the beginning, and to what the file turns out not to have.
  EXPECT_EQ((*window.View(0, 3, kBytes))[2], CountedFile::At(2));
  EXPECT_EQ(window.View(kBytes - 10, 20, kBytes + 10).status().code(), StatusCode::kDataLoss);
  EXPECT_EQ((*window.View(kBytes - 10, 10, kBytes)).back(), CountedFile::At(kBytes - 1));
}

class EachDurability : public testing::TestWithParam<Durability> {};

INSTANTIATE_TEST_SUITE_P(Modes, EachDurability, testing::Values(Durability::kProcess, Durability::kFsync),
                         [](const auto& about) { return about.param == Durability::kProcess ? "Process" : "Fsync"; });

TEST_P(EachDurability, RecordsComeBackInOrderAcrossSegmentsAndReopening) {
  SimMachine machine(1);
  for (int run = 0; run < 3; ++run) {
    auto log = machine.Open(GetParam());
    ASSERT_TRUE(log.ok()) << log.status().ToString();
    EXPECT_EQ((*log)->end().value(), run * 100);
    EXPECT_FALSE((*log)->recovery().tail_was_cut);
    for (uint64_t i = 0; i < 100; ++i) {
      const uint64_t number = static_cast<uint64_t>(run) * 100 + i;
      const auto offset = AppendOne(**log, Payload(number));
      ASSERT_TRUE(offset.ok()) << offset.status().ToString();
      ASSERT_EQ(offset->value(), number);
      if (i % 10 == 0) ASSERT_TRUE((*log)->WaitDurable(*offset).ok());
    }
    EXPECT_EQ(MustReadAll(**log), Payloads(0, static_cast<uint64_t>(run + 1) * 100));
  }
  EXPECT_GT(machine.SegmentPaths().size(), 3U);
}

TEST_P(EachDurability, ReadingMayStartAtEveryOffset) {
  SimMachine machine(1);
  auto log = *machine.Open(GetParam());
  for (uint64_t i = 0; i < 60; ++i) ASSERT_TRUE(AppendOne(*log, Payload(i)).ok());
  for (uint64_t from = 0; from <= 60; ++from) EXPECT_EQ(MustReadAll(*log, Offset(from)), Payloads(from, 60));
  EXPECT_EQ(log->Read(Offset(61)).status().code(), StatusCode::kOutOfRange);
}

TEST(LocalLog, AnAppendOfManyRecordsGivesThemConsecutiveOffsets) {
  SimMachine machine(1);
  auto log = *machine.Open(Durability::kProcess);
  const std::vector<std::string> payloads = Payloads(0, 500);
  const std::vector<std::string_view> views(payloads.begin(), payloads.end());
  EXPECT_EQ(log->Append(views)->value(), 0U);
  EXPECT_EQ(log->Append(std::vector<std::string_view>{"", "x", ""})->value(), 500U);
  EXPECT_EQ(log->end().value(), 503U);
  std::vector<std::string> expected = payloads;
  expected.insert(expected.end(), {"", "x", ""});
  EXPECT_EQ(MustReadAll(*log), expected);
}

TEST(LocalLog, RecordsBehindTheirLengthsAreTheSameHoweverManyPiecesTheyComeIn) {
  SimMachine machine(1);
  std::vector<std::string> expected;
  for (const size_t pieces_wanted : {1, 2, 7, 100}) {
    auto log = *machine.Open(Durability::kProcess);
    std::vector<std::string> pieces(pieces_wanted);
    for (uint64_t i = 0; i < 100; ++i) {
      const std::string payload = i % 10 == 3 ? "" : Payload(i);
      expected.push_back(payload);
      std::string& piece = pieces[i * pieces_wanted / 100];
      AppendRecordLength(&piece, static_cast<uint32_t>(payload.size()));
      piece += payload;
    }
    const std::vector<std::string_view> views(pieces.begin(), pieces.end());
    EXPECT_EQ(log->AppendFramed(views, 100)->value(), expected.size() - 100);
    EXPECT_EQ(AppendOne(*log, "between")->value(), expected.size());
    expected.emplace_back("between");
    EXPECT_EQ(MustReadAll(*log), expected);
  }
  auto log = *machine.Open(Durability::kProcess);
  EXPECT_EQ(log->AppendFramed({}, 0).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(MustReadAll(*log), expected);
}

TEST(LocalLog, LargeAndSmallPayloadsMixInOneAppend) {
  SimMachine machine(1);
  auto log = *machine.Open(Durability::kProcess);
  std::vector<std::string> payloads;
  for (const size_t size : {size_t{0}, kInlinePayloadBytes - 1, kInlinePayloadBytes, size_t{3},
                            10 * kInlinePayloadBytes, kInlinePayloadBytes, size_t{1}}) {
    payloads.emplace_back(size, static_cast<char>('a' + payloads.size()));
  }
  ASSERT_TRUE(log->Append(std::vector<std::string_view>(payloads.begin(), payloads.end())).ok());
  ASSERT_TRUE(log->Append(std::vector<std::string_view>(payloads.rbegin(), payloads.rend())).ok());
  std::vector<std::string> expected = payloads;
  expected.insert(expected.end(), payloads.rbegin(), payloads.rend());
  EXPECT_EQ(MustReadAll(*log), expected);
}

TEST(LocalLog, AppendsBeyondALimitAreRefusedAndLeaveNothing) {
  SimMachine machine(1);
  auto log = *machine.Open(Durability::kProcess);
  EXPECT_EQ(log->Append({}).status().code(), StatusCode::kInvalidArgument);
  const std::string large(storage::kLogRecordBytesMax + 1, 'x');
  EXPECT_EQ(AppendOne(*log, large).status().code(), StatusCode::kResourceExhausted);
  const std::string_view fits = std::string_view(large).substr(1);
  EXPECT_EQ(log->Append(std::vector<std::string_view>{fits, fits}).status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(log->end().value(), 0U);
  const std::vector<std::string_view> many(storage::kLogRecordsPerAppendMax + 1);
  EXPECT_EQ(log->Append(many).status().code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(AppendOne(*log, fits).ok());
  EXPECT_EQ(MustReadAll(*log).front().size(), fits.size());
}

TEST(LocalLog, OptionsOutOfBoundsAreRefused) {
  SimMachine machine(1);
  EXPECT_EQ(machine.Open(Durability::kProcess, kSegmentBytesMin - 1).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(machine.Open(Durability::kProcess, kSegmentBytesMax + 1).status().code(), StatusCode::kInvalidArgument);
}

TEST(LocalLog, AReaderFollowsTheWriterAndFindsMoreLater) {
  SimMachine machine(1);
  auto log = *machine.Open(Durability::kProcess);
  auto reader = *log->Read(Offset(0));
  for (uint64_t i = 0; i < 200; ++i) {
    EXPECT_FALSE((*reader->Next()).has_value());
    ASSERT_TRUE(AppendOne(*log, Payload(i)).ok());
    if (i % 7 == 0) ASSERT_TRUE(log->Sync().ok());
    const auto record = reader->Next();
    ASSERT_TRUE(record.ok()) << record.status().ToString();
    ASSERT_TRUE(record->has_value());
    EXPECT_EQ((*record)->payload, Payload(i));
    EXPECT_EQ((*record)->offset.value(), i);
  }
}

TEST(LocalLog, TruncateBeforeRemovesOnlyWholeSegmentsBelowTheOffset) {
  SimMachine machine(1);
  auto log = *machine.Open(Durability::kProcess);
  for (uint64_t i = 0; i < 200; ++i) ASSERT_TRUE(AppendOne(*log, Payload(i)).ok());
  const size_t before = machine.SegmentPaths().size();
  ASSERT_TRUE(log->TruncateBefore(Offset(100)).ok());
  EXPECT_LT(machine.SegmentPaths().size(), before);
  EXPECT_GT(log->start().value(), 0U);
  EXPECT_LE(log->start().value(), 100U);
  EXPECT_EQ(log->Read(Offset(0)).status().code(), StatusCode::kOutOfRange);
  EXPECT_EQ(MustReadAll(*log, Offset(100)), Payloads(100, 200));
  // The last segment stays whatever is asked.
  ASSERT_TRUE(log->TruncateBefore(Offset(1'000'000)).ok());
  EXPECT_EQ(machine.SegmentPaths().size(), 1U);
  const Offset start = log->start();
  EXPECT_EQ(MustReadAll(*log, start), Payloads(start.value(), 200));
  log = nullptr;
  log = *machine.Open(Durability::kProcess);
  EXPECT_EQ(log->start(), start);
  EXPECT_EQ(log->end().value(), 200U);
}

TEST(LocalLog, AReaderWhoseSegmentIsRemovedIsTold) {
  SimMachine machine(1);
  auto log = *machine.Open(Durability::kProcess);
  for (uint64_t i = 0; i < 200; ++i) ASSERT_TRUE(AppendOne(*log, Payload(i)).ok());
  auto reader = *log->Read(Offset(0));
  ASSERT_TRUE((*reader->Next()).has_value());
  ASSERT_TRUE(log->TruncateBefore(log->end()).ok());
  EXPECT_EQ(reader->Next().status().code(), StatusCode::kOutOfRange);
  EXPECT_EQ(reader->Next().status().code(), StatusCode::kOutOfRange);
}

TEST(LocalLog, DurableEndIsWhatTheModePromises) {
  SimMachine machine(1);
  {
    auto log = *machine.Open(Durability::kFsync);
    ASSERT_TRUE(AppendOne(*log, "a").ok());
    ASSERT_TRUE(AppendOne(*log, "b").ok());
    EXPECT_EQ(log->durable_end().value(), 0U);
    ASSERT_TRUE(log->WaitDurable(Offset(0)).ok());
    EXPECT_EQ(log->durable_end().value(), 2U);
    EXPECT_EQ(log->WaitDurable(Offset(2)).code(), StatusCode::kOutOfRange);
  }
  auto log = *machine.Open(Durability::kProcess);
  const uint64_t syncs = machine.files.operations(SimFileSystem::Operation::kSync);
  ASSERT_TRUE(AppendOne(*log, "c").ok());
  EXPECT_EQ(log->durable_end().value(), 3U);
  EXPECT_TRUE(log->WaitDurable(Offset(2)).ok());
  EXPECT_EQ(machine.files.operations(SimFileSystem::Operation::kSync), syncs);
}

TEST(LocalLog, AClosedLogRefusesAppendsAndStillAnswersReads) {
  SimMachine machine(1);
  auto log = *machine.Open(Durability::kFsync);
  ASSERT_TRUE(AppendOne(*log, "a").ok());
  EXPECT_TRUE(log->Close().ok());
  EXPECT_TRUE(log->Close().ok());
  EXPECT_EQ(AppendOne(*log, "b").status().code(), StatusCode::kFailedPrecondition);
  EXPECT_TRUE(log->WaitDurable(Offset(0)).ok());
  EXPECT_EQ(MustReadAll(*log), std::vector<std::string>{"a"});
}

TEST(LocalLog, FilesOfOtherNamesInTheFolderAreLeftAlone) {
  SimMachine machine(1);
  ASSERT_TRUE(machine.files.Overwrite("/log/notes.txt", "mine").ok());
  ASSERT_TRUE(machine.files.Overwrite("/log/123.log", "mine too").ok());
  {
    ASSERT_TRUE(AppendOne(**machine.Open(Durability::kProcess), "a").ok());
  }
  EXPECT_EQ(MustReadAll(**machine.Open(Durability::kProcess)).size(), 1U);
  EXPECT_EQ(*machine.files.Contents("/log/notes.txt"), "mine");
}

TEST(LocalLog, StatsCountWhatWasAppended) {
  SimMachine machine(1);
  auto log = *machine.Open(Durability::kProcess);
  ASSERT_TRUE(log->Append(std::vector<std::string_view>{"abc", "de"}).ok());
  ASSERT_TRUE(log->Sync().ok());
  const LogStats stats = log->stats();
  EXPECT_EQ(stats.appended_records, 2U);
  EXPECT_EQ(stats.appended_bytes, 5U);
  EXPECT_EQ(stats.segments, 1U);
  EXPECT_EQ(stats.syncs, 1U);
  EXPECT_GE(stats.written_bytes, kBatchHeaderBytes + 5U);
}

TEST(LocalLog, KeepsItsPromisesOnARealDisk) {
  const env::TempFolder folder;
  LocalLogOptions options;
  options.durability = Durability::kFsync;
  options.segment_bytes = 64 << 10;
  for (uint64_t run = 0; run < 3; ++run) {
    auto log = LocalLog::Open(env::SystemEnv(), folder.path(), options);
    ASSERT_TRUE(log.ok()) << log.status().ToString();
    EXPECT_FALSE((*log)->recovery().tail_was_cut);
    for (uint64_t i = run * 200; i < (run + 1) * 200; ++i) {
      ASSERT_TRUE(AppendOne(**log, Payload(i)).ok());
      if (i % 50 == 0) ASSERT_TRUE((*log)->WaitDurable(Offset(i)).ok());
    }
    EXPECT_EQ(MustReadAll(**log), Payloads(0, (run + 1) * 200));
    EXPECT_GT((*log)->stats().segments, 1U);
  }
  auto log = *LocalLog::Open(env::SystemEnv(), folder.path(), options);
  ASSERT_TRUE(log->TruncateBefore(Offset(300)).ok());
  EXPECT_GT(log->start().value(), 0U);
  EXPECT_EQ(MustReadAll(*log, Offset(300)), Payloads(300, 600));
}

// --- a full disk ---

TEST_P(EachDurability, AFullDiskRefusesAppendsAndTheLogGoesOnBySelfOnceSpaceIsFreed) {
  // At every possible amount of free space, so that batches, padding and segment headers are all cut in the middle.
  for (uint64_t free = 0; free < 40'000; free += 397) {
    SimMachine machine(free);
    auto log = *machine.Open(GetParam());
    machine.files.SetCapacity(machine.files.used_bytes() + free);
    uint64_t appended = 0;
    Status refused;
    while (refused.ok()) {
      const auto offset = AppendOne(*log, Payload(appended));
      refused = offset.status();
      if (offset.ok()) ++appended;
      if (offset.ok() && appended % 3 == 0) ASSERT_TRUE(log->WaitDurable(*offset).ok());
    }
    EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted) << refused.ToString();
    EXPECT_NE(refused.message().find(kFolder), std::string_view::npos);
    for (int i = 0; i < 3; ++i) EXPECT_FALSE(AppendOne(*log, Payload(appended)).ok());
    EXPECT_EQ(MustReadAll(*log), Payloads(0, appended));
    machine.files.SetCapacity(UINT64_MAX);
    for (uint64_t i = appended; i < appended + 40; ++i) {
      const auto offset = AppendOne(*log, Payload(i));
      ASSERT_TRUE(offset.ok()) << offset.status().ToString();
      ASSERT_TRUE(log->WaitDurable(*offset).ok());
    }
    EXPECT_EQ(MustReadAll(*log), Payloads(0, appended + 40));
    log = nullptr;
    auto reopened = machine.Open(GetParam());
    ASSERT_TRUE(reopened.ok()) << reopened.status().ToString();
    EXPECT_EQ(MustReadAll(**reopened), Payloads(0, appended + 40));
    EXPECT_FALSE((*reopened)->recovery().tail_was_cut);
  }
}

TEST(LocalLog, ARollThatFindsNoSpaceLeavesNoHalfMadeSegmentBehindALaterRecord) {
  for (uint64_t free = 0; free < kSegmentHeaderBytes; free += 3) {
    SimMachine machine(free);
    auto log = *machine.Open(Durability::kProcess);
    ASSERT_TRUE(AppendOne(*log, std::string(8000, 'x')).ok());
    ASSERT_TRUE(log->Sync().ok());
    machine.files.SetCapacity(machine.files.used_bytes() + free);
    EXPECT_FALSE(AppendOne(*log, std::string(8000, 'y')).ok());
    machine.files.SetCapacity(UINT64_MAX);
    // It would fit into the old segment, behind the name of the new one.
    ASSERT_TRUE(AppendOne(*log, "small").ok());
    ASSERT_TRUE(AppendOne(*log, std::string(14000, 'z')).ok());
    machine.files.ProcessDeath();
    auto reopened = machine.Open(Durability::kProcess);
    ASSERT_TRUE(reopened.ok()) << reopened.status().ToString();
    EXPECT_EQ(MustReadAll(**reopened).size(), 3U);
  }
}

// --- a failing disk ---

TEST(LocalLog, AfterAFailedSyncNothingIsAcknowledgedAnyMore) {
  SimMachine machine(1);
  auto log = *machine.Open(Durability::kFsync);
  ASSERT_TRUE(AppendOne(*log, "safe").ok());
  ASSERT_TRUE(log->WaitDurable(Offset(0)).ok());
  ASSERT_TRUE(AppendOne(*log, "doubtful").ok());
  machine.files.FailNext(SimFileSystem::Operation::kSync, Internal("fdatasync: input/output error"));
  const Status failed = log->WaitDurable(Offset(1));
  EXPECT_EQ(failed.code(), StatusCode::kUnavailable);
  EXPECT_NE(failed.message().find("input/output error"), std::string_view::npos);
  // The next sync would succeed, and prove nothing.
  EXPECT_EQ(log->WaitDurable(Offset(1)).code(), StatusCode::kUnavailable);
  EXPECT_EQ(log->Sync().code(), StatusCode::kUnavailable);
  EXPECT_EQ(AppendOne(*log, "more").status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(log->durable_end().value(), 1U);
  EXPECT_TRUE(log->WaitDurable(Offset(0)).ok());
}

TEST(LocalLog, ProcessModeStopsAcknowledgingAfterAFailedSyncToo) {
  SimMachine machine(1);
  auto log = *machine.Open(Durability::kProcess);
  ASSERT_TRUE(AppendOne(*log, "a").ok());
  machine.files.FailNext(SimFileSystem::Operation::kSync, Internal("input/output error"));
  EXPECT_EQ(log->Sync().code(), StatusCode::kUnavailable);
  EXPECT_EQ(log->WaitDurable(Offset(0)).code(), StatusCode::kUnavailable);
  EXPECT_EQ(AppendOne(*log, "b").status().code(), StatusCode::kUnavailable);
}

TEST(LocalLog, ReopenedAfterAFailedSyncItKeepsWhatWasAcknowledgedThroughAPowerCut) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SimMachine machine(seed);
    auto log = *machine.Open(Durability::kFsync, 1 << 20);
    for (uint64_t i = 0; i < 10; ++i) ASSERT_TRUE(AppendOne(*log, Payload(i)).ok());
    ASSERT_TRUE(log->WaitDurable(Offset(9)).ok());
    for (uint64_t i = 10; i < 20; ++i) ASSERT_TRUE(AppendOne(*log, Payload(i)).ok());
    machine.files.FailNext(SimFileSystem::Operation::kSync, Internal("input/output error"));
    ASSERT_FALSE(log->WaitDurable(Offset(19)).ok());
    log = nullptr;
    machine.files.ProcessDeath();
    log = *machine.Open(Durability::kFsync, 1 << 20);
    EXPECT_EQ(MustReadAll(*log), Payloads(0, 10));
    for (uint64_t i = 10; i < 20; ++i) ASSERT_TRUE(AppendOne(*log, Payload(i)).ok());
    ASSERT_TRUE(log->WaitDurable(Offset(19)).ok());
    machine.files.PowerCut();
    auto reopened = machine.Open(Durability::kFsync, 1 << 20);
    ASSERT_TRUE(reopened.ok()) << "seed " << seed << ": " << reopened.status().ToString();
    EXPECT_EQ(MustReadAll(**reopened), Payloads(0, 20)) << "seed " << seed;
  }
}

TEST(LocalLog, AFailedWriteIsCutOffAndTheNextOneGoesOn) {
  SimMachine machine(1);
  auto log = *machine.Open(Durability::kProcess);
  ASSERT_TRUE(AppendOne(*log, "a").ok());
  machine.files.FailNext(SimFileSystem::Operation::kAppend, Internal("input/output error"));
  machine.files.FailNext(SimFileSystem::Operation::kTruncate, Internal("input/output error"));
  EXPECT_EQ(AppendOne(*log, Payload(1)).status().code(), StatusCode::kInternal);
  EXPECT_EQ(MustReadAll(*log), std::vector<std::string>{"a"});
  ASSERT_TRUE(AppendOne(*log, "b").ok());
  EXPECT_EQ(MustReadAll(*log), (std::vector<std::string>{"a", "b"}));
}

// --- several threads ---

TEST(LocalLog, ManyWaitersShareSyncsAndEachIsToldAfterItsRecordIsOnTheDisk) {
  SimMachine machine(1);
  LocalLogOptions options;
  options.durability = Durability::kFsync;
  options.segment_bytes = 64 << 10;
  auto log = *LocalLog::Open(machine.env(), std::string(kFolder), options);
  constexpr uint64_t kRecords = 2000;
  std::atomic<uint64_t> told = 0;
  std::atomic<uint64_t> early = 0;
  std::atomic<uint64_t> end = 0;  // written by the appending thread
  std::vector<std::thread> waiters;
  for (int thread = 0; thread < 4; ++thread) {
    waiters.emplace_back([&, thread] {
      for (auto i = static_cast<uint64_t>(thread); i < kRecords; i += 4) {
        while (end.load() <= i) std::this_thread::yield();
        if (!log->WaitDurable(Offset(i)).ok()) return;
        if (log->durable_end().value() <= i) ++early;
        ++told;
      }
    });
  }
  std::atomic<uint64_t> called_back = 0;
  for (uint64_t i = 0; i < kRecords; ++i) {
    ASSERT_TRUE(AppendOne(*log, Payload(i)).ok());
    log->WhenDurable(Offset(i), [&](const Status& status) { called_back += status.ok() ? 1 : 0; });
    end = i + 1;
  }
  for (std::thread& waiter : waiters) waiter.join();
  ASSERT_TRUE(log->Close().ok());
  EXPECT_EQ(told, kRecords);
  EXPECT_EQ(called_back, kRecords);
  EXPECT_EQ(early, 0U);
  EXPECT_EQ(MustReadAll(*log), Payloads(0, kRecords));
}

TEST(LocalLog, ReadersFollowWhileTheWriterAppendsRollsAndTruncates) {
  SimMachine machine(1);
  LocalLogOptions options;
  options.segment_bytes = 16 << 10;
  options.background_sync_bytes = 8 << 10;
  auto log = *LocalLog::Open(machine.env(), std::string(kFolder), options);
  constexpr uint64_t kRecords = 3000;
  std::atomic<uint64_t> read_by_all = 0;
  std::vector<std::thread> readers;
  std::vector<std::unique_ptr<storage::LogReader>> tails;
  for (int i = 0; i < 2; ++i) tails.push_back(*log->Read(Offset(0)));
  std::atomic<uint64_t> progress[2] = {0, 0};
  for (size_t thread = 0; thread < 2; ++thread) {
    readers.emplace_back([&, thread] {
      for (uint64_t i = 0; i < kRecords;) {
        const auto record = tails[thread]->Next();
        ASSERT_TRUE(record.ok()) << record.status().ToString();
        if (!record->has_value()) {
          std::this_thread::yield();
          continue;
        }
        ASSERT_EQ((*record)->payload, Payload(i));
        progress[thread] = ++i;
      }
      ++read_by_all;
    });
  }
  const auto read_by_both = [&] { return std::min(progress[0].load(), progress[1].load()); };
  for (uint64_t i = 0; i < kRecords; ++i) {
    ASSERT_TRUE(AppendOne(*log, Payload(i)).ok());
    // Never so far ahead that nothing can be removed under the readers.
    while (read_by_both() + 500 < i && !testing::Test::HasFailure()) std::this_thread::yield();
    if (i % 100 == 0) ASSERT_TRUE(log->TruncateBefore(Offset(read_by_both())).ok());
  }
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(read_by_all, 2U);
  EXPECT_GT(log->start().value(), 0U);
}

TEST(LocalLog, AFailedSyncWakesEveryWaiterWithTheError) {
  SimMachine machine(1);
  LocalLogOptions options;
  options.durability = Durability::kFsync;
  auto log = *LocalLog::Open(machine.env(), std::string(kFolder), options);
  machine.files.FailNext(SimFileSystem::Operation::kSync, Internal("input/output error"), 1'000);
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(AppendOne(*log, "x").ok());
  std::atomic<int> refused = 0;
  std::vector<std::thread> waiters;
  for (uint64_t i = 0; i < 8; ++i) {
    waiters.emplace_back([&, i] { refused += log->WaitDurable(Offset(i)).code() == StatusCode::kUnavailable ? 1 : 0; });
  }
  for (std::thread& waiter : waiters) waiter.join();
  EXPECT_EQ(refused, 8);
  EXPECT_EQ(log->Close().code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace millstream::log

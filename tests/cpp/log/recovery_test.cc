// What opening a log makes of files that a crash cut short, and of files that are corrupt.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "log_fixture.h"
#include "millstream/log/local_log.h"

namespace millstream::log {
namespace {

using storage::Durability;

constexpr uint64_t kLargeSegment = 1 << 20;

// Where the batches of a segment begin, and where the last one ends.
struct Layout {
  std::vector<uint64_t> begins;
  std::vector<Offset> ends;  // the offset behind each batch
  uint64_t end = 0;
};

Layout LayoutOf(SimMachine& machine, const std::string& path) {
  Layout layout;
  const std::string bytes = *machine.files.Contents(path);
  const auto header = DecodeSegmentHeader(bytes);
  EXPECT_TRUE(header.has_value());
  const auto file = *machine.files.OpenForRead(path);
  SegmentScanner scanner(file.get(), header->salt, kSegmentHeaderBytes, header->first);
  while (true) {
    const auto item = scanner.Next(bytes.size());
    EXPECT_TRUE(item.ok());
    EXPECT_TRUE(item->what == SegmentScanner::What::kBatch || item->what == SegmentScanner::What::kEnd);
    if (item->what != SegmentScanner::What::kBatch) break;
    layout.begins.push_back(item->position);
    layout.ends.push_back(scanner.expected());
  }
  layout.end = scanner.position();
  return layout;
}

std::string Only(const std::vector<std::string>& paths) {
  EXPECT_EQ(paths.size(), 1U);
  return paths.front();
}

void Flip(SimMachine& machine, const std::string& path, uint64_t position, int bit = 3) {
  std::string bytes = *machine.files.Contents(path);
  ASSERT_LT(position, bytes.size());
  bytes[position] = static_cast<char>(bytes[position] ^ (1 << bit));
  ASSERT_TRUE(machine.files.Overwrite(path, bytes).ok());
}

// Every byte, but few of those in the middle of padding.
uint64_t NextToTry(const std::string& bytes, uint64_t position) {
  const bool in_padding = bytes.compare(position, 100, std::string(100, '\0')) == 0;
  return position + (in_padding ? 97 : 1);
}

// Appends `count` records from number `begin` on, each acknowledged, and lets the process die.
void AppendAndDie(SimMachine& machine, Durability durability, uint64_t begin, uint64_t count,
                  uint64_t segment_bytes = kLargeSegment) {
  auto log = machine.Open(durability, segment_bytes);
  ASSERT_TRUE(log.ok()) << log.status().ToString();
  for (uint64_t i = begin; i < begin + count; ++i) {
    ASSERT_TRUE(AppendOne(**log, Payload(i)).ok());
    ASSERT_TRUE((*log)->WaitDurable(Offset(i)).ok());
  }
  machine.files.ProcessDeath();
}

TEST(Recovery, ATailCutAtAnyByteLosesOnlyTheRecordsItCutsAndSaysSo) {
  SimMachine original(1);
  AppendAndDie(original, Durability::kProcess, 0, 12);
  const std::string path = Only(original.SegmentPaths());
  const std::string bytes = *original.files.Contents(path);
  const Layout layout = LayoutOf(original, path);
  for (uint64_t size = 0; size <= bytes.size(); size = size < bytes.size() ? NextToTry(bytes, size) : size + 1) {
    SimMachine machine(2);
    ASSERT_TRUE(machine.files.Overwrite(path, bytes.substr(0, size)).ok());
    auto log = machine.Open(Durability::kProcess, kLargeSegment);
    ASSERT_TRUE(log.ok()) << "cut to " << size << ": " << log.status().ToString();
    uint64_t whole = 0;
    uint64_t whole_end = size < kSectorBytes ? kSegmentHeaderBytes : kSectorBytes;
    for (size_t i = 0; i < layout.begins.size(); ++i) {
      const uint64_t end = i + 1 < layout.begins.size() ? layout.begins[i + 1] : layout.end;
      if (end <= size) whole = layout.ends[i].value();
      if (end <= size) whole_end = end;
    }
    EXPECT_EQ(MustReadAll(**log), Payloads(0, whole)) << "cut to " << size;
    const RecoveryReport& report = (*log)->recovery();
    EXPECT_EQ(report.tail_was_cut, size != whole_end);
    if (report.tail_was_cut) {
      EXPECT_EQ(report.file, path);
      if (size > kSegmentHeaderBytes) {
        EXPECT_EQ(report.position, whole_end);
        EXPECT_EQ(report.bytes_cut, size - whole_end);
      }
      EXPECT_FALSE(report.reason.empty());
    }
    ASSERT_TRUE(AppendOne(**log, Payload(whole)).ok());
    *log = nullptr;
    EXPECT_EQ(MustReadAll(**machine.Open(Durability::kProcess, kLargeSegment)), Payloads(0, whole + 1));
  }
}

TEST(Recovery, AFlippedBitInAnyByteOfAMiddleRecordIsCorruptionNamingFileAndByte) {
  for (const Durability durability : {Durability::kProcess, Durability::kFsync}) {
    SimMachine machine(1);
    AppendAndDie(machine, durability, 0, 12);
    const std::string path = Only(machine.SegmentPaths());
    const std::string good = *machine.files.Contents(path);
    const Layout layout = LayoutOf(machine, path);
    const uint64_t begin = layout.begins[5];
    for (uint64_t position = begin; position < layout.begins[6]; position = NextToTry(good, position)) {
      ASSERT_TRUE(machine.files.Overwrite(path, good).ok());
      Flip(machine, path, position, static_cast<int>(position % 8));
      const std::string corrupt = *machine.files.Contents(path);
      const Status status = machine.Open(durability, kLargeSegment).status();
      ASSERT_EQ(status.code(), StatusCode::kDataLoss) << "byte " << position;
      EXPECT_NE(status.message().find(path), std::string_view::npos) << status.ToString();
      // Behind the record itself there may be padding, which has a place of its own.
      const bool names_the_batch = status.message().find(fmt::format("byte {} ", begin)) != std::string_view::npos;
      EXPECT_TRUE(names_the_batch || durability == Durability::kFsync) << status.ToString();
      EXPECT_EQ(*machine.files.Contents(path), corrupt) << "a corrupt file is evidence and is not touched";
    }
  }
}

TEST(Recovery, AFlippedBitAnywhereIsFoundWhileTheMachineHasNotRestarted) {
  SimMachine machine(1);
  AppendAndDie(machine, Durability::kFsync, 0, 6);
  const std::string path = Only(machine.SegmentPaths());
  const std::string good = *machine.files.Contents(path);
  // The last record, too: a killed process leaves a prefix of what it wrote, never other bytes.
  for (uint64_t position = 0; position < good.size(); position = NextToTry(good, position)) {
    ASSERT_TRUE(machine.files.Overwrite(path, good).ok());
    Flip(machine, path, position);
    const Status status = machine.Open(Durability::kFsync, kLargeSegment).status();
    ASSERT_EQ(status.code(), StatusCode::kDataLoss) << "byte " << position << ": " << status.ToString();
  }
}

TEST(Recovery, AFlippedBitAnywhereInACleanlyClosedLogIsFoundAfterARestartOfTheMachineToo) {
  SimMachine machine(1);
  {
    auto log = *machine.Open(Durability::kProcess, kLargeSegment);
    for (uint64_t i = 0; i < 6; ++i) ASSERT_TRUE(AppendOne(*log, Payload(i)).ok());
    ASSERT_TRUE(log->Close().ok());
  }
  machine.files.PowerCut();
  const std::string path = Only(machine.SegmentPaths());
  const std::string good = *machine.files.Contents(path);
  // The padding behind the last record and the mark itself can go without harm: there is nothing in them.
  const std::string last = Payload(5);
  const uint64_t end = good.rfind(last) + last.size();
  for (uint64_t position = 0; position < end; position = NextToTry(good, position)) {
    ASSERT_TRUE(machine.files.Overwrite(path, good).ok());
    Flip(machine, path, position);
    const Status status = machine.Open(Durability::kProcess, kLargeSegment).status();
    ASSERT_EQ(status.code(), StatusCode::kDataLoss) << "byte " << position << ": " << status.ToString();
  }
}

TEST(Recovery, AfterAPowerCutABrokenRecordIsCorruptionWhenALaterOneSawItOnTheDisk) {
  SimMachine machine(1);
  {
    auto log = *machine.Open(Durability::kFsync, kLargeSegment);
    for (uint64_t i = 0; i < 5; ++i) ASSERT_TRUE(AppendOne(*log, Payload(i)).ok());
    ASSERT_TRUE(log->WaitDurable(Offset(4)).ok());
    ASSERT_TRUE(AppendOne(*log, Payload(5)).ok());
    ASSERT_TRUE(log->WaitDurable(Offset(5)).ok());
    machine.files.PowerCut();
  }
  const std::string path = Only(machine.SegmentPaths());
  const Layout layout = LayoutOf(machine, path);
  Flip(machine, path, layout.begins[2] + kBatchHeaderBytes + 6);
  const Status status = machine.Open(Durability::kFsync, kLargeSegment).status();
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_NE(status.message().find(fmt::format("{} is corrupt at byte {} (record 2)", path, layout.begins[2])),
            std::string_view::npos)
      << status.ToString();
}

TEST(Recovery, AfterAPowerCutAnUnsyncedTailTornInItsMiddleIsCutAndNotCalledCorrupt) {
  SimMachine machine(1);
  {
    auto log = *machine.Open(Durability::kFsync, kLargeSegment);
    ASSERT_TRUE(AppendOne(*log, Payload(0)).ok());
    ASSERT_TRUE(log->WaitDurable(Offset(0)).ok());
    for (uint64_t i = 1; i < 6; ++i) ASSERT_TRUE(AppendOne(*log, Payload(i)).ok());
    // All sectors were kept but the one with record 3.
    const std::string path = Only(machine.SegmentPaths());
    const std::string bytes = *machine.files.Contents(path);
    machine.files.PowerCut();
    ASSERT_TRUE(machine.files.Overwrite(path, bytes).ok());
    Flip(machine, path, LayoutOf(machine, path).begins[3]);
  }
  auto log = machine.Open(Durability::kFsync, kLargeSegment);
  ASSERT_TRUE(log.ok()) << log.status().ToString();
  EXPECT_TRUE((*log)->recovery().tail_was_cut);
  EXPECT_EQ(MustReadAll(**log), Payloads(0, 3));
}

// Once the padding before the next sector was written after the sync that it stood behind: the power went while the
// sector that held both was written, and took acknowledged records along.
TEST(Recovery, RecordsWrittenLaterNeverPutAcknowledgedOnesAtRisk) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SimMachine machine(seed);
    {
      auto log = *machine.Open(Durability::kFsync, kLargeSegment);
      ASSERT_TRUE(AppendOne(*log, Payload(0)).ok());
      ASSERT_TRUE(log->WaitDurable(Offset(0)).ok());
      ASSERT_TRUE(AppendOne(*log, Payload(1)).ok());
      machine.files.PowerCut();
    }
    for (int opening = 0; opening < 2; ++opening) {
      auto log = machine.Open(Durability::kFsync, kLargeSegment);
      ASSERT_TRUE(log.ok()) << "seed " << seed << ": " << log.status().ToString();
      ASSERT_GE((*log)->end().value(), 1U) << "seed " << seed;
      // And cutting off the torn tail is no risk to them either.
      machine.files.PowerCut();
    }
  }
}

TEST(Recovery, ARecordWrittenAfterARestartProvesAllThatWasBeforeTheRestart) {
  for (size_t batch = 0; batch < 4; ++batch) {
    for (const bool restart_again : {false, true}) {
      SimMachine machine(1);
      {
        auto log = *machine.Open(Durability::kProcess, kLargeSegment);
        for (uint64_t i = 0; i < 4; ++i) ASSERT_TRUE(AppendOne(*log, Payload(i)).ok());
        ASSERT_TRUE(log->Sync().ok());
        machine.files.PowerCut();
      }
      // Opening found records 0 to 3 good, so what is broken now broke later.
      AppendAndDie(machine, Durability::kProcess, 4, 1);
      const std::string path = Only(machine.SegmentPaths());
      Flip(machine, path, LayoutOf(machine, path).begins[batch] + 20);
      if (restart_again) {
        const std::string broken = *machine.files.Contents(path);
        machine.files.PowerCut();
        ASSERT_TRUE(machine.files.Overwrite(path, broken).ok());
      }
      EXPECT_EQ(machine.Open(Durability::kProcess, kLargeSegment).status().code(), StatusCode::kDataLoss)
          << "batch " << batch << ", restarted again: " << restart_again;
    }
  }
}

TEST(Recovery, CorruptionInAnOlderSegmentIsFoundWhenItIsReadAndNamed) {
  SimMachine machine(1);
  AppendAndDie(machine, Durability::kProcess, 0, 100, kSegmentBytesMin);
  const std::vector<std::string> paths = machine.SegmentPaths();
  ASSERT_GT(paths.size(), 2U);
  const std::string good = *machine.files.Contents(paths[1]);
  const Layout layout = LayoutOf(machine, paths[1]);
  for (uint64_t position = kSegmentHeaderBytes; position < good.size(); position += 7) {
    ASSERT_TRUE(machine.files.Overwrite(paths[1], good).ok());
    Flip(machine, paths[1], position);
    auto log = machine.Open(Durability::kProcess, kSegmentBytesMin);
    ASSERT_TRUE(log.ok()) << log.status().ToString();
    const auto all = ReadAll(**log, Offset(0));
    ASSERT_EQ(all.status().code(), StatusCode::kDataLoss) << "byte " << position;
    EXPECT_NE(all.status().message().find(paths[1] + " is corrupt at byte "), std::string_view::npos);
    // What does not need the corrupt segment can still be read.
    EXPECT_TRUE(ReadAll(**log, *ParseSegmentName(paths[2].substr(kFolder.size() + 1))).ok());
  }
  for (uint64_t position = 0; position < kSegmentHeaderBytes; ++position) {
    ASSERT_TRUE(machine.files.Overwrite(paths[1], good).ok());
    Flip(machine, paths[1], position);
    const Status status = machine.Open(Durability::kProcess, kSegmentBytesMin).status();
    ASSERT_EQ(status.code(), StatusCode::kDataLoss);
    EXPECT_NE(status.message().find(paths[1]), std::string_view::npos);
  }
}

TEST(Recovery, AnOlderSegmentCutShortAtAnyByteIsFoundWhenItIsRead) {
  SimMachine machine(1);
  AppendAndDie(machine, Durability::kProcess, 0, 100, kSegmentBytesMin);
  const std::string path = machine.SegmentPaths()[1];
  const std::string good = *machine.files.Contents(path);
  const size_t data_end = good.find_last_not_of('\0') + 1;
  for (uint64_t size = kSegmentHeaderBytes; size < data_end; size += 29) {
    ASSERT_TRUE(machine.files.Overwrite(path, good.substr(0, size)).ok());
    auto log = machine.Open(Durability::kProcess, kSegmentBytesMin);
    ASSERT_TRUE(log.ok()) << log.status().ToString();
    const auto all = ReadAll(**log, Offset(0));
    ASSERT_EQ(all.status().code(), StatusCode::kDataLoss) << "cut to " << size;
    EXPECT_NE(all.status().message().find(path), std::string_view::npos);
  }
}

TEST(Recovery, AMissingSegmentInTheMiddleIsDataLoss) {
  SimMachine machine(1);
  AppendAndDie(machine, Durability::kProcess, 0, 100, kSegmentBytesMin);
  const std::vector<std::string> paths = machine.SegmentPaths();
  ASSERT_TRUE(machine.files.Remove(paths[1]).ok());
  auto log = machine.Open(Durability::kProcess, kSegmentBytesMin);
  ASSERT_TRUE(log.ok());
  const auto all = ReadAll(**log, Offset(0));
  EXPECT_EQ(all.status().code(), StatusCode::kDataLoss);
  EXPECT_NE(all.status().message().find(paths[0]), std::string_view::npos);
}

TEST(Recovery, SegmentsThatChangedTheirNamesAreDataLoss) {
  SimMachine machine(1);
  AppendAndDie(machine, Durability::kProcess, 0, 100, kSegmentBytesMin);
  const std::vector<std::string> paths = machine.SegmentPaths();
  ASSERT_TRUE(machine.files.Rename(paths[2], paths[1]).ok());
  EXPECT_EQ(machine.Open(Durability::kProcess, kSegmentBytesMin).status().code(), StatusCode::kDataLoss);
}

TEST(Recovery, BatchesOfAnotherSegmentAreNotTakenForThisOnes) {
  // Two logs with the same records: their batches differ in the segment's salt alone.
  SimMachine ours(1);
  SimMachine theirs(2);
  AppendAndDie(ours, Durability::kProcess, 0, 4);
  AppendAndDie(theirs, Durability::kProcess, 0, 4);
  const std::string path = Only(ours.SegmentPaths());
  const Layout layout = LayoutOf(ours, path);
  std::string bytes = *ours.files.Contents(path);
  bytes.replace(layout.begins[2], layout.begins[3] - layout.begins[2],
                theirs.files.Contents(path)->substr(layout.begins[2], layout.begins[3] - layout.begins[2]));
  ASSERT_TRUE(ours.files.Overwrite(path, bytes).ok());
  EXPECT_EQ(ours.Open(Durability::kProcess, kLargeSegment).status().code(), StatusCode::kDataLoss);
}

TEST(Recovery, ATornTailWhosePayloadLooksLikeALogIsStillATornTail) {
  SimMachine machine(1);
  AppendAndDie(machine, Durability::kFsync, 0, 4);
  const std::string path = Only(machine.SegmentPaths());
  const std::string segment = *machine.files.Contents(path);
  // A client stores a segment of another log, with higher offsets and more synced than ours.
  const std::string fake_batch = [] {
    BatchHeader header;
    header.kind = BatchKind::kMark;
    header.first = Offset(1000);
    header.synced = Offset(1000);
    const auto bytes = EncodeBatchHeader(header, 12345);
    return std::string(bytes.data(), bytes.size());
  }();
  {
    auto log = *machine.Open(Durability::kFsync, kLargeSegment);
    ASSERT_TRUE(AppendOne(*log, segment + fake_batch).ok());
    const std::string bytes = *machine.files.Contents(path);
    machine.files.PowerCut();
    ASSERT_TRUE(machine.files.Overwrite(path, bytes).ok());
  }
  Flip(machine, path, LayoutOf(machine, path).begins.back() + kBatchHeaderBytes + 1);
  auto log = machine.Open(Durability::kFsync, kLargeSegment);
  ASSERT_TRUE(log.ok()) << log.status().ToString();
  EXPECT_TRUE((*log)->recovery().tail_was_cut);
  EXPECT_EQ(MustReadAll(**log), Payloads(0, 4));
}

TEST(Recovery, ASegmentThatWasNotFinishedWhenItWasMadeKeepsItsPlaceInTheOffsets) {
  SimMachine machine(1);
  AppendAndDie(machine, Durability::kProcess, 0, 3);
  for (const uint64_t size : {uint64_t{0}, uint64_t{1}, kSegmentHeaderBytes - 1, kSegmentHeaderBytes,
                              kSegmentHeaderBytes + 1, kSectorBytes - 1, kSectorBytes}) {
    const std::string made = "/log/" + SegmentName(Offset(3));
    ASSERT_TRUE(machine.files.Overwrite(made, std::string(size, 'M')).ok());
    {
      auto log = machine.Open(Durability::kProcess, kLargeSegment);
      ASSERT_TRUE(log.ok()) << log.status().ToString();
      EXPECT_EQ((*log)->end().value(), 3U);
      EXPECT_TRUE((*log)->recovery().tail_was_cut);
      EXPECT_EQ(MustReadAll(**log), Payloads(0, 3));
    }
    ASSERT_TRUE(machine.files.Remove(made).ok());
  }
}

TEST(Recovery, AFolderThatDoesNotExistIsNotFound) {
  SimMachine machine(1);
  EXPECT_EQ(LocalLog::Open(machine.env(), "/absent", {}).status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace millstream::log

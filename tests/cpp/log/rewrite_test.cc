// Rewriting closed segments: what is kept keeps its offset, readers go on, and a crash anywhere leaves the old or the
// new.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "log_fixture.h"
#include "millstream/env/random.h"
#include "millstream/log/local_log.h"

namespace millstream::log {
namespace {

using storage::Durability;
using Records = std::map<uint64_t, std::string>;

// Removes the offsets that a number does not divide.
RecordEditor KeepMultiplesOf(uint64_t number) {
  return [number](const storage::LogRecord& record) -> Result<std::optional<std::string_view>> {
    if (record.offset.value() % number == 0) return std::optional(record.payload);
    return std::optional<std::string_view>();
  };
}

Result<Records> ReadRecords(const storage::Log& log, Offset from) {
  MS_ASSIGN_OR_RETURN(const std::unique_ptr<storage::LogReader> reader, log.Read(from));
  Records records;
  while (true) {
    MS_ASSIGN_OR_RETURN(const std::optional<storage::LogRecord> record, reader->Next());
    if (!record.has_value()) return records;
    if (!record->payload.empty()) records[record->offset.value()] = record->payload;
  }
}

Records MustRead(const storage::Log& log, Offset from) {
  auto records = ReadRecords(log, from);
  EXPECT_TRUE(records.ok()) << records.status().ToString();
  return records.ok() ? *records : Records();
}

Offset ClosedEnd(const LocalLog& log) {
  return log.active_start();
}

void AppendMany(LocalLog& log, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    ASSERT_TRUE(AppendOne(log, Payload(log.end().value())).ok());
  }
}

TEST(SegmentName, OfARewrittenSegmentReadsBackAndNothingElseDoes) {
  const RewrittenName name{.first = Offset(7), .end = Offset(900), .generation = 12};
  const std::string text = RewrittenSegmentName(name);
  EXPECT_EQ(text, "00000000000000000007-00000000000000000900.00000012.log");
  EXPECT_EQ(ParseRewrittenSegmentName(text), name);
  EXPECT_EQ(ParseSegmentName(text), std::nullopt);
  for (const std::string& other :
       {text + ".tmp", SegmentName(Offset(7)), std::string("00000000000000000900-00000000000000000007.00000012.log"),
        std::string("00000000000000000007-00000000000000000900.00000000.log"),
        std::string("00000000000000000007-0000000000000000090x.00000012.log")}) {
    EXPECT_EQ(ParseRewrittenSegmentName(other), std::nullopt) << other;
  }
}

TEST(Rewrite, WhatIsKeptKeepsItsOffsetAndTheRestIsPassedOver) {
  SimMachine machine(1);
  auto log = std::move(*machine.Open(Durability::kFsync));
  AppendMany(*log, 400);
  const uint64_t before = log->bytes();
  const auto report = log->Rewrite(log->start(), ClosedEnd(*log), KeepMultiplesOf(50));
  ASSERT_TRUE(report.ok()) << report.status().ToString();
  EXPECT_LT(log->bytes(), before / 2);
  EXPECT_EQ(report->bytes_before - report->bytes_after, before - log->bytes());
  const auto check = [&] {
    const uint64_t closed = ClosedEnd(*log).value();
    Records expected;
    for (uint64_t i = 0; i < 400; ++i) {
      if (i >= closed || i % 50 == 0) expected[i] = Payload(i);
    }
    // From every offset, in a gap or not.
    for (uint64_t from = 0; from <= 400; from += 7) {
      ASSERT_EQ(MustRead(*log, Offset(from)), Records(expected.lower_bound(from), expected.end())) << from;
    }
    EXPECT_EQ(log->end(), Offset(400));
    EXPECT_EQ(log->start(), Offset(0));
  };
  check();
  EXPECT_EQ(log->Spans().size(), 2U);
  log = nullptr;
  log = std::move(*machine.Open(Durability::kFsync));
  check();
  // Again, and all of it.
  ASSERT_TRUE(log->Rewrite(log->start(), ClosedEnd(*log), KeepMultiplesOf(1'000'000'007)).ok());
  EXPECT_EQ(MustRead(*log, Offset(1)).begin()->first, ClosedEnd(*log).value());
  EXPECT_EQ(machine.files.List(std::string(kFolder))->size(), 2U);
}

TEST(Rewrite, OnlyWholeClosedSegmentsAreTaken) {
  SimMachine machine(1);
  auto log = std::move(*machine.Open(Durability::kFsync));
  AppendMany(*log, 200);
  const auto spans = log->Spans();
  ASSERT_GT(spans.size(), 3U);
  EXPECT_EQ(log->Rewrite(Offset(1), spans[1].first, KeepMultiplesOf(2)).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(log->Rewrite(Offset(0), log->end(), KeepMultiplesOf(2)).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(log->Rewrite(Offset(0), Offset(0), KeepMultiplesOf(2)).status().code(), StatusCode::kNotFound);
  EXPECT_TRUE(log->Rewrite(spans[1].first, spans[2].first, KeepMultiplesOf(2)).ok());
  ASSERT_TRUE(log->Close().ok());
  EXPECT_EQ(log->Rewrite(Offset(0), spans[1].first, KeepMultiplesOf(2)).status().code(), StatusCode::kAborted);
}

TEST(Rewrite, AReaderInTheMiddleOfAnOldSegmentGoesOn) {
  for (uint64_t stop = 0; stop < 190; stop += 3) {
    SimMachine machine(1);
    auto log = std::move(*machine.Open(Durability::kFsync));
    AppendMany(*log, 200);
    const auto reader = std::move(*log->Read(Offset(0)));
    for (uint64_t i = 0; i < stop; ++i) ASSERT_EQ((*reader->Next())->offset, Offset(i));
    ASSERT_TRUE(log->Rewrite(log->start(), ClosedEnd(*log), KeepMultiplesOf(10)).ok());
    uint64_t next = stop;
    while (true) {
      const auto record = reader->Next();
      ASSERT_TRUE(record.ok()) << record.status().ToString();
      if (!record->has_value()) break;
      const uint64_t offset = (*record)->offset.value();
      if ((*record)->payload.empty()) continue;
      ASSERT_GE(offset, next);
      ASSERT_EQ((*record)->payload, Payload(offset));
      // None of those that stay is missing.
      for (uint64_t i = next; i < offset; ++i) ASSERT_NE(i % 10, 0U) << "after " << stop;
      next = offset + 1;
    }
    ASSERT_EQ(next, 200U);
  }
}

TEST(Rewrite, AReplacedRecordHasOtherBytesAtTheSameOffset) {
  SimMachine machine(1);
  auto log = std::move(*machine.Open(Durability::kFsync));
  AppendMany(*log, 100);
  ASSERT_TRUE(log->Seal().ok());
  ASSERT_TRUE(log->Seal().ok());
  EXPECT_EQ(log->active_start(), Offset(100));
  std::string bytes;
  const RecordEditor edit = [&](const storage::LogRecord& record) -> Result<std::optional<std::string_view>> {
    bytes = fmt::format("new {}", record.offset.value());
    return std::optional<std::string_view>(bytes);
  };
  ASSERT_TRUE(log->Rewrite(Offset(0), Offset(100), edit).ok());
  EXPECT_EQ(MustRead(*log, Offset(0)).at(77), "new 77");
  // An editor that fails leaves everything as it is.
  const RecordEditor fails = [](const storage::LogRecord&) -> Result<std::optional<std::string_view>> {
    return Internal("no");
  };
  EXPECT_EQ(log->Rewrite(Offset(0), Offset(100), fails).status().code(), StatusCode::kInternal);
  EXPECT_EQ(MustRead(*log, Offset(0)).size(), 100U);
  EXPECT_EQ(machine.files.List(std::string(kFolder))->size(), 2U);
}

// What the outside world was told of a log whose records are numbered.
struct Oracle {
  uint64_t acknowledged = 0;    // records below are promised
  uint64_t tried = 0;           // records below may be there
  uint64_t let_go = 0;          // records below may be gone
  std::set<uint64_t> removed;   // by rewritings that were answered
  std::set<uint64_t> removing;  // tried
};

// At the durability `process` where rolls are left to be finished: then `promise` says whether what was only appended
// must survive the crash that will come.
Durability DurabilityOf(const SimMachine& machine) {
  return machine.rolls == nullptr ? Durability::kFsync : Durability::kProcess;
}

void RunUntilCrash(SimMachine& machine, env::Random& random, bool promise, Oracle* oracle) {
  std::unique_ptr<LocalLog> log;
  for (int step = 0; step < 40; ++step) {
    if (machine.rolls != nullptr && random.Below(4) == 0) machine.rolls->FinishOne();
    if (log == nullptr) {
      auto opened = machine.Open(DurabilityOf(machine));
      if (!opened.ok()) return;
      log = std::move(*opened);
    }
    switch (random.Below(10)) {
      case 0:
        log = nullptr;
        break;
      case 1: {
        const uint64_t below = random.Below(oracle->acknowledged / 3 + 1);
        oracle->let_go = std::max(oracle->let_go, below);
        if (!log->TruncateBefore(Offset(below)).ok()) return;
        break;
      }
      case 2:
        if (!log->Seal().ok()) return;
        break;
      case 3:
      case 4:
      case 5: {
        const auto spans = log->Spans();
        if (spans.size() < 2) break;
        const size_t first = random.Below(spans.size() - 1);
        const size_t end = first + 1 + random.Below(spans.size() - 1 - first);
        const uint64_t number = 2 + random.Below(5);
        std::set<uint64_t> gone;
        for (uint64_t i = spans[first].first.value(); i < spans[end].first.value(); ++i) {
          if (i % number != 0) gone.insert(i);
        }
        oracle->removing.insert(gone.begin(), gone.end());
        if (!log->Rewrite(spans[first].first, spans[end].first, KeepMultiplesOf(number)).ok()) break;
        oracle->removed.insert(gone.begin(), gone.end());
        break;
      }
      default: {
        const uint64_t first = log->end().value();
        const std::vector<std::string> payloads = Payloads(first, first + 1 + random.Below(12));
        const std::vector<std::string_view> views(payloads.begin(), payloads.end());
        oracle->tried = std::max(oracle->tried, first + payloads.size());
        if (!log->Append(views).ok()) return;
        const bool sync = machine.rolls == nullptr || random.Below(5) == 0;
        if (sync && !log->Sync().ok()) return;
        if (sync || promise) oracle->acknowledged = first + payloads.size();
      }
    }
  }
}

void Check(SimMachine& machine, const Oracle& oracle, uint64_t* checked) {
  const auto opened = machine.Open(DurabilityOf(machine));
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  const LocalLog& log = **opened;
  const uint64_t start = log.start().value();
  const uint64_t end = log.end().value();
  ASSERT_LE(start, oracle.let_go);
  ASSERT_GE(end, oracle.acknowledged);
  ASSERT_LE(end, oracle.tried);
  const auto records = ReadRecords(log, log.start());
  ASSERT_TRUE(records.ok()) << records.status().ToString();
  for (uint64_t i = start; i < end; ++i) {
    const auto found = records->find(i);
    if (found == records->end()) {
      ASSERT_TRUE(oracle.removing.contains(i)) << "record " << i << " is lost";
    } else {
      ASSERT_EQ(found->second, Payload(i)) << "record " << i;
      ASSERT_FALSE(oracle.removed.contains(i)) << "record " << i << " came back";
      ++*checked;
    }
  }
  // Nothing of a rewriting stays beside what the log reads.
  const auto entries = machine.files.List(std::string(kFolder));
  ASSERT_TRUE(entries.ok());
  ASSERT_EQ(entries->size(), log.Spans().size());
}

void CrashEverywhere(bool power_cut, bool rolls_later, uint64_t seed, uint64_t stride) {
  const auto run = [=](SimMachine& machine, Oracle* oracle) {
    if (rolls_later) machine.LeaveRolls();
    env::SeededRandom random(seed);
    RunUntilCrash(machine, random, !power_cut, oracle);
  };
  uint64_t operations = 0;
  {
    SimMachine machine(seed);
    Oracle oracle;
    run(machine, &oracle);
    operations = machine.files.operations();
    EXPECT_FALSE(oracle.removed.empty());
  }
  uint64_t checked = 0;
  uint64_t crashes = 0;
  for (uint64_t at = 1; at < operations; at += stride, ++crashes) {
    SCOPED_TRACE(fmt::format("seed {}, crash at operation {} of {}", seed, at, operations));
    SimMachine machine(seed);
    machine.files.CrashAt(at);
    Oracle oracle;
    run(machine, &oracle);
    if (power_cut) {
      machine.files.PowerCut();
    } else {
      machine.files.ProcessDeath();
    }
    Check(machine, oracle, &checked);
    if (testing::Test::HasFatalFailure()) return;
  }
  fmt::print("seed {}: {} crashes, {} records checked\n", seed, crashes, checked);
}

TEST(Rewrite, APowerCutAtAnyOperationLeavesTheOldRecordsOrTheNew) {
  for (uint64_t seed = 1; seed <= 12; ++seed) CrashEverywhere(true, false, seed, 1 + seed % 3);
}

TEST(Rewrite, APowerCutWhileARollIsUnfinishedLeavesTheOldRecordsOrTheNew) {
  for (uint64_t seed = 41; seed <= 52; ++seed) CrashEverywhere(true, true, seed, 1 + seed % 3);
}

TEST(Rewrite, TheDeathOfTheProcessWhileARollIsUnfinishedLeavesTheOldRecordsOrTheNew) {
  for (uint64_t seed = 61; seed <= 66; ++seed) CrashEverywhere(false, true, seed, 1 + seed % 3);
}

TEST(Rewrite, TheDeathOfTheProcessAtAnyOperationLeavesTheOldRecordsOrTheNew) {
  for (uint64_t seed = 21; seed <= 26; ++seed) CrashEverywhere(false, false, seed, 1 + seed % 3);
}

TEST(Rewrite, AFailedOperationLeavesTheOldRecordsOrTheNew) {
  uint64_t checked = 0;
  for (const Status& failure : {ResourceExhausted("no space"), Internal("the device fails")}) {
    for (uint64_t at = 1; at < 500; at += 2) {
      SCOPED_TRACE(fmt::format("{} at operation {}", failure.ToString(), at));
      SimMachine machine(5);
      machine.files.FailAt(at, failure);
      Oracle oracle;
      env::SeededRandom random(5);
      RunUntilCrash(machine, random, true, &oracle);
      // Should it not have come to that, it does not come any more.
      machine.files.FailAt(0, failure);
      Check(machine, oracle, &checked);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
  EXPECT_GT(checked, 0U);
}

void AppendReadRemoveAndRewrite(bool rolls_later) {
  SimMachine machine(3);
  machine.many_threads = true;
  if (rolls_later) machine.rolls = std::make_unique<RollQueue>(machine.env().executor, "rolls");
  auto log = std::move(*machine.Open(Durability::kProcess));
  AppendMany(*log, 300);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> rewritings{0};
  std::thread rewriter([&] {
    uint64_t number = 2;
    while (!stop.load()) {
      const auto spans = log->Spans();
      if (spans.size() > 3 &&
          log->Rewrite(spans[0].first, spans[spans.size() - 2].first, KeepMultiplesOf(++number)).ok()) {
        ++rewritings;
      }
    }
  });
  std::vector<std::thread> readers;
  std::atomic<uint64_t> read{0};
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      while (!stop.load()) {
        auto reader = log->Read(log->start());
        if (!reader.ok()) continue;
        uint64_t least = 0;
        while (true) {
          const auto record = (*reader)->Next();
          if (!record.ok()) {
            // Removed under it, never corrupt.
            ASSERT_EQ(record.status().code(), StatusCode::kOutOfRange) << record.status().ToString();
            break;
          }
          if (!record->has_value()) break;
          ASSERT_GE((*record)->offset.value(), least);
          least = (*record)->offset.value() + 1;
          if ((*record)->payload.empty()) continue;
          ASSERT_EQ((*record)->payload, Payload((*record)->offset.value()));
          ++read;
        }
      }
    });
  }
  for (int i = 0; i < 60; ++i) {
    AppendMany(*log, 50);
    if (i % 10 == 9) ASSERT_TRUE(log->TruncateBefore(Offset(log->end().value() / 2)).ok());
  }
  // There is something to rewrite as long as segments come to be.
  while (rewritings.load() < 3) AppendMany(*log, 50);
  stop = true;
  rewriter.join();
  for (std::thread& reader : readers) reader.join();
  EXPECT_GT(read.load(), 0U);
}

TEST(Rewrite, AppendsReadersAndRemovalGoOnMeanwhile) {
  AppendReadRemoveAndRewrite(false);
}

TEST(Rewrite, AppendsReadersAndRemovalGoOnWhileRollsAreFinished) {
  AppendReadRemoveAndRewrite(true);
}

}  // namespace
}  // namespace millstream::log

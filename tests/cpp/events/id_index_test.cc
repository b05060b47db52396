#include "id_index.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "events_fixture.h"
#include "id_run.h"
#include "millstream/base/hash.h"
#include "millstream/env/file_util.h"
#include "millstream/env/random.h"

namespace millstream::events {
namespace {

constexpr uint64_t kIdSegmentBytes = 16 << 10;
constexpr auto kIdsFolder = "/data/events/1/0/ids";

// --- a run's file ---

Result<IdRunFile> OpenBytes(SimMachine& machine, std::string_view bytes) {
  auto file = machine.files.OpenForWrite("/data/run", env::OpenMode::kTruncate);
  EXPECT_TRUE(file.ok() && (*file)->Append(bytes).ok());
  auto opened = machine.files.OpenForRead("/data/run");
  EXPECT_TRUE(opened.ok());
  return IdRunFile::Open(std::move(*opened));
}

std::vector<uint64_t> OffsetsIn(const std::vector<IdEntry>& entries, uint64_t hash) {
  std::vector<uint64_t> offsets;
  for (const IdEntry& entry : entries) {
    if (entry.hash == hash) offsets.push_back(entry.offset);
  }
  return offsets;
}

TEST(IdRun, FindsEveryEntryHoweverHashesLie) {
  SimMachine machine(1);
  env::SeededRandom random(1);
  for (const size_t count : {0, 1, 254, 255, 256, 5000}) {
    for (const uint64_t spread : {uint64_t{0}, uint64_t{3}, uint64_t{700}, UINT64_MAX}) {
      SCOPED_TRACE(fmt::format("{} entries of {} hashes", count, spread));
      std::vector<IdEntry> entries;
      for (size_t i = 0; i < count; ++i) {
        // All of one hash, some of few, side by side, or anywhere.
        entries.push_back({spread == 0 ? 7 : random.Next64() % spread, i});
      }
      std::ranges::sort(entries);
      const std::string bytes = EncodeIdRun(0, count, entries);
      EXPECT_EQ(IdRunEntriesIn(bytes.size()), count);
      const auto run = OpenBytes(machine, bytes);
      ASSERT_TRUE(run.ok()) << run.status().ToString();
      EXPECT_EQ(*run->ReadAll(), entries);
      for (int i = 0; i < 50; ++i) {
        const bool is_there = count > 0 && i % 2 == 0;
        const uint64_t hash = is_there ? entries[random.Below(count)].hash : random.Next64();
        ASSERT_EQ(*run->Find(hash), OffsetsIn(entries, hash));
      }
    }
  }
}

TEST(IdRun, AnEntryIsFoundByAFewReads) {
  SimMachine machine(1);
  env::SeededRandom random(1);
  std::vector<IdEntry> entries;
  for (uint64_t i = 0; i < 200'000; ++i) entries.push_back({random.Next64(), i});
  std::ranges::sort(entries);
  const auto run = OpenBytes(machine, EncodeIdRun(0, entries.size(), entries));
  ASSERT_TRUE(run.ok());
  const uint64_t before = machine.files.operations(env::SimFileSystem::Operation::kRead);
  for (int i = 0; i < 1000; ++i) {
    const IdEntry& entry = entries[random.Below(entries.size())];
    ASSERT_EQ(*run->Find(entry.hash), std::vector<uint64_t>{entry.offset});
    ASSERT_TRUE(run->Find(random.Next64())->empty());
  }
  // Of 785 blocks.
  EXPECT_LT(machine.files.operations(env::SimFileSystem::Operation::kRead) - before, 2000U * 3);
}

TEST(IdRun, BrokenBytesAreSeenAndAnswerNothing) {
  SimMachine machine(1);
  std::vector<IdEntry> entries;
  for (uint64_t i = 0; i < 300; ++i) entries.push_back({i << 40, i});
  const std::string bytes = EncodeIdRun(10, 400, entries);
  for (size_t i = 0; i < bytes.size(); i += i < 40 ? 1 : 7) {
    std::string broken = bytes;
    broken[i] = static_cast<char>(broken[i] ^ 0x10);
    const auto run = OpenBytes(machine, broken);
    ASSERT_FALSE(run.ok() && run->ReadAll().ok()) << "byte " << i;
  }
  for (size_t size = 0; size < bytes.size(); size += 13) {
    ASSERT_FALSE(OpenBytes(machine, bytes.substr(0, size)).ok()) << size << " bytes";
  }
  // A block of another run, or of another place, is none of this one's.
  const std::string other = EncodeIdRun(11, 400, entries);
  ASSERT_FALSE(OpenBytes(machine, bytes.substr(0, 36) + other.substr(36))->ReadAll().ok());
}

// --- over a broker ---

// Publishes events with ids, in batches, and asks for them.
class IdMachine {
 public:
  explicit IdMachine(uint64_t seed, storage::Durability durability = storage::Durability::kFsync,
                     uint64_t segment_bytes = kIdSegmentBytes)
      : machine(seed), durability_(durability), segment_bytes_(segment_bytes) {
    machine.many_threads = true;
    Reopen();
  }

  void Reopen() {
    broker = nullptr;
    broker = machine.MustOpen(durability_, kOpenLogsMax, segment_bytes_);
  }

  static std::string IdOf(uint64_t number) { return fmt::format("id-{}", number); }

  // Events of these numbers.
  void Publish(uint64_t first, uint64_t count, size_t payload_bytes = 20, std::string_view topic = "t") {
    const std::string payload(payload_bytes, 'p');
    for (uint64_t begin = first; begin < first + count; begin += 500) {
      std::vector<std::string> ids;
      for (uint64_t i = begin; i < std::min(begin + 500, first + count); ++i) ids.push_back(IdOf(i));
      std::vector<PublishEvent> events;
      for (const std::string& id : ids) {
        events.push_back(Text(topic, payload));
        events.back().event.client_id = id;
      }
      for (const auto& answer : broker->Publish(kTenant, events)) {
        ASSERT_TRUE(answer.ok()) << answer.status().ToString();
      }
    }
  }

  void ExpectAt(uint64_t number, uint64_t offset) const {
    const auto found = broker->StatusOf(kTenant, IdOf(number));
    ASSERT_TRUE(found.ok()) << number << ": " << found.status().ToString();
    ASSERT_EQ(found->event.offset, offset) << number;
  }
  void ExpectNone(uint64_t number) const {
    EXPECT_EQ(broker->StatusOf(kTenant, IdOf(number)).status().code(), StatusCode::kNotFound) << number;
  }

  std::vector<std::string> RunFiles() {
    std::vector<std::string> names;
    const auto entries = machine.files.List(kIdsFolder);
    if (!entries.ok()) return names;
    for (const env::FolderEntry& entry : *entries) names.push_back(entry.name);
    return names;
  }

  // Reads that a search takes. Those of a merge behind the writer count, too, but not every time.
  uint64_t ReadsFor(uint64_t number, bool is_there = true) {
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 10; ++i) {
      const uint64_t before = machine.files.operations(env::SimFileSystem::Operation::kRead);
      EXPECT_EQ(broker->StatusOf(kTenant, IdOf(number)).ok(), is_there);
      least = std::min(least, machine.files.operations(env::SimFileSystem::Operation::kRead) - before);
    }
    return least;
  }

  SimMachine machine;
  std::shared_ptr<Broker> broker;

 private:
  const storage::Durability durability_;
  const uint64_t segment_bytes_;
};

TEST(IdIndex, AnEventIsFoundByItsClientsIdHoweverManyCameSince) {
  for (const auto durability : {storage::Durability::kFsync, storage::Durability::kProcess}) {
    IdMachine ids(1, durability, 1 << 20);
    MustCreate(*ids.broker, "t");
    constexpr uint64_t kEvents = 70'000;
    ids.Publish(0, kEvents);
    for (int opened = 0; opened < 3; ++opened) {
      for (const uint64_t number : {uint64_t{0}, uint64_t{1}, uint64_t{12'345}, uint64_t{50'000}, kEvents - 1}) {
        ids.ExpectAt(number, number);
      }
      ids.ExpectNone(kEvents);
      // What an unknown id costs now: some runs, and nothing that grows with the events.
      EXPECT_LT(ids.ReadsFor(kEvents + 1, false), 120U) << opened;
      EXPECT_LT(ids.ReadsFor(0), 120U) << opened;
      ids.Reopen();
    }
  }
}

TEST(IdIndex, TheNewestOfSeveralEventsOfAnIdIsTheOneThatIsFound) {
  IdMachine ids(2);
  MustCreate(*ids.broker, "t");
  ids.Publish(0, 20'000);
  // It is not known any more, so it is another event.
  ids.Publish(5, 1);
  ids.ExpectAt(5, 20'000);
  ids.Publish(20'000, 20'000);
  ids.ExpectAt(5, 20'000);
  ids.Reopen();
  ids.ExpectAt(5, 20'000);
}

TEST(IdIndex, RunsThatAreMissingOrBrokenAreMadeAgain) {
  env::SeededRandom random(3);
  IdMachine ids(3, storage::Durability::kFsync, 64 << 10);
  MustCreate(*ids.broker, "t");
  constexpr uint64_t kEvents = 40'000;
  ids.Publish(0, kEvents);
  for (int round = 0; round < 12; ++round) {
    ids.ExpectAt(0, 0);
    // While it is open, and when it is opened again.
    const bool is_open = round % 2 == 0;
    if (!is_open) ids.broker = nullptr;
    const std::vector<std::string> names = ids.RunFiles();
    ASSERT_FALSE(names.empty());
    for (const std::string& name : names) {
      const std::string path = std::string(kIdsFolder) + "/" + name;
      // Perhaps it has been merged meanwhile.
      const auto read = env::ReadFile(ids.machine.files, path, 64 << 20);
      if (!read.ok()) continue;
      std::string bytes = *read;
      switch ((round + random.Below(2)) % 4) {
        case 0:
          (void)ids.machine.files.Remove(path).ok();
          continue;
        case 1:
          bytes.resize(random.Below(bytes.size()));
          break;
        case 2:
          for (int i = 0; i < 20; ++i) bytes[random.Below(bytes.size())] = static_cast<char>(random.Next64());
          break;
        default:
          bytes += "more";
          break;
      }
      auto file = ids.machine.files.OpenForWrite(path, env::OpenMode::kTruncate);
      ASSERT_TRUE(file.ok() && (*file)->Append(bytes).ok());
    }
    if (!is_open) ids.Reopen();
    ids.ExpectNone(kEvents);
    for (int i = 0; i < 20; ++i) {
      const uint64_t number = random.Below(kEvents);
      ids.ExpectAt(number, number);
    }
    ids.ExpectAt(0, 0);
    EXPECT_LT(ids.ReadsFor(kEvents, false), 150U) << "round " << round;
  }
}

TEST(IdIndex, AFolderFromBeforeThereWereRunsIsReadOnce) {
  IdMachine ids(4);
  MustCreate(*ids.broker, "t");
  ids.Publish(0, 20'000);
  ids.broker = nullptr;
  ASSERT_TRUE(env::RemoveTree(ids.machine.files, kIdsFolder).ok());
  ids.Reopen();
  ids.ExpectAt(3, 3);
  EXPECT_LT(ids.ReadsFor(3), 150U);
  // Upkeep does it unasked.
  ids.broker = nullptr;
  ASSERT_TRUE(env::RemoveTree(ids.machine.files, kIdsFolder).ok());
  ids.Reopen();
  ASSERT_TRUE(ids.broker->DescribeTopic(kTenant, "t").ok());
  for (int i = 0; i < 40; ++i) ids.broker->Maintain(false);
  EXPECT_LT(ids.ReadsFor(3), 150U);
}

TEST(IdIndex, EventsWithoutIdsLeaveNothingToLookThrough) {
  IdMachine ids(5);
  MustCreate(*ids.broker, "t");
  const std::string payload(1000, 'p');
  for (int i = 0; i < 2000; ++i) ASSERT_TRUE(PublishOne(*ids.broker, Text("t", payload)).ok());
  ids.ExpectNone(1);
  ids.Reopen();
  ids.ExpectNone(1);
  EXPECT_LT(ids.ReadsFor(1, false), 10U);
}

TEST(IdIndex, RetentionTakesTheRunsOfWhatGoes) {
  IdMachine ids(6);
  MustCreate(*ids.broker, "t");
  ids.Publish(0, 30'000);
  ids.ExpectAt(0, 0);
  ASSERT_TRUE(ids.broker->AlterTopic(kTenant, "t", {.retention_bytes = 100'000}).ok());
  ids.broker->Maintain(true);
  const uint64_t start = ids.broker->DescribeTopic(kTenant, "t")->partitions[0].start_offset;
  ASSERT_GT(start, 20'000U);
  ids.ExpectNone(0);
  ids.ExpectNone(start - 1);
  ids.ExpectAt(start, start);
  ids.broker = nullptr;  // what is done behind the writer has been done then
  for (const std::string& name : ids.RunFiles()) EXPECT_GT(std::stoull(name.substr(21, 20)), start) << name;
}

TEST(IdIndex, WhatCompactionTookIsNotFoundAndWhatItLeftIs) {
  IdMachine ids(7);
  MustCreate(*ids.broker, "t", {.cleanup = TopicCleanup::kCompact, .min_dirty_ratio = 0});
  constexpr uint64_t kEvents = 40'000;
  for (uint64_t begin = 0; begin < kEvents; begin += 500) {
    std::vector<std::string> names;
    std::vector<std::string> keys;
    for (uint64_t i = begin; i < begin + 500; ++i) {
      names.push_back(IdMachine::IdOf(i));
      // Every hundredth has a key of its own.
      keys.push_back(i % 100 == 0 ? fmt::format("k{}", i) : "same");
    }
    std::vector<PublishEvent> events;
    for (size_t i = 0; i < names.size(); ++i) {
      events.push_back(Text("t", "payload"));
      events.back().event.client_id = names[i];
      events.back().event.key = keys[i];
    }
    for (const auto& answer : ids.broker->Publish(kTenant, events)) ASSERT_TRUE(answer.ok());
  }
  ids.ExpectAt(1, 1);
  ids.broker->Maintain(true);
  for (int opened = 0; opened < 2; ++opened) {
    ids.ExpectNone(1);
    ids.ExpectNone(20'001);
    ids.ExpectNone(kEvents - 2);
    ids.ExpectAt(0, 0);
    ids.ExpectAt(20'000, 20'000);
    ids.ExpectAt(kEvents - 1, kEvents - 1);
    ids.Reopen();
  }
}

TEST(IdIndex, ATopicInMemoryFindsWhatItStillHolds) {
  IdMachine ids(8);
  MustCreate(*ids.broker, "t", {.durability = TopicDurability::kEphemeral});
  constexpr uint64_t kEvents = 200'000;
  ids.Publish(0, kEvents, 100);
  const uint64_t start = ids.broker->DescribeTopic(kTenant, "t")->partitions[0].start_offset;
  ASSERT_GT(start, 0U);
  ASSERT_LT(start, kEvents - 30'000);
  ids.ExpectNone(start - 1);
  ids.ExpectAt(start, start);
  ids.ExpectAt(kEvents - 20'000, kEvents - 20'000);
  ids.ExpectAt(kEvents - 1, kEvents - 1);
}

TEST(IdIndex, ADiskThatTakesNoRunsHidesNoEvent) {
  IdMachine ids(9);
  MustCreate(*ids.broker, "t");
  ids.Publish(0, 20'000);
  ids.broker = nullptr;
  ASSERT_TRUE(env::RemoveTree(ids.machine.files, kIdsFolder).ok());
  ids.Reopen();
  ids.machine.files.SetCapacity(ids.machine.files.used_bytes());
  ids.ExpectAt(3, 3);
  ids.ExpectNone(20'000);
  EXPECT_TRUE(ids.RunFiles().empty());
}

TEST(IdIndex, ATopicThatIsDeletedTakesItsRunsAlong) {
  IdMachine ids(10);
  MustCreate(*ids.broker, "t");
  ids.Publish(0, 20'000);
  ASSERT_TRUE(ids.broker->DeleteTopic(kTenant, "t").ok());
  EXPECT_FALSE(*ids.machine.files.Exists("/data/events/1"));
  ids.ExpectNone(0);
}

// Ids of events that a power cut took must not stand for those that take their offsets.
TEST(IdIndex, APowerCutNeverMakesAnIdLeadElsewhere) {
  uint64_t lost = 0;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(seed);
    IdMachine ids(seed, storage::Durability::kProcess, 64 << 10);
    env::SeededRandom random(seed);
    MustCreate(*ids.broker, "t");
    ids.Reopen();                   // so that the topic outlives the power cut
    std::vector<uint64_t> numbers;  // by offset
    uint64_t next = 0;
    for (int round = 0; round < 4; ++round) {
      const uint64_t count = 2000 + random.Below(12'000);
      const uint64_t first = next;
      ids.Publish(next, count);
      for (; next < first + count; ++next) numbers.push_back(next);
      if (random.Below(2) == 0) (void)ids.broker->StatusOf(kTenant, IdMachine::IdOf(first));
      const uint64_t operations = ids.machine.files.operations();
      ids.machine.files.CrashAt(operations + 1);
      ids.broker = nullptr;
      ids.machine.files.PowerCut();
      ids.Reopen();
      const uint64_t end = ids.broker->DescribeTopic(kTenant, "t")->partitions[0].end_offset;
      ASSERT_LE(end, numbers.size());
      lost += numbers.size() - end;
      // What is lost is published anew under other names.
      numbers.resize(end);
      for (int i = 0; i < 30 && end > 0; ++i) {
        const uint64_t offset = random.Below(end);
        ids.ExpectAt(numbers[offset], offset);
      }
    }
    for (uint64_t offset = 0; offset < numbers.size(); offset += 97) ids.ExpectAt(numbers[offset], offset);
    ids.ExpectNone(next);
    if (testing::Test::HasFatalFailure()) return;
  }
  EXPECT_GT(lost, 1000U);
}

}  // namespace
}  // namespace millstream::events

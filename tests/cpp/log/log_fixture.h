// What the tests of the log share: a simulated disk with a folder, and short ways to append and to read everything.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millstream/env/env.h"
#include "millstream/env/sim_clock.h"
#include "millstream/env/sim_file_system.h"
#include "millstream/log/local_log.h"
#include "millstream/log/roll_queue.h"

namespace millstream::log {

inline constexpr std::string_view kFolder = "/log";

// A machine whose disk and random numbers come from a seed.
class SimMachine {
 public:
  explicit SimMachine(uint64_t seed) : files(seed), random_(seed + 1), clock_(0) {
    EXPECT_TRUE(files.MakeFolder(std::string(kFolder)).ok());
    EXPECT_TRUE(files.SyncFolder("/").ok());
  }

  env::Env env() {
    const env::Env system = env::SystemEnv();
    return {&clock_, many_threads ? system.random : &random_, &files, system.executor};
  }

  // On one thread, so that a run repeats exactly.
  Result<std::unique_ptr<LocalLog>> Open(storage::Durability durability, uint64_t segment_bytes = kSegmentBytesMin) {
    LocalLogOptions options;
    options.durability = durability;
    options.segment_bytes = segment_bytes;
    options.sync_thread = false;
    options.rolls = rolls.get();
    return LocalLog::Open(env(), std::string(kFolder), options);
  }

  std::vector<std::string> SegmentPaths() { return Paths(ParseSegmentName); }

  // Of segments whose roll was not finished.
  std::vector<std::string> NextPaths() { return Paths(ParseNextSegmentName); }

  // From now on logs at the durability `process` leave rolls to be finished by rolls->FinishOne().
  void LeaveRolls() { rolls = std::make_unique<RollQueue>(nullptr, ""); }

  env::SimFileSystem files;
  std::unique_ptr<RollQueue> rolls;
  // Random numbers of a seed are for one thread; where several run, they are the system's.
  bool many_threads = false;

 private:
  std::vector<std::string> Paths(std::optional<Offset> (*parse)(std::string_view)) {
    std::vector<std::string> paths;
    const auto entries = files.List(std::string(kFolder));
    EXPECT_TRUE(entries.ok());
    for (const env::FolderEntry& entry : *entries) {
      if (parse(entry.name).has_value()) paths.push_back(std::string(kFolder) + "/" + entry.name);
    }
    return paths;
  }

  env::SeededRandom random_;
  env::SimClock clock_;
};

inline Result<Offset> AppendOne(storage::Log& log, std::string_view payload) {
  return log.Append(std::span<const std::string_view>(&payload, 1));
}

// All records from `from` on, or the error that ends them.
inline Result<std::vector<std::string>> ReadAll(const storage::Log& log, Offset from) {
  MS_ASSIGN_OR_RETURN(const std::unique_ptr<storage::LogReader> reader, log.Read(from));
  std::vector<std::string> payloads;
  Offset expected = from;
  while (true) {
    MS_ASSIGN_OR_RETURN(const std::optional<storage::LogRecord> record, reader->Next());
    if (!record.has_value()) return payloads;
    EXPECT_EQ(record->offset, expected);
    ++expected;
    payloads.emplace_back(record->payload);
  }
}

inline std::vector<std::string> MustReadAll(const storage::Log& log, Offset from = Offset(0)) {
  auto payloads = ReadAll(log, from);
  EXPECT_TRUE(payloads.ok()) << payloads.status().ToString();
  return payloads.ok() ? *payloads : std::vector<std::string>();
}

// Record i of a test: its size varies, and it can be told from every other.
inline std::string Payload(uint64_t i) {
  return fmt::format("record {} ", i) + std::string(i * 37 % 701, static_cast<char>('a' + i % 26));
}

inline std::vector<std::string> Payloads(uint64_t begin, uint64_t end) {
  std::vector<std::string> payloads;
  for (uint64_t i = begin; i < end; ++i) payloads.push_back(Payload(i));
  return payloads;
}

}  // namespace millstream::log

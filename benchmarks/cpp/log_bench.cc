// The log beside what it cannot do without: appending the same bytes to a plain file, with fdatasync where the log
// promises fsync, and reading the same bytes back. And what the ends of segments cost: the same appends into segments
// of 16 MiB and of 1 GiB.
//
//   log_bench FOLDER [PART]...      FOLDER is made, and removed at the end; PART: append, replay, roll
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/env/env.h"
#include "millstream/env/file_util.h"
#include "millstream/log/local_log.h"
#include "millstream/log/roll_queue.h"
#include "rounds.h"

namespace millstream::log {
namespace {

using bench::Require;
using bench::Seconds;

constexpr double kMb = 1e6;
constexpr uint64_t kReplayBytes = 256 << 20;
constexpr size_t kReadBytes = 1 << 20;

constexpr uint64_t kRollBytes = 512 << 20;
constexpr uint64_t kSmallSegment = 16 << 20;
constexpr uint64_t kLargeSegment = 1 << 30;

// What one append carries.
struct Batch {
  const char* name;
  size_t records;
  size_t record_bytes;
};
// Small events together, and the record of one remote write request.
constexpr Batch kBatches[] = {{"64 records of 256 B", 64, 256}, {"1 record of 32 KiB", 1, 32 << 10}};
constexpr Batch kRollBatch = {"100 records of 256 B", 100, 256};

class LogBench {
 public:
  LogBench(const env::Env& env, std::string folder) : env_(env), folder_(std::move(folder)) {}

  // All parts when none is named.
  void Run(const std::vector<std::string_view>& parts) {
    const auto wanted = [&](std::string_view part) {
      return parts.empty() || std::ranges::find(parts, part) != parts.end();
    };
    if (wanted("append") || wanted("replay")) {
      fmt::print("{:44}{:>12}{:>12} {:8}{:>8}\n", "log", "log", "plain file", "", "ratio");
    }
    for (const Batch& batch : kBatches) {
      if (!wanted("append")) break;
      Append(batch, storage::Durability::kProcess, 4'000);
      Append(batch, storage::Durability::kFsync, 200);
    }
    if (wanted("replay")) Replay();
    if (wanted("roll")) {
      fmt::print("{:44}{:>12}{:>12} {:8}{:>8}\n", "rolls", "16 MiB", "1 GiB", "", "ratio");
      RollQueue rolls(env_.executor, "rolls");
      Roll("a thread of its own", {.sync_thread = true});
      Roll("a queue for many logs", {.sync_thread = false, .rolls = &rolls});
      Roll("on the writer's thread", {.sync_thread = false});
    }
    Require(env::RemoveTree(*env_.files, folder_));
  }

 private:
  std::string Fresh(const char* name) {
    const std::string path = env::JoinPath(folder_, name);
    Require(env::RemoveTree(*env_.files, path));
    return path;
  }

  std::unique_ptr<LocalLog> OpenLog(const std::string& path, storage::Durability durability) {
    Require(env::MakeFolders(*env_.files, path));
    LocalLogOptions options;
    options.durability = durability;
    return Require(LocalLog::Open(env_, path, options));
  }

  void Append(const Batch& batch, storage::Durability durability, int appends) {
    const bool fsync = durability == storage::Durability::kFsync;
    const std::string record(batch.record_bytes, 'r');
    const std::vector<std::string_view> payloads(batch.records, record);
    const auto ours = [&] {
      const auto log = OpenLog(Fresh("log"), durability);
      const double seconds = Seconds([&] {
        for (int i = 0; i < appends; ++i) {
          const Offset first = Require(log->Append(payloads));
          Require(log->WaitDurable(Offset(first.value() + batch.records - 1)));
        }
      });
      Require(log->Close());
      return seconds;
    };
    const auto plain = [&] {
      Require(env::MakeFolders(*env_.files, folder_));
      const auto file = Require(env_.files->OpenForWrite(Fresh("plain"), env::OpenMode::kCreate));
      return Seconds([&] {
        for (int i = 0; i < appends; ++i) {
          Require(file->Append(payloads));
          if (fsync) Require(file->SyncData());
        }
      });
    };
    const double bytes = static_cast<double>(batch.records * batch.record_bytes) * appends;
    bench::Compare(fmt::format("append {}, {}", batch.name, fsync ? "fsync" : "process"), bytes / kMb, "MB/s", ours,
                   plain);
  }

  void Roll(const char* who, LocalLogOptions options) {
    const std::string record(kRollBatch.record_bytes, 'r');
    const std::vector<std::string_view> payloads(kRollBatch.records, record);
    const uint64_t appends = kRollBytes / (kRollBatch.records * kRollBatch.record_bytes);
    const auto with = [&](uint64_t segment_bytes) {
      const std::string path = Fresh("log");
      Require(env::MakeFolders(*env_.files, path));
      options.segment_bytes = segment_bytes;
      const auto log = Require(LocalLog::Open(env_, path, options));
      const double seconds = Seconds([&] {
        for (uint64_t i = 0; i < appends; ++i) Require(log->Append(payloads));
      });
      Require(log->Close());
      return seconds;
    };
    bench::Compare(
        fmt::format("append {}, {}", kRollBatch.name, who), kRollBytes / kMb, "MB/s",
        [&] { return with(kSmallSegment); }, [&] { return with(kLargeSegment); });
  }

  void Replay() {
    const std::string path = Fresh("log");
    const std::string record(32 << 10, 'r');
    const std::string_view payload = record;
    {
      const auto log = OpenLog(path, storage::Durability::kProcess);
      for (uint64_t bytes = 0; bytes < kReplayBytes; bytes += record.size()) {
        Require(log->Append(std::span(&payload, 1)));
      }
      Require(log->Close());
    }
    const auto ours = [&] {
      return Seconds([&] {
        const auto log = OpenLog(path, storage::Durability::kProcess);
        const auto reader = Require(log->Read(log->start()));
        uint64_t bytes = 0;
        while (const auto next = Require(reader->Next())) bytes += next->payload.size();
        if (bytes != kReplayBytes) Require(Internal("{} of {} bytes came back", bytes, kReplayBytes));
      });
    };
    const auto plain = [&] {
      return Seconds([&] {
        std::string buffer(kReadBytes, '\0');
        for (const env::FolderEntry& entry : Require(env_.files->List(path))) {
          const auto file = Require(env_.files->OpenForRead(env::JoinPath(path, entry.name)));
          uint64_t position = 0;
          while (const size_t got = Require(file->Read(position, buffer))) position += got;
        }
      });
    };
    bench::Compare("open and replay 256 MiB", kReplayBytes / kMb, "MB/s", ours, plain);
  }

  const env::Env& env_;
  const std::string folder_;
};

}  // namespace
}  // namespace millstream::log

int main(int count, char** arguments) {
  if (count < 2) {
    fmt::print(stderr, "usage: log_bench FOLDER [append] [replay] [roll]\n");
    return 2;
  }
  millstream::log::LogBench(millstream::env::SystemEnv(), arguments[1]).Run({arguments + 2, arguments + count});
  return 0;
}

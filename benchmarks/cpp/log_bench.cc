// The log beside what it cannot do without: appending the same bytes to a plain file, with fdatasync where the log
// promises fsync, and reading the same bytes back.
//
//   log_bench FOLDER      FOLDER is made, and removed at the end
#include <string>
#include <vector>

#include "millstream/env/env.h"
#include "millstream/env/file_util.h"
#include "millstream/log/local_log.h"
#include "rounds.h"

namespace millstream::log {
namespace {

using bench::Require;
using bench::Seconds;

constexpr double kMb = 1e6;
constexpr uint64_t kReplayBytes = 256 << 20;
constexpr size_t kReadBytes = 1 << 20;

// What one append carries.
struct Batch {
  const char* name;
  size_t records;
  size_t record_bytes;
};
// Small events together, and the record of one remote write request.
constexpr Batch kBatches[] = {{"64 records of 256 B", 64, 256}, {"1 record of 32 KiB", 1, 32 << 10}};

class LogBench {
 public:
  LogBench(const env::Env& env, std::string folder) : env_(env), folder_(std::move(folder)) {}

  void Run() {
    fmt::print("{:44}{:>12}{:>12} {:8}{:>8}\n", "log", "log", "plain file", "", "ratio");
    for (const Batch& batch : kBatches) {
      Append(batch, storage::Durability::kProcess, 4'000);
      Append(batch, storage::Durability::kFsync, 200);
    }
    Replay();
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
  if (count != 2) {
    fmt::print(stderr, "usage: log_bench FOLDER\n");
    return 2;
  }
  millstream::log::LogBench(millstream::env::SystemEnv(), arguments[1]).Run();
  return 0;
}

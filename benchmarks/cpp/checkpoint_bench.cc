// How long checkpoints keep a writer waiting: the latency of small writes to a partition that holds many series, with
// and without checkpoints at the same time.
//
//   checkpoint_bench FOLDER [SERIES]      100,000 series without one; FOLDER is made, and removed at the end
#include <algorithm>
#include <deque>
#include <string>
#include <vector>

#include "millstream/engine/database.h"
#include "millstream/env/file_util.h"
#include "rounds.h"

namespace millstream::engine {
namespace {

using bench::Require;
using bench::Seconds;

constexpr size_t kRowsPerCall = 50'000;
constexpr int kSamplesPerSeries = 8;
constexpr int64_t kStepMs = 15'000;
constexpr int kCheckpoints = 3;

// Labels of many series, and the text that they view.
class LabelSets {
 public:
  LabelSets(size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const std::string& host = text_.emplace_back(fmt::format("host-{:06}", i / 10));
      const std::string& path = text_.emplace_back(fmt::format("/path/{}", i % 10));
      sets_.push_back({{model::kMetricName, "requests_total"}, {"host", host}, {"job", "bench"}, {"path", path}});
    }
  }
  const std::vector<std::vector<model::Label>>& sets() const { return sets_; }

 private:
  std::deque<std::string> text_;
  std::vector<std::vector<model::Label>> sets_;
};

struct Latency {
  double worst_ms = 0;
  double p99_ms = 0;
  size_t writes = 0;
};

class CheckpointBench {
 public:
  CheckpointBench(std::string folder, size_t series) : folder_(std::move(folder)), series_(series) {}

  void Run() {
    Require(env::RemoveTree(*env::SystemEnv().files, folder_));
    // The second time the database is opened with what the first has left.
    for (const bool checkpoints : {false, true}) {
      DatabaseOptions options;
      options.partitions = 1;
      options.checkpoint_interval_ms = checkpoints ? 1'000 : 3'600'000;
      const auto database = Require(Database::Open(folder_, options));
      if (!checkpoints) Fill(*database);
      const auto held = static_cast<size_t>(database->Stats().at("millstream_head_series"));
      if (held != series_) Require(Internal("the head holds {} series instead of {}", held, series_));
      const Latency latency = Probe(*database, checkpoints);
      fmt::print("{:>9} series, {:22} {:>8} writes, p99 {:>8.3f} ms, worst {:>8.1f} ms\n", series_,
                 checkpoints ? fmt::format("{} checkpoints:", kCheckpoints) : "no checkpoint:", latency.writes,
                 latency.p99_ms, latency.worst_ms);
      Require(database->Close());
    }
    Require(env::RemoveTree(*env::SystemEnv().files, folder_));
  }

 private:
  void Fill(Database& database) {
    const int64_t first = database.Now() - kSamplesPerSeries * kStepMs;
    for (size_t begin = 0; begin < series_; begin += kRowsPerCall) {
      const LabelSets labels(begin, std::min(series_, begin + kRowsPerCall));
      const auto handles = Require(database.SeriesHandles(kDefaultTenant, labels.sets()));
      for (int sample = 0; sample < kSamplesPerSeries; ++sample) {
        const std::vector<TimestampMs> times(handles.size(), first + sample * kStepMs);
        const std::vector<double> values(handles.size(), sample * 1.5);
        const PushOutcome outcome = Require(database.Append(kDefaultTenant, handles, times, values));
        if (outcome.samples != handles.size()) Require(Internal("{} samples were refused", outcome.rejected));
      }
    }
  }

  // Writes one sample after the other, each acknowledged before the next, for as long as the checkpoints take.
  Latency Probe(Database& database, bool checkpoints) {
    const auto handles = Require(database.SeriesHandles(kDefaultTenant, LabelSets(0, 1).sets()));
    const auto written = [&] { return database.Stats().at("millstream_checkpoints_total"); };
    std::vector<double> seconds;
    const double goal = written() + (checkpoints ? kCheckpoints : 0);
    double total = 0;
    double asked = 0;
    TimestampMs now = database.Now();
    while (true) {
      const TimestampMs time = ++now;
      const double value = 1;
      seconds.push_back(Seconds([&] {
        Require(database.Append(kDefaultTenant, handles, std::span(&time, 1), std::span(&value, 1)).status());
      }));
      total += seconds.back();
      if (total - asked < 0.05) continue;
      asked = total;
      if (total > 2 && written() >= goal) break;
    }
    std::sort(seconds.begin(), seconds.end());
    return {seconds.back() * 1e3, seconds[seconds.size() * 99 / 100] * 1e3, seconds.size()};
  }

  const std::string folder_;
  const size_t series_;
};

}  // namespace
}  // namespace millstream::engine

int main(int count, char** arguments) {
  const long series = count == 3 ? std::atol(arguments[2]) : 100'000;
  if (count < 2 || count > 3 || series < 1) {
    fmt::print(stderr, "usage: checkpoint_bench FOLDER [SERIES]\n");
    return 2;
  }
  millstream::engine::CheckpointBench(arguments[1], static_cast<size_t>(series)).Run();
  return 0;
}

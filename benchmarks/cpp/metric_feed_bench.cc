// What a topic that is fed from metrics costs their writers: remote-write-like requests of 2,000 series, one sample
// each, into a database in memory.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "millstream/engine/database.h"
#include "millstream/events/broker.h"
#include "rounds.h"

namespace millstream {
namespace {

constexpr int kSeries = 2'000;
constexpr int kWritesOfARound = 50;

std::string Body(TimestampMs at) {
  std::string out;
  for (int i = 0; i < kSeries; ++i) {
    fmt::format_to(std::back_inserter(out), "m{{instance=\"host-{}:9100\",job=\"node\",share=\"{}\"}} {} {}\n", i,
                   i % 100 == 0 ? "some" : "rest", i, at);
  }
  return out;
}

// Databases that differ in what their topic asks for, written to by turns.
struct Contender {
  std::string name;
  std::vector<std::string> selectors;
  std::unique_ptr<engine::Database> db = {};
  double best = 1e300;  // seconds for each write
};

void Measure(Contender& one, TimestampMs* now) {
  std::vector<std::string> bodies;
  for (int i = 0; i < kWritesOfARound; ++i) bodies.push_back(Body(*now += 1000));
  const auto write = [&] {
    for (const std::string& body : bodies) {
      bench::Require(one.db->Push({}, {.format = "text", .body = body}).status());
    }
  };
  write();  // so that none pays for what the one before left in the caches
  for (std::string& body : bodies) body = Body(*now += 1000);
  const double taken = bench::Seconds(write);
  one.best = std::min(one.best, taken / kWritesOfARound);
}

int Run() {
  std::vector<Contender> contenders;
  contenders.push_back({"no topic is fed", {}});
  contenders.push_back({"one that wants nothing of it", {"other"}});
  contenders.push_back({"one that wants 1 of 100", {"m{share=\"some\"}"}});
  contenders.push_back({"one that wants everything", {"m"}});
  TimestampMs now = 1'700'000'000'000;
  for (Contender& one : contenders) {
    engine::DatabaseOptions in_memory;
    in_memory.partitions = 2;
    one.db = bench::Require(engine::Database::Open(std::string(engine::kMemoryPath), in_memory));
    if (one.selectors.empty()) continue;
    events::TopicOptions options;
    options.from_metrics = one.selectors;
    bench::Require(one.db->Events().CreateTopic({}, "t", options).status());
  }
  for (int round = 0; round < bench::kRounds; ++round) {
    for (Contender& one : contenders) Measure(one, &now);
  }
  fmt::print("a write of {} series, best of {} rounds\n", kSeries, bench::kRounds);
  for (const Contender& one : contenders) {
    fmt::print("{:30} {:7.0f} us, {:6.0f} ns more for each sample\n", one.name, one.best * 1e6,
               (one.best - contenders[0].best) * 1e9 / kSeries);
  }
  return 0;
}

}  // namespace
}  // namespace millstream

int main() {
  return millstream::Run();
}

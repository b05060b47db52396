// Runs Prometheus's own scripts and compares with the checked-in list of evals that pass.
//
//   golden FOLDER [--store=memory|tsdb] [--update] [--verbose] [SCRIPT…]
//
// Fails when an eval that FOLDER/passing.txt lists does not pass. --update writes the list anew. Prints how many evals
// pass: of all, of those without native histograms and experimental features, and of the rest.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "memory_store.h"
#include "millstream/promqltest/promqltest.h"
#include "millstream/tsdb/partition_appender.h"

namespace millstream::promqltest {
namespace {

// The real store, in memory.
class TsdbStore final : public Store {
 public:
  static Result<std::unique_ptr<Store>> Make() { return std::unique_ptr<Store>(std::make_unique<TsdbStore>()); }

  Result<std::unique_ptr<storage::Appender>> MakeAppender() override {
    return std::unique_ptr<storage::Appender>(std::make_unique<tsdb::PartitionAppender>(*partition_));
  }
  Result<std::unique_ptr<storage::Querier>> MakeQuerier() override { return partition_->MakeQuerier(TenantId(0)); }

 private:
  std::unique_ptr<tsdb::Partition> partition_ = tsdb::Partition::MakeInMemory(tsdb::ScriptPartitionOptions());
};

struct Count {
  size_t passed = 0;
  size_t total = 0;

  void Add(bool one) {
    ++total;
    if (one) ++passed;
  }
  std::string ToString() const {
    return fmt::format("{} of {} ({:.1f} %)", passed, total,
                       total == 0 ? 100.0 : 100.0 * static_cast<double>(passed) / static_cast<double>(total));
  }
};

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::set<std::string> ReadList(const std::filesystem::path& path) {
  std::set<std::string> list;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.front() != '#') list.insert(line);
  }
  return list;
}

int Main(const std::vector<std::string>& args) {
  const std::filesystem::path folder = args.at(0);
  bool update = false;
  bool verbose = false;
  StoreFactory make_store = MemoryStore::Make;
  std::set<std::string> only;
  for (size_t i = 1; i < args.size(); ++i) {
    if (args[i] == "--update") {
      update = true;
    } else if (args[i] == "--verbose") {
      verbose = true;
    } else if (args[i] == "--store=tsdb") {
      make_store = TsdbStore::Make;
    } else if (args[i] == "--store=memory") {
      make_store = MemoryStore::Make;
    } else {
      only.insert(args[i]);
    }
  }
  std::vector<std::filesystem::path> scripts;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const bool wanted = only.empty() || only.contains(entry.path().filename().string());
    if (entry.path().extension() == ".test" && wanted) scripts.push_back(entry.path());
  }
  std::sort(scripts.begin(), scripts.end());
  const std::filesystem::path list_path = folder / "passing.txt";
  const std::set<std::string> listed = ReadList(list_path);
  Count all;
  Count core;
  Count histograms;
  Count experimental;
  size_t broken = 0;
  size_t newly_passing = 0;
  std::vector<std::string> passing;
  for (const auto& path : scripts) {
    const std::string name = path.filename().string();
    const ScriptReport report = RunScript(name, ReadFile(path), ScriptEngineOptions(), make_store);
    if (!report.error.empty()) fmt::print("{}: {}\n", name, report.error);
    Count script;
    for (const EvalReport& eval : report.evals) {
      const std::string id = fmt::format("{}:{}", name, eval.line);
      all.Add(eval.passed);
      script.Add(eval.passed);
      if (eval.uses_native_histograms) histograms.Add(eval.passed);
      if (eval.is_experimental) experimental.Add(eval.passed);
      if (!eval.uses_native_histograms && !eval.is_experimental) core.Add(eval.passed);
      if (eval.passed) {
        passing.push_back(id);
        if (!listed.contains(id)) ++newly_passing;
      } else if (listed.contains(id)) {
        ++broken;
        fmt::print("BROKEN {} {}\n  {}\n", id, eval.expression, eval.message);
      } else if (verbose) {
        fmt::print("fails {} {}\n  {}\n", id, eval.expression, eval.message);
      }
    }
    fmt::print("{:30} {}\n", name, script.ToString());
  }
  fmt::print("\nall evals                      {}\n", all.ToString());
  fmt::print("without native histograms and\nexperimental features          {}\n", core.ToString());
  fmt::print("with native histograms         {}\n", histograms.ToString());
  fmt::print("with experimental features     {}\n", experimental.ToString());
  if (newly_passing > 0) fmt::print("{} evals pass that are not listed; run with --update\n", newly_passing);
  if (update) {
    std::ofstream file(list_path);
    file << "# Evals of Prometheus's scripts that pass, as script:line. Written by the golden test with --update.\n";
    for (const std::string& id : passing) file << id << '\n';
    return 0;
  }
  if (broken > 0) fmt::print("{} evals that passed before do not pass any more\n", broken);
  return broken > 0 || scripts.empty() ? 1 : 0;
}

}  // namespace
}  // namespace millstream::promqltest

int main(int argc, char** argv) {
  if (argc < 2) {
    fmt::print("usage: golden FOLDER [--store=memory|tsdb] [--update] [--verbose] [SCRIPT…]\n");
    return 2;
  }
  return millstream::promqltest::Main({argv + 1, argv + argc});
}

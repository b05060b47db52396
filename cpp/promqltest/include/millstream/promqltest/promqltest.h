// promqltest: runs Prometheus's test scripts (`load`, `eval`, `clear`) against any store.
//
// Every eval is run as Prometheus's own runner does: at its time, with every selector pinned by `@` and evaluated at
// other times, and as a range query around its time; all must give the expected result.
// Threads     One RunScript at a time per store factory.
// Errors      An eval that does not parse fails alone. After a line that means nothing, or data that cannot be loaded,
//             nothing more is run: the report says why.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/promql/engine.h"
#include "millstream/storage/appender.h"
#include "millstream/storage/queryable.h"

namespace millstream::promqltest {

// The longest sequence of values that one series of a script may have.
inline constexpr size_t kSequenceValuesMax = 1'000'000;

// An empty store that a script fills. It takes any timestamp and refuses samples out of order.
class Store {
 public:
  virtual ~Store() = default;

  virtual Result<std::unique_ptr<storage::Appender>> MakeAppender() = 0;
  // Sees everything committed so far.
  virtual Result<std::unique_ptr<storage::Querier>> MakeQuerier() = 0;
};

// Called at the start of a script and for every `clear`.
using StoreFactory = std::function<Result<std::unique_ptr<Store>>()>;

struct EvalReport {
  int line = 0;  // of the eval command, from 1
  std::string expression;
  bool passed = false;
  std::string message;                  // why it failed: what was expected, what came
  bool uses_native_histograms = false;  // reads or expects them
  bool is_experimental = false;         // needs a feature flag: syntax, functions or start timestamps
};

struct ScriptReport {
  std::string name;
  // Empty, or why the script was not run to its end; every eval that was not run counts as failed.
  std::string error;
  std::vector<EvalReport> evals;

  size_t passed() const;
  size_t failed() const { return evals.size() - passed(); }
};

// What Prometheus's scripts assume of the engine: every experimental feature on.
promql::EngineOptions ScriptEngineOptions();

ScriptReport RunScript(std::string_view name, std::string_view text, const promql::EngineOptions& options,
                       const StoreFactory& make_store);

}  // namespace millstream::promqltest

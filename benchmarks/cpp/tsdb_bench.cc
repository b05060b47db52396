// Appending to a partition and reading from it, in memory and in one thread.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "millstream/model/labels.h"
#include "millstream/model/matcher.h"
#include "millstream/tsdb/partition.h"

namespace millstream::tsdb {
namespace {

constexpr int64_t kStepMs = 15'000;

model::Labels LabelsOf(int64_t series) {
  return model::Labels::Of({{model::kMetricName, "requests_total"},
                            {"host", "host-" + std::to_string(series / 10)},
                            {"path", "/path/" + std::to_string(series % 10)}});
}

// One sample for each of `series` series, as a scrape of all of them sends.
storage::WriteBatch MakeBatch(int64_t series) {
  storage::WriteBatch batch;
  for (int64_t i = 0; i < series; ++i) {
    batch.series.push_back({SeriesRef(0), LabelsOf(i)});
    batch.floats.series.push_back(static_cast<uint32_t>(i));
    batch.floats.timestamps.push_back(0);
    batch.floats.values.push_back(0);
  }
  return batch;
}

void FillTimes(storage::WriteBatch* batch, int64_t scrape) {
  for (size_t i = 0; i < batch->floats.values.size(); ++i) {
    batch->floats.timestamps[i] = scrape * kStepMs;
    batch->floats.values[i] = static_cast<double>(scrape * 7 + static_cast<int64_t>(i));
  }
}

void AppendByRef(benchmark::State& state) {
  const auto partition = Partition::MakeInMemory({});
  storage::WriteBatch batch = MakeBatch(state.range(0));
  storage::WriteOutcome outcome;
  int64_t scrape = 0;
  for (auto _ : state) {
    FillTimes(&batch, ++scrape);
    if (!partition->Write(batch, &outcome).ok() || outcome.rejected != 0) state.SkipWithError("a write was refused");
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(AppendByRef)->Arg(1'000)->Arg(10'000);

void CreateSeries(benchmark::State& state) {
  for (auto _ : state) {
    state.PauseTiming();
    const auto partition = Partition::MakeInMemory({});
    storage::WriteBatch batch = MakeBatch(state.range(0));
    storage::WriteOutcome outcome;
    state.ResumeTiming();
    if (!partition->Write(batch, &outcome).ok()) state.SkipWithError("a write was refused");
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(CreateSeries)->Arg(10'000);

// An hour of 1,000 series, selected by a matcher and read.
void SelectAndReadAnHour(benchmark::State& state) {
  const auto partition = Partition::MakeInMemory({});
  storage::WriteBatch batch = MakeBatch(1'000);
  storage::WriteOutcome outcome;
  for (int64_t scrape = 1; scrape <= 2 * kHourMs / kStepMs; ++scrape) {
    FillTimes(&batch, scrape);
    if (!partition->Write(batch, &outcome).ok()) state.SkipWithError("a write was refused");
  }
  const std::vector<model::Matcher> matchers = {
      model::Matcher::Make(model::MatchType::kEqual, "__name__", "requests_total").value()};
  const storage::TimeRange hour{kHourMs / 2, kHourMs / 2 + kHourMs};
  int64_t samples = 0;
  for (auto _ : state) {
    storage::QueryControl control;
    const auto querier = partition->MakeQuerier(TenantId(0)).value();
    const auto selected = querier->Select(hour, matchers, {}, control).value();
    storage::SampleColumns columns;
    for (const auto& series : selected) {
      if (!series->Read(hour, &columns).ok()) state.SkipWithError("a read failed");
      samples += static_cast<int64_t>(columns.size());
    }
  }
  state.SetItemsProcessed(samples);
}
BENCHMARK(SelectAndReadAnHour);

}  // namespace
}  // namespace millstream::tsdb

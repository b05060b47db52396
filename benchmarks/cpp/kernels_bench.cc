// The executor's kernels beside their scalar definitions: what the vectors bring on this machine.
//
//   kernels_bench --benchmark_filter=Sums
//
// Each result tells samples per second. MILLSTREAM_TARGET=SSE4 runs the kernels with that set of instructions.
#include "exec/kernels.h"

#include <benchmark/benchmark.h>
#include <hwy/targets.h>

#include <cmath>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "exec/kahan.h"
#include "exec/window_math.h"

namespace millstream::promql::exec {
namespace {

constexpr size_t kSteps = 240;         // an hour in steps of 15 s
constexpr size_t kWindowSamples = 20;  // five minutes of samples every 15 s

std::vector<double> Values(size_t count) {
  std::vector<double> values(count);
  double value = 0.1;
  for (size_t i = 0; i < count; ++i) values[i] = value += static_cast<double>((i * 7) % 11) * 0.3 - 1;
  return values;
}

// Windows that begin `stride` samples after one another: 1 with a step of the scrape interval.
struct Windows {
  explicit Windows(size_t stride) : values(Values(kSteps * stride + kWindowSamples)) {
    for (size_t i = 0; i < kSteps; ++i) {
      begins.push_back(static_cast<int64_t>(i * stride));
      ends.push_back(static_cast<int64_t>(i * stride + kWindowSamples));
    }
  }
  std::vector<double> values;
  std::vector<int64_t> begins;
  std::vector<int64_t> ends;
};

using WindowKernel = void (*)(const WindowColumns&, std::span<double>);
using Definition = double (*)(std::span<const double>);

template <WindowKernel kKernel>
void ByKernel(benchmark::State& state) {
  const Windows windows(static_cast<size_t>(state.range(0)));
  std::vector<double> out(kSteps);
  for (auto _ : state) {
    kKernel({windows.values, windows.begins, windows.ends}, out);
    benchmark::DoNotOptimize(out.data());
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * kSteps * kWindowSamples));
}

template <Definition kDefinition>
void ByDefinition(benchmark::State& state) {
  const Windows windows(static_cast<size_t>(state.range(0)));
  std::vector<double> out(kSteps);
  for (auto _ : state) {
    for (size_t i = 0; i < kSteps; ++i) {
      out[i] = kDefinition(std::span(windows.values).subspan(static_cast<size_t>(windows.begins[i]), kWindowSamples));
    }
    benchmark::DoNotOptimize(out.data());
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * kSteps * kWindowSamples));
}

// Stride 1, as in most range queries, and one that makes the kernel gather.
#define MS_WINDOW_BENCHMARK(kernel, definition)               \
  BENCHMARK(ByKernel<kernel>)->Name(#kernel)->Arg(1)->Arg(4); \
  BENCHMARK(ByDefinition<definition>)->Name(#kernel "/scalar")->Arg(1)->Arg(4)
MS_WINDOW_BENCHMARK(WindowSums, SumOf);
MS_WINDOW_BENCHMARK(WindowAverages, AverageOf);
MS_WINDOW_BENCHMARK(WindowVariances, VarianceOf);
MS_WINDOW_BENCHMARK(WindowMinima, LeastOf);
MS_WINDOW_BENCHMARK(WindowMaxima, GreatestOf);

struct Differences {
  std::vector<double> firsts = Values(kSteps);
  std::vector<double> differences = Values(kSteps);
  std::vector<double> sampled_ms = std::vector<double>(kSteps, 285'000);
  std::vector<double> intervals = std::vector<double>(kSteps, 19);
  std::vector<double> to_start_ms = std::vector<double>(kSteps, 8'000);
  std::vector<double> to_end_ms = std::vector<double>(kSteps, 7'000);
  std::vector<double> out = std::vector<double>(kSteps);
};

void Extrapolations(benchmark::State& state) {
  Differences columns;
  for (auto _ : state) {
    ExtrapolateDifferences({columns.firsts, columns.differences, columns.sampled_ms, columns.intervals,
                            columns.to_start_ms, columns.to_end_ms},
                           true, 300, columns.out);
    benchmark::DoNotOptimize(columns.out.data());
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * kSteps));
}

void ScalarExtrapolations(benchmark::State& state) {
  Differences columns;
  for (auto _ : state) {
    for (size_t i = 0; i < kSteps; ++i) {
      Extrapolation reach(columns.sampled_ms[i], columns.intervals[i], columns.to_start_ms[i], columns.to_end_ms[i]);
      reach.LimitStart();
      reach.LimitStartToZero(columns.firsts[i], columns.differences[i]);
      reach.LimitEnd();
      columns.out[i] = columns.differences[i] * (reach.Factor() / 300);
    }
    benchmark::DoNotOptimize(columns.out.data());
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * kSteps));
}
BENCHMARK(Extrapolations)->Name("ExtrapolateDifferences");
BENCHMARK(ScalarExtrapolations)->Name("ExtrapolateDifferences/scalar");

// A group of ten series.
struct Group {
  std::vector<double> series = Values(kSteps);
  std::vector<double> counts = std::vector<double>(kSteps);
  std::vector<double> values = std::vector<double>(kSteps);
  std::vector<double> compensations = std::vector<double>(kSteps);

  void Clear() {
    counts.assign(kSteps, 0);
    values.assign(kSteps, 0);
    compensations.assign(kSteps, 0);
  }
};

template <typename Fold>
void FoldTen(benchmark::State& state, Fold fold) {
  Group group;
  for (auto _ : state) {
    group.Clear();
    for (int i = 0; i < 10; ++i) fold(group);
    benchmark::DoNotOptimize(group.values.data());
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * kSteps * 10));
}

void Sums(benchmark::State& state) {
  FoldTen(state, [](Group& group) { FoldSums(group.series, {group.counts, group.values, group.compensations}); });
}
void ScalarSums(benchmark::State& state) {
  FoldTen(state, [](Group& group) {
    for (size_t i = 0; i < kSteps; ++i) {
      if (group.counts[i]++ == 0) {
        group.values[i] = group.series[i];
      } else {
        KahanAdd(group.series[i], &group.values[i], &group.compensations[i]);
      }
    }
  });
}
void Minima(benchmark::State& state) {
  FoldTen(state, [](Group& group) { FoldMinima(group.series, {group.counts, group.values, {}}); });
}
void ScalarMinima(benchmark::State& state) {
  FoldTen(state, [](Group& group) {
    for (size_t i = 0; i < kSteps; ++i) {
      double& least = group.values[i];
      if (group.counts[i]++ == 0 || group.series[i] < least || std::isnan(least)) least = group.series[i];
    }
  });
}
BENCHMARK(Sums)->Name("FoldSums");
BENCHMARK(ScalarSums)->Name("FoldSums/scalar");
BENCHMARK(Minima)->Name("FoldMinima");
BENCHMARK(ScalarMinima)->Name("FoldMinima/scalar");

// Narrows Highway's choice to the target of that name, if this machine has it.
void ChooseTarget(std::string_view name) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    if (name == hwy::TargetName(target)) hwy::SetSupportedTargetsForTest(target);
  }
}

}  // namespace
}  // namespace millstream::promql::exec

int main(int argc, char** argv) {
  if (const char* target = std::getenv("MILLSTREAM_TARGET")) millstream::promql::exec::ChooseTarget(target);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

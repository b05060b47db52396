// Rounds: two things measured by turns, and their medians and ratio.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/base/status.h"

namespace millstream::bench {

inline constexpr int kRounds = 5;

// A benchmark whose set-up fails has nothing to say but why.
inline void Require(const Status& status) {
  if (status.ok()) return;
  fmt::print(stderr, "{}\n", status.message());
  std::exit(1);
}
template <typename T>
T Require(Result<T> result) {
  Require(result.ok() ? Status::Ok() : result.status());
  return std::move(result).value();
}

template <typename Work>
double Seconds(Work work) {
  const auto began = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

inline double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Runs both kRounds times by turns and prints one line: `amount` per second of each, in `unit`, and the median of the
// rounds' ratios, in which more than 1 means that `ours` is faster. Both return the seconds that count.
template <typename Ours, typename Baseline>
void Compare(const std::string& name, double amount, const char* unit, Ours ours, Baseline baseline) {
  std::vector<double> of_ours;
  std::vector<double> of_baseline;
  std::vector<double> ratios;
  for (int round = 0; round < kRounds; ++round) {
    of_ours.push_back(ours());
    of_baseline.push_back(baseline());
    ratios.push_back(of_baseline.back() / of_ours.back());
  }
  fmt::print("{:44}{:>12.1f}{:>12.1f} {:8}{:>8.2f}\n", name, amount / Median(of_ours), amount / Median(of_baseline),
             unit, Median(ratios));
  std::fflush(stdout);
}

}  // namespace millstream::bench

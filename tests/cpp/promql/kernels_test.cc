// Every kernel against its scalar definition, with every set of instructions that this machine has.

#include "exec/kernels.h"

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "exec/kahan.h"
#include "exec/numbers.h"
#include "exec/window_math.h"

namespace millstream::promql::exec {
namespace {

constexpr double kMax = std::numeric_limits<double>::max();

// The payload of a NaN is open; all else is the same to the bit, the sign of zero too.
::testing::AssertionResult Same(double a, double b) {
  if (std::isnan(a) && std::isnan(b)) return ::testing::AssertionSuccess();
  if (std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b)) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << std::hexfloat << a << " is not " << b;
}

class KernelsTest : public ::testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { hwy::SetSupportedTargetsForTest(GetParam()); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }

  // Values of very different size, so that a sum in another order would differ; now and then a special one.
  double Value(bool special) {
    static constexpr double kSpecial[] = {kNan, kInf, -kInf, 0.0, -0.0, kMax, -kMax, 5e-324};
    if (special && random_() % 6 == 0) return kSpecial[random_() % std::size(kSpecial)];
    const double mantissa = std::uniform_real_distribution<double>(-1, 1)(random_);
    return std::ldexp(mantissa, static_cast<int>(random_() % 80) - 40);
  }
  std::vector<double> Values(size_t count, bool special) {
    std::vector<double> values(count);
    for (double& value : values) value = Value(special);
    return values;
  }

  std::mt19937_64 random_{20261121};
};

using Definition = std::function<double(std::span<const double>)>;
using WindowKernel = void (*)(const WindowColumns&, std::span<double>);

struct WindowCase {
  const char* name;
  WindowKernel kernel;
  Definition definition;
};

const WindowCase kWindowCases[] = {
    {"sum", WindowSums, SumOf},
    {"average", WindowAverages, AverageOf},
    {"variance", WindowVariances, VarianceOf},
    {"minimum", WindowMinima, LeastOf},
    {"maximum", WindowMaxima, GreatestOf},
};

TEST_P(KernelsTest, WindowsGiveWhatEachGivesAlone) {
  for (int round = 0; round < 300; ++round) {
    const std::vector<double> values = Values(1 + random_() % 60, round % 2 == 0);
    const size_t windows = random_() % 40;
    // Neighbours as with a step of the scrape interval, jumps as with a long one, or anything.
    const size_t kind = random_() % 3;
    const size_t length = random_() % 12;
    std::vector<int64_t> begins(windows);
    std::vector<int64_t> ends(windows);
    for (size_t i = 0; i < windows; ++i) {
      const size_t begin = kind == 2 ? random_() % (values.size() + 1) : std::min(values.size(), i * (kind * 4 + 1));
      const size_t end = std::min(values.size(), begin + (kind == 2 ? random_() % 12 : length));
      begins[i] = static_cast<int64_t>(begin);
      ends[i] = static_cast<int64_t>(end);
    }
    for (const WindowCase& one : kWindowCases) {
      std::vector<double> out(windows);
      one.kernel({values, begins, ends}, out);
      for (size_t i = 0; i < windows; ++i) {
        if (begins[i] == ends[i]) continue;
        const double expected = one.definition(
            std::span(values).subspan(static_cast<size_t>(begins[i]), static_cast<size_t>(ends[i] - begins[i])));
        EXPECT_TRUE(Same(out[i], expected)) << one.name << ", window " << i << " of " << windows << ", round " << round;
      }
    }
  }
}

TEST_P(KernelsTest, AverageGoesOnByARunningMeanWhereTheSumOverflows) {
  const std::vector<double> values = {kMax, kMax, 1, kMax, -kMax, kMax, kMax, kMax, kMax, kMax};
  std::vector<int64_t> begins;
  std::vector<int64_t> ends;
  for (int64_t i = 0; i < 9; ++i) {
    begins.push_back(i);
    ends.push_back(i + 2);
  }
  std::vector<double> out(begins.size());
  WindowAverages({values, begins, ends}, out);
  for (size_t i = 0; i < out.size(); ++i) {
    EXPECT_TRUE(std::isfinite(out[i]));
    EXPECT_TRUE(Same(out[i], AverageOf(std::span(values).subspan(i, 2))));
  }
}

TEST_P(KernelsTest, ExtrapolatesAsOneWindowDoes) {
  for (int round = 0; round < 300; ++round) {
    const size_t count = random_() % 40;
    const bool special = round % 2 == 0;
    const std::vector<double> firsts = Values(count, special);
    const std::vector<double> differences = Values(count, special);
    std::vector<double> sampled_ms;
    std::vector<double> intervals;
    std::vector<double> to_start_ms;
    std::vector<double> to_end_ms;
    for (size_t i = 0; i < count; ++i) {
      sampled_ms.push_back(random_() % 10 == 0 ? 0 : static_cast<double>(random_() % 300'000));
      intervals.push_back(static_cast<double>(1 + random_() % 20));
      to_start_ms.push_back(static_cast<double>(random_() % 40'000));
      to_end_ms.push_back(static_cast<double>(random_() % 40'000));
    }
    for (const bool is_counter : {false, true}) {
      for (const double divisor : {1.0, 300.0}) {
        std::vector<double> out(count);
        ExtrapolateDifferences({firsts, differences, sampled_ms, intervals, to_start_ms, to_end_ms}, is_counter,
                               divisor, out);
        for (size_t i = 0; i < count; ++i) {
          Extrapolation reach(sampled_ms[i], intervals[i], to_start_ms[i], to_end_ms[i]);
          reach.LimitStart();
          if (is_counter) reach.LimitStartToZero(firsts[i], differences[i]);
          reach.LimitEnd();
          double factor = reach.Factor();
          factor /= divisor;
          EXPECT_TRUE(Same(out[i], differences[i] * factor)) << i << " of " << count << ", round " << round;
        }
      }
    }
  }
}

struct Folded {
  std::vector<double> counts;
  std::vector<double> values;
  std::vector<double> compensations;

  explicit Folded(size_t steps) : counts(steps), values(steps), compensations(steps) {}
  FoldColumns columns() { return {counts, values, compensations}; }
};

void ExpectSame(const Folded& folded, const Folded& expected) {
  for (size_t i = 0; i < expected.counts.size(); ++i) {
    EXPECT_TRUE(Same(folded.counts[i], expected.counts[i])) << "count of step " << i;
    EXPECT_TRUE(Same(folded.values[i], expected.values[i])) << "value of step " << i;
    EXPECT_TRUE(Same(folded.compensations[i], expected.compensations[i])) << "compensation of step " << i;
  }
}

TEST_P(KernelsTest, FoldsSeriesIntoEachStepAsOneAfterTheOther) {
  for (int round = 0; round < 100; ++round) {
    const size_t steps = random_() % 40;
    Folded sums(steps);
    Folded minima(steps);
    Folded maxima(steps);
    Folded expected_sums(steps);
    Folded expected_minima(steps);
    Folded expected_maxima(steps);
    for (int series = 0; series < 6; ++series) {
      // Some steps are behind the others, as where series come and go.
      const size_t begin = series % 3 == 0 ? random_() % (steps + 1) : 0;
      const std::vector<double> values = Values(steps - begin, round % 2 == 0);
      const auto from = [begin](const FoldColumns& columns) {
        return FoldColumns{columns.counts.subspan(begin), columns.values.subspan(begin),
                           columns.compensations.subspan(begin)};
      };
      FoldSums(values, from(sums.columns()));
      FoldMinima(values, from(minima.columns()));
      FoldMaxima(values, from(maxima.columns()));
      for (size_t i = 0; i < values.size(); ++i) {
        const size_t step = begin + i;
        const double value = values[i];
        if (expected_sums.counts[step]++ == 0) {
          expected_sums.values[step] = value;
        } else {
          KahanAdd(value, &expected_sums.values[step], &expected_sums.compensations[step]);
        }
        double& least = expected_minima.values[step];
        if (expected_minima.counts[step]++ == 0 || least > value || std::isnan(least)) least = value;
        double& greatest = expected_maxima.values[step];
        if (expected_maxima.counts[step]++ == 0 || greatest < value || std::isnan(greatest)) greatest = value;
      }
    }
    ExpectSame(sums, expected_sums);
    ExpectSame(minima, expected_minima);
    ExpectSame(maxima, expected_maxima);
  }
}

TEST_P(KernelsTest, FiniteSumsEndBeforeTheStepThatOverflows) {
  for (size_t overflow = 0; overflow < 20; ++overflow) {
    constexpr size_t kSteps = 20;
    Folded sums(kSteps);
    std::vector<double> values(kSteps, 1);
    values[overflow] = kMax;
    // The first value of a step does not overflow, whatever it is.
    EXPECT_LE(FoldFiniteSums(std::vector<double>(kSteps, kInf), Folded(kSteps).columns()), kSteps);
    const size_t first = FoldFiniteSums(values, sums.columns());
    ASSERT_LE(first, kSteps);
    Folded expected(kSteps);
    for (size_t i = 0; i < first; ++i) {
      expected.counts[i] = 1;
      expected.values[i] = values[i];
    }
    ExpectSame(sums, expected);
    const size_t second = FoldFiniteSums(std::span(values).first(first), sums.columns());
    EXPECT_LE(second, overflow);
    for (size_t i = 0; i < second; ++i) {
      ++expected.counts[i];
      KahanAdd(values[i], &expected.values[i], &expected.compensations[i]);
    }
    ExpectSame(sums, expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, KernelsTest, ::testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& instance) { return std::string(hwy::TargetName(instance.param)); });

}  // namespace
}  // namespace millstream::promql::exec

// Compensated summation, in Neumaier's variant, as Prometheus sums.
//
// Source      A. Neumaier, "Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen", 1974.
#pragma once

#include <cmath>

namespace millstream::promql::exec {

// Adds `increment` to a sum whose lost digits gather in *compensation. The true sum is *sum + *compensation.
inline void KahanAdd(double increment, double* sum, double* compensation) {
  const double total = *sum + increment;
  if (std::isinf(total)) {
    // An infinite sum has no digits to lose; the difference would be NaN.
    *compensation = 0;
  } else if (std::fabs(*sum) >= std::fabs(increment)) {
    *compensation += (*sum - total) + increment;
  } else {
    *compensation += (increment - total) + *sum;
  }
  *sum = total;
}

// A sum and its compensation.
struct KahanSum {
  double sum = 0;
  double compensation = 0;

  void Add(double increment) { KahanAdd(increment, &sum, &compensation); }
  double Total() const { return sum + compensation; }
};

}  // namespace millstream::promql::exec

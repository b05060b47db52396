// What the floats of one window come to: the definitions that the kernels over many windows keep to.
//
// Every function takes at least one value.
#pragma once

#include <span>

namespace millstream::promql::exec {

double SumOf(std::span<const double> values);
// The mean by the sum, unless that overflows: then by a running mean from there on.
double AverageOf(std::span<const double> values);
double VarianceOf(std::span<const double> values);
// The first of the least, or of the greatest. NaN gives way to anything.
double LeastOf(std::span<const double> values);
double GreatestOf(std::span<const double> values);

// What the samples of a window span, and how far a result over them reaches to the window's bounds. It makes rate(),
// increase() and delta() of the difference between the last sample and the first.
struct Extrapolation {
  double sampled_seconds = 0;
  double average_seconds = 0;  // between samples
  double to_start_seconds = 0;
  double to_end_seconds = 0;

  // `intervals`: how many there are between the samples; 0 for one sample.
  Extrapolation(double sampled_ms, double intervals, double to_start_ms, double to_end_ms)
      : sampled_seconds(sampled_ms / 1000), to_start_seconds(to_start_ms / 1000), to_end_seconds(to_end_ms / 1000) {
    if (intervals > 0) average_seconds = sampled_seconds / intervals;
  }

  // A bound further off than this is not reached: the series is taken to begin or end half an average interval beyond
  // its samples.
  double threshold() const { return average_seconds * 1.1; }

  void LimitStart() {
    if (to_start_seconds >= threshold()) to_start_seconds = average_seconds / 2;
  }
  // A counter does not go below zero: it began at the latest where the line through its samples meets zero.
  void LimitStartToZero(double first, double difference) {
    if (!(difference > 0 && first >= 0)) return;
    const double to_zero = sampled_seconds * (first / difference);
    if (to_zero < to_start_seconds) to_start_seconds = to_zero;
  }
  void LimitEnd() {
    if (to_end_seconds >= threshold()) to_end_seconds = average_seconds / 2;
  }
  double Factor() const {
    if (sampled_seconds == 0) return 1;
    return (sampled_seconds + to_start_seconds + to_end_seconds) / sampled_seconds;
  }
};

}  // namespace millstream::promql::exec

// How long things took, in buckets of fixed relative width, in fixed memory.
//
// Values up to 127 ns have a bucket each; above, every power of two is divided into 64 buckets. A quantile is the
// middle of its bucket, hence within 1/128 (0.8 %) of the value that stands at that rank; the extremes are exact.
// Values above the last bucket (2^40 ns, 18 minutes) count in it.
//
// Threads     One thread records; any thread reads, and sees counts that may be a little apart from each other.
// Units       Nanoseconds.
// Cost        Record: a few instructions. Memory: kBuckets * 8 bytes, 18 KiB.
// Source      Gil Tene's HdrHistogram, for the idea of linear steps within powers of two.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace millstream::queue {

class LatencyHistogram {
 public:
  static constexpr int kStepBits = 6;
  static constexpr int kMagnitudes = 40;
  static constexpr size_t kSteps = size_t{1} << kStepBits;
  static constexpr size_t kBuckets = (kMagnitudes - kStepBits + 1) * kSteps;
  static constexpr double kRelativeError = 1.0 / (2 * kSteps);

  LatencyHistogram() = default;
  LatencyHistogram(const LatencyHistogram& other) { Merge(other); }
  LatencyHistogram& operator=(const LatencyHistogram&) = delete;

  void Record(int64_t nanoseconds, uint64_t count = 1);
  // Adds what the other one recorded; by the thread that records here.
  void Merge(const LatencyHistogram& other);

  uint64_t count() const { return count_.load(std::memory_order_relaxed); }  // a count needs no order
  int64_t min() const;                                                       // 0 when nothing was recorded
  int64_t max() const { return max_.load(std::memory_order_relaxed); }       // likewise
  double mean() const;
  // The value at rank ceil(quantile * count), at least 1; 0 when nothing was recorded. `quantile` is from 0 to 1.
  int64_t Quantile(double quantile) const;

  // Lines with a bar for each power of two that occurs, and the usual quantiles below.
  std::string Draw() const;

  static size_t BucketOf(uint64_t nanoseconds);
  static uint64_t BucketBegin(size_t bucket);
  static uint64_t BucketEnd(size_t bucket) { return BucketBegin(bucket + 1); }

 private:
  // All are written by the one thread that records.
  std::array<std::atomic<uint64_t>, kBuckets> buckets_{};
  std::atomic<uint64_t> count_{0};
  std::atomic<uint64_t> sum_{0};
  std::atomic<int64_t> min_{INT64_MAX};
  std::atomic<int64_t> max_{0};
};

}  // namespace millstream::queue

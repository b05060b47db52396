#include "millstream/queue/latency_histogram.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>

namespace millstream::queue {
namespace {

constexpr size_t kBarWidth = 50;

// One writer: a load and a store cost less than a read-modify-write, and relaxed because counts carry no order.
void Add(std::atomic<uint64_t>* counter, uint64_t amount) {
  counter->store(counter->load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
}

std::string Duration(double nanoseconds) {
  if (nanoseconds < 1e3) return fmt::format("{:.0f} ns", nanoseconds);
  if (nanoseconds < 1e6) return fmt::format("{:.1f} us", nanoseconds / 1e3);
  if (nanoseconds < 1e9) return fmt::format("{:.1f} ms", nanoseconds / 1e6);
  return fmt::format("{:.1f} s", nanoseconds / 1e9);
}

}  // namespace

size_t LatencyHistogram::BucketOf(uint64_t nanoseconds) {
  nanoseconds = std::min(nanoseconds, (uint64_t{1} << kMagnitudes) - 1);
  if (nanoseconds < kSteps) return nanoseconds;
  const int shift = static_cast<int>(std::bit_width(nanoseconds)) - 1 - kStepBits;
  return static_cast<size_t>(shift) * kSteps + (nanoseconds >> shift);
}

uint64_t LatencyHistogram::BucketBegin(size_t bucket) {
  if (bucket < 2 * kSteps) return bucket;
  const size_t shift = bucket / kSteps - 1;
  return (bucket - shift * kSteps) << shift;
}

void LatencyHistogram::Record(int64_t nanoseconds, uint64_t count) {
  const int64_t value = std::max<int64_t>(nanoseconds, 0);
  Add(&buckets_[BucketOf(static_cast<uint64_t>(value))], count);
  Add(&count_, count);
  Add(&sum_, static_cast<uint64_t>(value) * count);
  // As in Add.
  if (value < min_.load(std::memory_order_relaxed)) min_.store(value, std::memory_order_relaxed);
  if (value > max_.load(std::memory_order_relaxed)) max_.store(value, std::memory_order_relaxed);
}

void LatencyHistogram::Merge(const LatencyHistogram& other) {
  for (size_t i = 0; i < kBuckets; ++i) {
    const uint64_t count = other.buckets_[i].load(std::memory_order_relaxed);  // as in Add
    if (count > 0) Add(&buckets_[i], count);
  }
  Add(&count_, other.count());
  Add(&sum_, other.sum_.load(std::memory_order_relaxed));  // as in Add
  min_.store(std::min(min_.load(std::memory_order_relaxed), other.min_.load(std::memory_order_relaxed)),
             std::memory_order_relaxed);
  max_.store(std::max(max(), other.max()), std::memory_order_relaxed);
}

int64_t LatencyHistogram::min() const {
  return count() == 0 ? 0 : min_.load(std::memory_order_relaxed);  // a count needs no order
}

double LatencyHistogram::mean() const {
  const uint64_t count = this->count();
  if (count == 0) return 0;
  return static_cast<double>(sum_.load(std::memory_order_relaxed)) / static_cast<double>(count);  // as above
}

int64_t LatencyHistogram::Quantile(double quantile) const {
  // Counted here, since another thread may record meanwhile.
  uint64_t total = 0;
  for (const auto& bucket : buckets_) total += bucket.load(std::memory_order_relaxed);  // as in Add
  if (total == 0) return 0;
  const double wanted = std::ceil(std::clamp(quantile, 0.0, 1.0) * static_cast<double>(total));
  const uint64_t rank = std::clamp<uint64_t>(static_cast<uint64_t>(wanted), 1, total);
  if (rank == total) return max();
  uint64_t below = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    below += buckets_[i].load(std::memory_order_relaxed);  // as in Add
    if (below < rank) continue;
    const auto middle = static_cast<int64_t>(BucketBegin(i) + (BucketEnd(i) - 1 - BucketBegin(i)) / 2);
    return std::clamp(middle, min(), max());
  }
  return max();
}

std::string LatencyHistogram::Draw() const {
  // A bar for each power of two.
  std::array<uint64_t, kMagnitudes + 1> magnitudes{};
  uint64_t total = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    const uint64_t count = buckets_[i].load(std::memory_order_relaxed);  // as in Add
    magnitudes[static_cast<size_t>(std::bit_width(BucketBegin(i)))] += count;
    total += count;
  }
  std::string text;
  if (total == 0) return text;
  const auto occurs = [](uint64_t count) { return count > 0; };
  const auto first = std::find_if(magnitudes.begin(), magnitudes.end(), occurs);
  const auto last = std::find_if(magnitudes.rbegin(), magnitudes.rend(), occurs).base();
  const uint64_t highest = *std::max_element(magnitudes.begin(), magnitudes.end());
  for (auto it = first; it != last; ++it) {
    const auto end = static_cast<double>(uint64_t{1} << (it - magnitudes.begin()));
    const size_t width = (*it * kBarWidth + highest - 1) / highest;
    fmt::format_to(std::back_inserter(text), "  < {:>9} {:>12} {:>9.5f} % {}\n", Duration(end), *it,
                   100.0 * static_cast<double>(*it) / static_cast<double>(total), std::string(width, '#'));
  }
  for (const double quantile : {0.5, 0.9, 0.99, 0.999, 0.9999}) {
    fmt::format_to(std::back_inserter(text), "  p{:<8} {:>9}\n", quantile * 100,
                   Duration(static_cast<double>(Quantile(quantile))));
  }
  fmt::format_to(std::back_inserter(text), "  max       {:>9}\n", Duration(static_cast<double>(max())));
  return text;
}

}  // namespace millstream::queue

// What operators hand to each other: batches of series, each a dense column of samples over the steps of a grid.
//
// Layout      One value, one kind per step; a column of histograms only where a series has any. A step without a sample
//             has kind kAbsent, and its value means nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "millstream/base/status.h"
#include "millstream/base/strong_int.h"
#include "millstream/model/histogram.h"
#include "millstream/model/labels.h"
#include "millstream/storage/query_control.h"

namespace millstream::promql::exec {

// Series handed on at once. Enough to spread the cost of a call, few enough to stay in the processor's cache.
inline constexpr size_t kBatchSeries = 64;
// Columns are dense, so over many steps a batch is full with fewer series.
inline constexpr size_t kBatchCells = size_t{1} << 20;

// The times at which an expression is evaluated: start, start + step, …
struct Grid {
  TimestampMs start = 0;
  int64_t step = 1;  // positive
  size_t steps = 1;

  TimestampMs At(size_t index) const { return start + static_cast<int64_t>(index) * step; }
  TimestampMs end() const { return At(steps == 0 ? 0 : steps - 1); }
};

enum class SampleKind : uint8_t { kAbsent = 0, kFloat = 1, kHistogram = 2 };

using HistogramPtr = std::shared_ptr<const model::Histogram>;

struct Series {
  model::Labels labels;
  bool drop_name = false;  // with delayed name removal: the name goes when the query ends
  std::vector<double> values;
  std::vector<SampleKind> kinds;
  std::vector<HistogramPtr> histograms;  // empty, or one per step

  Series() = default;
  explicit Series(size_t steps) : values(steps), kinds(steps, SampleKind::kAbsent) {}

  bool Has(size_t step) const { return kinds[step] != SampleKind::kAbsent; }
  void SetFloat(size_t step, double value) {
    values[step] = value;
    kinds[step] = SampleKind::kFloat;
  }
  void SetHistogram(size_t step, HistogramPtr histogram) {
    if (histograms.empty()) histograms.resize(kinds.size());
    histograms[step] = std::move(histogram);
    kinds[step] = SampleKind::kHistogram;
  }
  void Clear(size_t step) {
    kinds[step] = SampleKind::kAbsent;
    if (!histograms.empty()) histograms[step].reset();
  }
  // The histogram of the step, or null.
  const HistogramPtr& Histogram(size_t step) const {
    static const HistogramPtr none;
    return kinds[step] == SampleKind::kHistogram ? histograms[step] : none;
  }
  // Takes step `from` of another series over the same grid.
  void Copy(size_t step, const Series& other) {
    if (other.kinds[step] == SampleKind::kHistogram) {
      SetHistogram(step, other.histograms[step]);
    } else {
      values[step] = other.values[step];
      kinds[step] = other.kinds[step];
    }
  }
  size_t CountSamples() const {
    size_t count = 0;
    for (const SampleKind kind : kinds) count += kind != SampleKind::kAbsent ? 1 : 0;
    return count;
  }
  // What the columns and labels take in memory, whether or not they hold samples.
  size_t Bytes() const {
    return values.size() * sizeof(double) + kinds.size() * sizeof(SampleKind) +
           histograms.size() * sizeof(HistogramPtr) + labels.encoded().size() + sizeof(Series);
  }
  bool Empty() const {
    for (const SampleKind kind : kinds) {
      if (kind != SampleKind::kAbsent) return false;
    }
    return true;
  }
};

using Batch = std::vector<Series>;
using BatchSink = std::function<Status(Batch&&)>;

// Samples and bytes held against the query's budget, given back when it goes.
class Charge {
 public:
  Charge() = default;
  Charge(Charge&& other) noexcept
      : control_(std::exchange(other.control_, nullptr)),
        samples_(std::exchange(other.samples_, 0)),
        bytes_(std::exchange(other.bytes_, 0)) {}
  Charge& operator=(Charge&& other) noexcept {
    if (this != &other) {
      Release();
      control_ = std::exchange(other.control_, nullptr);
      samples_ = std::exchange(other.samples_, 0);
      bytes_ = std::exchange(other.bytes_, 0);
    }
    return *this;
  }
  ~Charge() { Release(); }

  Status Add(storage::QueryControl& control, size_t samples, size_t bytes) {
    control_ = &control;
    samples_ += static_cast<int64_t>(samples);
    bytes_ += static_cast<int64_t>(bytes);
    // Both, so that what is given back later has been taken.
    const Status counted = control.AddSamples(static_cast<int64_t>(samples));
    const Status weighed = control.AddBytes(static_cast<int64_t>(bytes));
    return counted.ok() ? weighed : counted;
  }
  // A column of one sample for each step.
  Status AddColumn(storage::QueryControl& control, size_t steps) {
    return Add(control, steps, steps * (sizeof(double) + sizeof(SampleKind)));
  }

 private:
  void Release() {
    if (control_ == nullptr) return;
    control_->ReleaseSamples(samples_);
    control_->ReleaseBytes(bytes_);
    control_ = nullptr;
    samples_ = 0;
    bytes_ = 0;
  }

  storage::QueryControl* control_ = nullptr;
  int64_t samples_ = 0;
  int64_t bytes_ = 0;
};

// All series of an expression, with the charge for holding them.
struct Block {
  Batch series;
  Charge charge;
};

}  // namespace millstream::promql::exec

// WriteBatch: samples on their way into one partition, in columns, and WriteOutcome: what became of them.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "millstream/base/status.h"
#include "millstream/base/strong_int.h"
#include "millstream/model/exemplar.h"
#include "millstream/model/histogram.h"
#include "millstream/model/labels.h"
#include "millstream/model/metadata.h"
#include "millstream/storage/future_limit.h"
#include "millstream/storage/series_limits.h"

namespace millstream::storage {

inline constexpr size_t kBatchSamplesMax = 1'000'000;
inline constexpr size_t kRejectionsReportedMax = 100;

// A series that samples of a batch belong to. `ref` 0 means unknown: the partition finds or makes the series by
// `labels` and stores its ref here. With a ref, `labels` may be empty.
struct BatchSeries {
  SeriesRef ref{0};
  model::Labels labels;
};

// Columns of equal length. `item` is the position in the caller's request, for error reports.
struct FloatColumns {
  std::vector<uint32_t> series;  // index into WriteBatch::series
  std::vector<TimestampMs> timestamps;
  std::vector<double> values;
  std::vector<TimestampMs> start_timestamps;  // empty, or 0 where unknown
  std::vector<uint32_t> item;
};

struct HistogramColumns {
  std::vector<uint32_t> series;
  std::vector<TimestampMs> timestamps;
  std::vector<model::Histogram> histograms;
  std::vector<TimestampMs> start_timestamps;  // empty, or 0 where unknown
  std::vector<uint32_t> item;
};

// An exemplar names its series by the labels: that need not have samples.
struct BatchExemplar {
  model::Labels series;
  model::Exemplar exemplar;
  uint32_t item = 0;
};

struct WriteBatch {
  TenantId tenant{0};
  // Of the tenant, in all partitions together: new series beyond them are refused.
  SeriesLimits tenant_series;
  std::chrono::nanoseconds now{0};  // of the monotonic clock, for their rate
  FutureLimit future;               // of samples and exemplars
  bool lists_rejected = false;      // WriteOutcome::rejected_items is wanted
  std::vector<BatchSeries> series;
  FloatColumns floats;
  HistogramColumns histograms;
  std::vector<BatchExemplar> exemplars;
  std::vector<model::MetricMetadata> metadata;
};

// An item that was refused by itself; the rest of the batch stays.
struct Rejection {
  uint32_t item;
  Status reason;
};

struct WriteOutcome {
  uint64_t floats_written = 0;
  uint64_t histograms_written = 0;
  uint64_t exemplars_written = 0;  // those that are there already included
  uint64_t rejected = 0;
  std::vector<Rejection> rejections;     // the first kRejectionsReportedMax of them
  std::vector<uint32_t> rejected_items;  // all of them, when the batch asks for it
  std::vector<uint32_t> unknown_series;  // indices of series whose ref the partition no longer knows; their samples
                                         // were left out, neither written nor rejected: resend them with labels
};

}  // namespace millstream::storage

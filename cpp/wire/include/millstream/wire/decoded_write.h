// DecodedWrite: what every decoder of incoming metrics makes of a request, before any label is parsed.
//
// A series keeps its labels as the bytes that came on the wire: a series that was seen before is found by a hash of
// these, and only a new one pays for parsing (labels_decoder.h).
// Ownership   `bytes` and `added_labels` own what raw_labels points into; moving a DecodedWrite keeps the views valid,
// copying is off.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/status.h"
#include "millstream/base/strong_int.h"
#include "millstream/model/exemplar.h"
#include "millstream/model/histogram.h"
#include "millstream/model/metadata.h"

namespace millstream::wire {

// How raw_labels is written.
enum class LabelEncoding : uint8_t {
  kProtobuf,  // consecutive `labels` fields (field 1) of a remote-write TimeSeries
  kText,      // name{label="value",…} of the text exposition
  kPairs,     // per string: its length as 4 bytes little-endian, then its bytes; names and values alternate
};

inline constexpr size_t kItemErrorsMax = 100;

// An item that was refused by itself. `item` counts from 0 (series, JSON items) or from 1 (lines), as the decoder says.
struct ItemError {
  uint32_t item;
  Status reason;
};

// Half-open ranges into the columns of the request.
struct DecodedSeries {
  std::string_view raw_labels;
  uint32_t item = 0;
  uint32_t floats_begin = 0;
  uint32_t floats_end = 0;
  uint32_t histograms_begin = 0;
  uint32_t histograms_end = 0;
  uint32_t exemplars_begin = 0;
  uint32_t exemplars_end = 0;
  // Its one sample says what was counted from its start to its timestamp, not since the beginning: to be added up
  // before it is stored.
  bool delta = false;
  // Of a bucket of a histogram of delta temporality: as many bytes at the end of raw_labels are its label `le`. The
  // series of one point stand side by side.
  uint16_t le_bytes = 0;
};

// What adding up may keep.
struct DeltaLimits {
  int64_t stale_ms = 300'000;     // a series that paused longer begins anew
  uint64_t series_max = 100'000;  // of one tenant
};

struct DecodedWrite {
  DecodedWrite() = default;
  DecodedWrite(DecodedWrite&&) = default;
  DecodedWrite& operator=(DecodedWrite&&) = default;

  LabelEncoding encoding = LabelEncoding::kPairs;
  std::vector<DecodedSeries> series;
  std::vector<TimestampMs> timestamps;
  std::vector<double> values;
  std::vector<TimestampMs> histogram_timestamps;
  std::vector<model::Histogram> histograms;
  // When the counting of a sample began; 0 is unknown, as is what a column is too short for.
  std::vector<TimestampMs> start_timestamps;
  std::vector<TimestampMs> histogram_start_timestamps;
  std::vector<model::Exemplar> exemplars;  // their labels made by DecodeExemplarLabels
  std::vector<model::MetricMetadata> metadata;

  DeltaLimits delta_limits;

  // How many items the request has, where one of them can make several samples: refusals are counted by item then. 0:
  // by sample.
  uint32_t items = 0;
  uint64_t rejected = 0;
  std::vector<ItemError> errors;  // the first kItemErrorsMax of `rejected`

  std::unique_ptr<std::string> bytes;
  // Labels of series that were added later, which point into it.
  std::deque<std::string> added_labels;

  // Says when the counting of the sample or histogram that was added last began.
  void SetStart(TimestampMs start) { SetLast(start, timestamps.size(), &start_timestamps); }
  void SetHistogramStart(TimestampMs start) { SetLast(start, histograms.size(), &histogram_start_timestamps); }

  // Counts `count` samples of a refused item and keeps the reason while there is room.
  void Reject(uint32_t item, Status reason, uint64_t count = 1) {
    rejected += count;
    if (errors.size() < kItemErrorsMax) errors.push_back({item, std::move(reason)});
  }

 private:
  static void SetLast(TimestampMs start, size_t size, std::vector<TimestampMs>* column) {
    if (start == 0) return;
    column->resize(size, 0);
    column->back() = start;
  }
};

}  // namespace millstream::wire

// PairsBatch: gathers samples with labels as pairs into a DecodedWrite.
//
// Ownership   Copies the labels that it is given; Take() leaves it empty.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millstream/wire/decoded_write.h"

namespace millstream::wire {

class PairsBatch {
 public:
  PairsBatch() { Clear(); }

  void Add(uint32_t item, std::string_view raw_labels, TimestampMs timestamp, double value) {
    Begin(item, raw_labels);
    AddFloat(timestamp, value);
  }

  // A series; its samples follow.
  void Begin(uint32_t item, std::string_view raw_labels) {
    DecodedSeries series;
    series.item = item;
    series.floats_begin = series.floats_end = static_cast<uint32_t>(out_.timestamps.size());
    series.histograms_begin = series.histograms_end = static_cast<uint32_t>(out_.histograms.size());
    out_.series.push_back(series);
    ranges_.emplace_back(out_.bytes->size(), raw_labels.size());
    out_.bytes->append(raw_labels);
  }
  void AddFloat(TimestampMs timestamp, double value) {
    out_.timestamps.push_back(timestamp);
    out_.values.push_back(value);
    ++out_.series.back().floats_end;
  }
  void AddHistogram(TimestampMs timestamp, model::Histogram histogram) {
    out_.histogram_timestamps.push_back(timestamp);
    out_.histograms.push_back(std::move(histogram));
    ++out_.series.back().histograms_end;
  }
  void Reject(uint32_t item, Status reason) { out_.Reject(item, std::move(reason)); }

  DecodedWrite Take() {
    // Only now do the bytes stay where they are.
    for (size_t i = 0; i < ranges_.size(); ++i) {
      out_.series[i].raw_labels = std::string_view(*out_.bytes).substr(ranges_[i].first, ranges_[i].second);
    }
    DecodedWrite taken = std::move(out_);
    Clear();
    return taken;
  }

 private:
  void Clear() {
    out_ = DecodedWrite();
    out_.encoding = LabelEncoding::kPairs;
    out_.bytes = std::make_unique<std::string>();
    ranges_.clear();
  }

  DecodedWrite out_;
  std::vector<std::pair<size_t, size_t>> ranges_;
};

}  // namespace millstream::wire

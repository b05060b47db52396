// A store of a few series in memory, for tests of the executor.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "millstream/model/labels.h"
#include "millstream/storage/queryable.h"

namespace millstream::promql {

class MemoryQuerier final : public storage::Querier {
 public:
  // Samples at start, start + step, …; NaN with the staleness pattern is kept as such.
  void Add(const model::Labels& labels, const std::vector<double>& values, int64_t step_ms, TimestampMs start = 0) {
    storage::SampleColumns& columns = series_[labels];
    TimestampMs time = start;
    for (const double value : values) {
      columns.timestamps.push_back(time);
      columns.values.push_back(value);
      time += step_ms;
    }
  }

  Result<std::vector<std::unique_ptr<storage::SelectedSeries>>> Select(storage::TimeRange range,
                                                                       std::span<const model::Matcher> matchers,
                                                                       const storage::SelectHints&,
                                                                       storage::QueryControl&) const override {
    ++selects_;
    ranges_.push_back(range);
    std::vector<std::unique_ptr<storage::SelectedSeries>> out;
    for (const auto& [labels, columns] : series_) {
      bool matches = true;
      for (const model::Matcher& matcher : matchers) matches = matches && matcher.MatchesLabels(labels);
      if (matches) out.push_back(std::make_unique<Selected>(&labels, &columns, &reads_));
    }
    return out;
  }

  Result<std::vector<std::string>> LabelNames(storage::TimeRange, std::span<const model::Matcher>, size_t,
                                              storage::QueryControl&) const override {
    return std::vector<std::string>();
  }
  Result<std::vector<std::string>> LabelValues(std::string_view, storage::TimeRange, std::span<const model::Matcher>,
                                               size_t, storage::QueryControl&) const override {
    return std::vector<std::string>();
  }

  int selects() const { return selects_; }
  int reads() const { return reads_; }
  const std::vector<storage::TimeRange>& ranges() const { return ranges_; }

 private:
  class Selected final : public storage::SelectedSeries {
   public:
    Selected(const model::Labels* labels, const storage::SampleColumns* columns, int* reads)
        : labels_(labels), columns_(columns), reads_(reads) {}
    const model::Labels& labels() const override { return *labels_; }
    Status Read(storage::TimeRange range, storage::SampleColumns* out) const override {
      ++*reads_;
      out->Clear();
      for (size_t i = 0; i < columns_->timestamps.size(); ++i) {
        if (columns_->timestamps[i] < range.min || columns_->timestamps[i] > range.max) continue;
        out->timestamps.push_back(columns_->timestamps[i]);
        out->values.push_back(columns_->values[i]);
      }
      return Status::Ok();
    }

   private:
    const model::Labels* labels_;
    const storage::SampleColumns* columns_;
    int* reads_;
  };

  std::map<model::Labels, storage::SampleColumns> series_;
  mutable int selects_ = 0;
  mutable int reads_ = 0;
  mutable std::vector<storage::TimeRange> ranges_;
};

}  // namespace millstream::promql

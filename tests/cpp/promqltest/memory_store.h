// A store in memory for scripts: as simple as can be, with Prometheus's rules on order, duplicates and the counter
// reset hints that its chunks imply.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "millstream/model/histogram_math.h"
#include "millstream/promqltest/promqltest.h"

namespace millstream::promqltest {

struct MemorySample {
  TimestampMs time = 0;
  double value = 0;
  std::shared_ptr<const model::Histogram> histogram;
  TimestampMs start = 0;
};

using MemorySeries = std::map<model::Labels, std::vector<MemorySample>>;

class MemoryStore final : public Store {
 public:
  static Result<std::unique_ptr<Store>> Make() { return std::unique_ptr<Store>(std::make_unique<MemoryStore>()); }

  Result<std::unique_ptr<storage::Appender>> MakeAppender() override {
    return std::unique_ptr<storage::Appender>(std::make_unique<MemoryAppender>(&series_));
  }
  Result<std::unique_ptr<storage::Querier>> MakeQuerier() override {
    return std::unique_ptr<storage::Querier>(std::make_unique<MemoryQuerier>(series_));
  }

 private:
  class MemoryAppender final : public storage::Appender {
   public:
    explicit MemoryAppender(MemorySeries* series) : series_(series) {}

    Status Append(const model::Labels& labels, TimestampMs timestamp, double value, TimestampMs start) override {
      pending_.emplace_back(labels, MemorySample{timestamp, value, nullptr, start});
      return Status::Ok();
    }
    Status AppendHistogram(const model::Labels& labels, TimestampMs timestamp, const model::Histogram& histogram,
                           TimestampMs start) override {
      pending_.emplace_back(labels,
                            MemorySample{timestamp, 0, std::make_shared<const model::Histogram>(histogram), start});
      return Status::Ok();
    }
    Status Commit() override {
      for (auto& [labels, sample] : pending_) {
        auto& samples = (*series_)[labels];
        if (!samples.empty() && samples.back().time >= sample.time) {
          return OutOfRange("sample of {} at {} is out of order", labels.ToString(), sample.time);
        }
        if (sample.histogram) sample.histogram = WithStoredHint(samples, *sample.histogram);
        samples.push_back(std::move(sample));
      }
      return Status::Ok();
    }

   private:
    // Of a chunk's first histogram nothing is known, the later ones are no resets.
    static std::shared_ptr<const model::Histogram> WithStoredHint(const std::vector<MemorySample>& before,
                                                                  model::Histogram histogram) {
      if (histogram.counter_reset_hint != model::CounterResetHint::kGauge) {
        const bool continues = !before.empty() && before.back().histogram != nullptr &&
                               before.back().histogram->counter_reset_hint != model::CounterResetHint::kGauge &&
                               before.back().histogram->schema == histogram.schema &&
                               before.back().histogram->zero_threshold == histogram.zero_threshold &&
                               before.back().histogram->custom_values == histogram.custom_values &&
                               !model::DetectReset(histogram, *before.back().histogram);
        histogram.counter_reset_hint =
            continues ? model::CounterResetHint::kNotReset : model::CounterResetHint::kUnknown;
      }
      return std::make_shared<const model::Histogram>(std::move(histogram));
    }

    MemorySeries* series_;
    std::vector<std::pair<model::Labels, MemorySample>> pending_;
  };

  class Selected final : public storage::SelectedSeries {
   public:
    Selected(model::Labels labels, std::vector<MemorySample> samples)
        : labels_(std::move(labels)), samples_(std::move(samples)) {}

    const model::Labels& labels() const override { return labels_; }
    Status Read(storage::TimeRange range, storage::SampleColumns* out) const override {
      out->Clear();
      for (const MemorySample& sample : samples_) {
        if (sample.time < range.min || sample.time > range.max) continue;
        if (sample.histogram) {
          out->histogram_timestamps.push_back(sample.time);
          out->histograms.push_back(sample.histogram);
          out->histogram_start_timestamps.push_back(sample.start);
        } else {
          out->timestamps.push_back(sample.time);
          out->values.push_back(sample.value);
          out->start_timestamps.push_back(sample.start);
        }
      }
      return Status::Ok();
    }

   private:
    model::Labels labels_;
    std::vector<MemorySample> samples_;
  };

  class MemoryQuerier final : public storage::Querier {
   public:
    explicit MemoryQuerier(MemorySeries series) : series_(std::move(series)) {}

    Result<std::vector<std::unique_ptr<storage::SelectedSeries>>> Select(storage::TimeRange range,
                                                                         std::span<const model::Matcher> matchers,
                                                                         const storage::SelectHints&,
                                                                         storage::QueryControl&) const override {
      std::vector<std::unique_ptr<storage::SelectedSeries>> selected;
      for (const auto& [labels, samples] : series_) {
        const bool matches = std::all_of(matchers.begin(), matchers.end(),
                                         [&](const model::Matcher& matcher) { return matcher.MatchesLabels(labels); });
        const bool in_range = std::any_of(samples.begin(), samples.end(), [&](const MemorySample& sample) {
          return sample.time >= range.min && sample.time <= range.max;
        });
        if (matches && in_range) selected.push_back(std::make_unique<Selected>(labels, samples));
      }
      return selected;
    }
    Result<std::vector<std::string>> LabelNames(storage::TimeRange, std::span<const model::Matcher>, size_t,
                                                storage::QueryControl&) const override {
      std::set<std::string> names;
      for (const auto& [labels, samples] : series_) {
        for (const model::Label label : labels) names.emplace(label.name);
      }
      return std::vector<std::string>(names.begin(), names.end());
    }
    Result<std::vector<std::string>> LabelValues(std::string_view name, storage::TimeRange,
                                                 std::span<const model::Matcher>, size_t,
                                                 storage::QueryControl&) const override {
      std::set<std::string> values;
      for (const auto& [labels, samples] : series_) {
        if (labels.Has(name)) values.emplace(labels.Get(name));
      }
      return std::vector<std::string>(values.begin(), values.end());
    }

   private:
    MemorySeries series_;
  };

  MemorySeries series_;
};

}  // namespace millstream::promqltest

// What the tests of tsdb have in common: making batches, reading everything back, random series.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "millstream/model/histogram.h"
#include "millstream/model/labels.h"
#include "millstream/model/matcher.h"
#include "millstream/model/value.h"
#include "millstream/storage/queryable.h"
#include "millstream/storage/write_batch.h"
#include "millstream/tsdb/partition.h"

namespace millstream::tsdb::testing {

inline constexpr storage::TimeRange kAllTime{INT64_MIN, INT64_MAX};

// Labels as a string that says a=b,c=d.
inline model::Labels LabelsOf(const std::string& name, const std::string& host = "") {
  return model::Labels::Of({{model::kMetricName, name}, {"host", host}});
}

class BatchBuilder {
 public:
  explicit BatchBuilder(TenantId tenant = TenantId(0)) { batch.tenant = tenant; }

  BatchBuilder& Float(const model::Labels& labels, TimestampMs timestamp, double value, TimestampMs start = 0) {
    batch.floats.series.push_back(SeriesOf(labels));
    batch.floats.timestamps.push_back(timestamp);
    batch.floats.values.push_back(value);
    batch.floats.start_timestamps.push_back(start);
    batch.floats.item.push_back(items_++);
    return *this;
  }
  BatchBuilder& Histogram(const model::Labels& labels, TimestampMs timestamp, const model::Histogram& histogram) {
    batch.histograms.series.push_back(SeriesOf(labels));
    batch.histograms.timestamps.push_back(timestamp);
    batch.histograms.histograms.push_back(histogram);
    batch.histograms.item.push_back(items_++);
    return *this;
  }
  uint32_t SeriesOf(const model::Labels& labels) {
    const auto [at, is_new] = series_.emplace(labels.encoded(), static_cast<uint32_t>(batch.series.size()));
    if (is_new) batch.series.push_back({SeriesRef(0), labels});
    return at->second;
  }

  storage::WriteBatch batch;

 private:
  std::map<std::string, uint32_t> series_;
  uint32_t items_ = 0;
};

inline storage::WriteOutcome MustWrite(Partition& partition, BatchBuilder& builder) {
  storage::WriteOutcome outcome;
  const auto written = partition.Write(builder.batch, &outcome);
  EXPECT_TRUE(written.ok()) << written.status().ToString();
  return outcome;
}

inline model::Matcher Match(model::MatchType type, std::string name, std::string value) {
  return model::Matcher::Make(type, std::move(name), std::move(value)).value();
}
inline model::Matcher MatchEverything() {
  return Match(model::MatchType::kRegex, "__name__", ".*");
}

struct ReadSeries {
  model::Labels labels;
  storage::SampleColumns samples;
};

inline Result<std::vector<ReadSeries>> TryReadAll(const storage::Queryable& store, std::vector<model::Matcher> matchers,
                                                  storage::TimeRange range = kAllTime, TenantId tenant = TenantId(0)) {
  storage::QueryControl control;
  MS_ASSIGN_OR_RETURN(auto querier, store.MakeQuerier(tenant));
  MS_ASSIGN_OR_RETURN(auto selected, querier->Select(range, matchers, {}, control));
  std::vector<ReadSeries> all;
  for (const auto& series : selected) {
    ReadSeries read{series->labels(), {}};
    MS_RETURN_IF_ERROR(series->Read(range, &read.samples));
    all.push_back(std::move(read));
  }
  return all;
}

inline std::vector<ReadSeries> ReadAll(const storage::Queryable& store, std::vector<model::Matcher> matchers,
                                       storage::TimeRange range = kAllTime, TenantId tenant = TenantId(0)) {
  auto all = TryReadAll(store, std::move(matchers), range, tenant);
  EXPECT_TRUE(all.ok()) << all.status().ToString();
  return all.ok() ? std::move(all).value() : std::vector<ReadSeries>();
}

// A sample without its hint, comparable bit by bit.
struct ModelSample {
  std::optional<uint64_t> bits;
  std::shared_ptr<const model::Histogram> histogram;
  TimestampMs start = 0;

  friend bool operator==(const ModelSample& a, const ModelSample& b) {
    if (a.bits != b.bits || a.start != b.start || (a.histogram == nullptr) != (b.histogram == nullptr)) return false;
    if (a.histogram == nullptr) return true;
    model::Histogram x = *a.histogram;
    model::Histogram y = *b.histogram;
    x.counter_reset_hint = y.counter_reset_hint = model::CounterResetHint::kUnknown;
    return x.IdenticalTo(y);
  }
};
// By encoded labels, then by time.
using Model = std::map<std::string, std::map<TimestampMs, ModelSample>>;

// Fails the test when a timestamp occurs twice or the columns are out of order.
inline Model ModelOf(const std::vector<ReadSeries>& all) {
  Model model;
  for (const ReadSeries& series : all) {
    auto& samples = model[std::string(series.labels.encoded())];
    const auto& columns = series.samples;
    EXPECT_EQ(columns.timestamps.size(), columns.values.size());
    for (size_t i = 0; i < columns.timestamps.size(); ++i) {
      ModelSample sample;
      sample.bits = std::bit_cast<uint64_t>(columns.values[i]);
      sample.start = columns.start_timestamps.empty() ? 0 : columns.start_timestamps[i];
      EXPECT_TRUE(i == 0 || columns.timestamps[i] > columns.timestamps[i - 1]);
      EXPECT_TRUE(samples.emplace(columns.timestamps[i], sample).second) << "doubled at " << columns.timestamps[i];
    }
    EXPECT_EQ(columns.histogram_timestamps.size(), columns.histograms.size());
    for (size_t i = 0; i < columns.histogram_timestamps.size(); ++i) {
      ModelSample sample;
      sample.histogram = columns.histograms[i];
      sample.start = columns.histogram_start_timestamps.empty() ? 0 : columns.histogram_start_timestamps[i];
      EXPECT_TRUE(i == 0 || columns.histogram_timestamps[i] > columns.histogram_timestamps[i - 1]);
      EXPECT_TRUE(samples.emplace(columns.histogram_timestamps[i], sample).second)
          << "doubled at " << columns.histogram_timestamps[i];
    }
    if (samples.empty()) model.erase(std::string(series.labels.encoded()));
  }
  return model;
}

inline model::Histogram SomeHistogram(double scale, int32_t offset = 0) {
  model::Histogram histogram;
  histogram.schema = 1;
  histogram.zero_threshold = 0.001;
  histogram.zero_count = scale;
  histogram.positive_spans = {{offset, 2}, {1, 1}};
  histogram.positive_buckets = {scale, 2 * scale, 3 * scale};
  histogram.negative_spans = {{-1, 1}};
  histogram.negative_buckets = {scale};
  histogram.count = 8 * scale;
  histogram.sum = 100 * scale;
  return histogram;
}

inline double RandomValue(std::mt19937_64& random) {
  switch (random() % 6) {
    case 0:
      return std::bit_cast<double>(random());
    case 1:
      return model::StaleNan();
    case 2:
      return -0.0;
    default:
      return static_cast<double>(random() % 1000) / 10;
  }
}

}  // namespace millstream::tsdb::testing

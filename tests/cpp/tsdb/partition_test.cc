#include "millstream/tsdb/partition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "millstream/tsdb/merge_querier.h"
#include "millstream/tsdb/partition_appender.h"
#include "tsdb_testing.h"

namespace millstream::tsdb {
namespace {

using testing::BatchBuilder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::LabelsOf;
using testing::Match;
using testing::MatchEverything;
using testing::MustWrite;
using testing::ReadAll;
using Type = model::MatchType;

constexpr uint64_t kPartitionSeed = 4711;

std::vector<std::string> HostsOf(const Partition& partition, std::vector<model::Matcher> matchers) {
  std::vector<std::string> hosts;
  for (const auto& series : ReadAll(partition, std::move(matchers))) hosts.emplace_back(series.labels.Get("host"));
  return hosts;
}

TEST(Partition, ReadsBackWhatWasWrittenInOrderOfLabels) {
  const auto partition = Partition::MakeInMemory({});
  BatchBuilder batch;
  batch.Float(LabelsOf("up", "b"), 20, 2).Float(LabelsOf("up", "a"), 10, 1).Float(LabelsOf("up", "a"), 30, 3);
  const auto outcome = MustWrite(*partition, batch);
  EXPECT_EQ(outcome.floats_written, 3u);
  EXPECT_EQ(outcome.rejected, 0u);
  const auto all = ReadAll(*partition, {Match(Type::kEqual, "__name__", "up")});
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].labels, LabelsOf("up", "a"));
  EXPECT_THAT(all[0].samples.timestamps, ElementsAre(10, 30));
  EXPECT_THAT(all[0].samples.values, ElementsAre(1, 3));
  EXPECT_THAT(all[1].samples.timestamps, ElementsAre(20));
}

TEST(Partition, GivesRefsThatAscendAndTakesThemInsteadOfLabels) {
  const auto partition = Partition::MakeInMemory({});
  BatchBuilder first;
  first.Float(LabelsOf("a"), 1, 1).Float(LabelsOf("b"), 1, 1);
  MustWrite(*partition, first);
  EXPECT_EQ(first.batch.series[0].ref, SeriesRef(1));
  EXPECT_EQ(first.batch.series[1].ref, SeriesRef(2));
  storage::WriteBatch second;
  second.series = {{SeriesRef(2), {}}, {SeriesRef(99), {}}};
  second.floats.series = {0, 1};
  second.floats.timestamps = {2, 2};
  second.floats.values = {5, 6};
  storage::WriteOutcome outcome;
  ASSERT_TRUE(partition->Write(second, &outcome).ok());
  EXPECT_EQ(outcome.floats_written, 1u);
  EXPECT_EQ(outcome.rejected, 0u);
  EXPECT_THAT(outcome.unknown_series, ElementsAre(1));
  EXPECT_THAT(ReadAll(*partition, {Match(Type::kEqual, "__name__", "b")})[0].samples.values, ElementsAre(1, 5));
}

TEST(Partition, LeavesOutASampleThatIsThereAlreadyAndSaysItIsWritten) {
  const auto partition = Partition::MakeInMemory({});
  BatchBuilder batch;
  batch.Float(LabelsOf("a"), 1, 1).Float(LabelsOf("a"), 2, model::StaleNan()).Float(LabelsOf("a"), 3, 3);
  MustWrite(*partition, batch);
  const auto again = MustWrite(*partition, batch);
  EXPECT_EQ(again.floats_written, 3u);
  EXPECT_EQ(again.rejected, 0u);
  EXPECT_EQ(partition->Stats().samples_appended, 3u);
  EXPECT_EQ(partition->Stats().samples_duplicate, 3u);
  EXPECT_EQ(ReadAll(*partition, {MatchEverything()})[0].samples.size(), 3u);
}

TEST(Partition, RefusesAnotherValueAtTheSameTimeWhereverTheFirstIs) {
  PartitionOptions options;
  options.float_chunk_samples_max = 4;
  const auto partition = Partition::MakeInMemory(options);
  BatchBuilder batch;
  for (int i = 0; i < 20; ++i) batch.Float(LabelsOf("a"), i * 10, i);
  for (int i = 0; i < 10; ++i) batch.Float(LabelsOf("a"), 5 + i * 10, -i);
  EXPECT_EQ(MustWrite(*partition, batch).rejected, 0u);
  for (int i = 0; i < 39; ++i) {
    BatchBuilder other;
    const int time = i < 20 ? i * 10 : 5 + (i - 20) * 10;
    other.Float(LabelsOf("a"), time, 1e9);
    const auto outcome = MustWrite(*partition, other);
    if (time > 95 && time % 10 == 5) {
      EXPECT_EQ(outcome.rejected, 0u);
      continue;
    }
    ASSERT_EQ(outcome.rejected, 1u) << time;
    EXPECT_EQ(outcome.rejections[0].reason.code(), StatusCode::kAlreadyExists);
    EXPECT_THAT(std::string(outcome.rejections[0].reason.message()), HasSubstr("duplicate sample for timestamp"));
  }
}

TEST(Partition, AcceptsOldSamplesWithinTheWindowAndNamesTheBoundToOlderOnes) {
  PartitionOptions options;
  options.out_of_order_window_ms = 100;
  const auto partition = Partition::MakeInMemory(options);
  BatchBuilder batch;
  batch.Float(LabelsOf("a"), 1000, 1).Float(LabelsOf("a"), 900, 2).Float(LabelsOf("a"), 899, 3);
  batch.Float(LabelsOf("b"), -5, 1);
  const auto outcome = MustWrite(*partition, batch);
  EXPECT_EQ(outcome.floats_written, 3u);
  ASSERT_EQ(outcome.rejections.size(), 1u);
  EXPECT_EQ(outcome.rejections[0].item, 2u);
  EXPECT_EQ(outcome.rejections[0].reason.code(), StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(outcome.rejections[0].reason.message()), HasSubstr("too old sample: timestamp 899"));
  EXPECT_THAT(std::string(outcome.rejections[0].reason.message()), HasSubstr("900"));
  EXPECT_THAT(ReadAll(*partition, {MatchEverything()})[0].samples.timestamps, ElementsAre(900, 1000));
}

TEST(Partition, WithoutAWindowRefusesWhatIsOutOfOrder) {
  PartitionOptions options;
  options.out_of_order_window_ms = 0;
  const auto partition = Partition::MakeInMemory(options);
  BatchBuilder batch;
  batch.Float(LabelsOf("a"), 10, 1).Float(LabelsOf("a"), 9, 1).Float(LabelsOf("a"), 10, 1).Float(LabelsOf("a"), 10, 2);
  const auto outcome = MustWrite(*partition, batch);
  ASSERT_EQ(outcome.rejections.size(), 2u);
  EXPECT_THAT(std::string(outcome.rejections[0].reason.message()), HasSubstr("out of order sample"));
  EXPECT_EQ(outcome.rejections[1].reason.code(), StatusCode::kAlreadyExists);
}

TEST(Partition, TakesTheEndsOfTime) {
  const auto partition = Partition::MakeInMemory({});
  BatchBuilder batch;
  batch.Float(LabelsOf("a"), INT64_MIN, 1).Float(LabelsOf("a"), -1, 2).Float(LabelsOf("a"), INT64_MAX, 3);
  EXPECT_EQ(MustWrite(*partition, batch).rejected, 0u);
  EXPECT_THAT(ReadAll(*partition, {MatchEverything()})[0].samples.timestamps, ElementsAre(INT64_MIN, -1, INT64_MAX));
}

TEST(Partition, RefusesSeriesBeyondItsLimitOneByOne) {
  PartitionOptions options;
  options.series_max = 2;
  const auto partition = Partition::MakeInMemory(options);
  BatchBuilder batch;
  batch.Float(LabelsOf("a"), 1, 1).Float(LabelsOf("b"), 1, 1).Float(LabelsOf("c"), 1, 1).Float(LabelsOf("a"), 2, 1);
  const auto outcome = MustWrite(*partition, batch);
  EXPECT_EQ(outcome.floats_written, 3u);
  ASSERT_EQ(outcome.rejections.size(), 1u);
  EXPECT_EQ(outcome.rejections[0].item, 2u);
  EXPECT_EQ(outcome.rejections[0].reason.code(), StatusCode::kResourceExhausted);
}

TEST(Partition, MakesNoSeriesForRefusedSamples) {
  const auto partition = Partition::MakeInMemory({});
  model::Histogram bad = testing::SomeHistogram(1);
  bad.positive_buckets.pop_back();
  BatchBuilder batch;
  batch.Histogram(LabelsOf("h"), 1, bad);
  const auto outcome = MustWrite(*partition, batch);
  ASSERT_EQ(outcome.rejections.size(), 1u);
  EXPECT_EQ(outcome.rejections[0].reason.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(partition->Stats().series, 0u);
}

TEST(Partition, KeepsTenantsApart) {
  const auto partition = Partition::MakeInMemory({});
  BatchBuilder one(TenantId(1));
  one.Float(LabelsOf("a"), 1, 1);
  MustWrite(*partition, one);
  EXPECT_EQ(ReadAll(*partition, {MatchEverything()}, testing::kAllTime, TenantId(1)).size(), 1u);
  EXPECT_EQ(ReadAll(*partition, {MatchEverything()}, testing::kAllTime, TenantId(2)).size(), 0u);
}

TEST(Partition, FloatsAndHistogramsByTurnsKeepTheirOrder) {
  const auto partition = Partition::MakeInMemory(ScriptPartitionOptions());
  PartitionAppender appender(*partition);
  const auto labels = LabelsOf("mixed");
  for (int i = 0; i < 10; ++i) {
    if (i % 2 == 0) {
      ASSERT_TRUE(appender.Append(labels, i, i, 0).ok());
    } else {
      ASSERT_TRUE(appender.AppendHistogram(labels, i, testing::SomeHistogram(i), 0).ok());
    }
  }
  ASSERT_TRUE(appender.Commit().ok());
  const auto all = ReadAll(*partition, {MatchEverything()});
  EXPECT_THAT(all[0].samples.timestamps, ElementsAre(0, 2, 4, 6, 8));
  EXPECT_THAT(all[0].samples.histogram_timestamps, ElementsAre(1, 3, 5, 7, 9));
}

TEST(Partition, HintsOfHistogramsFollowResetsAndGauges) {
  const auto partition = Partition::MakeInMemory(ScriptPartitionOptions());
  PartitionAppender appender(*partition);
  auto gauge = testing::SomeHistogram(3);
  gauge.counter_reset_hint = model::CounterResetHint::kGauge;
  int time = 0;
  for (const double scale : {1.0, 2.0, 2.0, 1.0, 5.0}) {
    ASSERT_TRUE(appender.AppendHistogram(LabelsOf("c"), ++time, testing::SomeHistogram(scale), 0).ok());
    ASSERT_TRUE(appender.AppendHistogram(LabelsOf("g"), time, gauge, 0).ok());
  }
  // A bucket that was not there before is growth; one that is gone is a reset.
  auto wider = testing::SomeHistogram(5);
  wider.positive_spans = {{0, 4}};
  wider.positive_buckets = {5, 10, 1, 15};
  ASSERT_TRUE(appender.AppendHistogram(LabelsOf("c"), ++time, wider, 0).ok());
  ASSERT_TRUE(appender.AppendHistogram(LabelsOf("c"), ++time, testing::SomeHistogram(6), 0).ok());
  ASSERT_TRUE(appender.Commit().ok());
  std::vector<int> hints;
  const auto counters = ReadAll(*partition, {Match(Type::kEqual, "__name__", "c")});
  for (const auto& histogram : counters[0].samples.histograms) {
    hints.push_back(static_cast<int>(histogram->counter_reset_hint));
  }
  EXPECT_THAT(hints, ElementsAre(0, 2, 2, 0, 2, 2, 0));
  const auto gauges = ReadAll(*partition, {Match(Type::kEqual, "__name__", "g")});
  for (const auto& histogram : gauges[0].samples.histograms) {
    EXPECT_EQ(histogram->counter_reset_hint, model::CounterResetHint::kGauge);
  }
}

TEST(Partition, AppenderReportsTheFirstRefusal) {
  const auto partition = Partition::MakeInMemory(ScriptPartitionOptions());
  PartitionAppender appender(*partition);
  ASSERT_TRUE(appender.Append(LabelsOf("a"), 5, 1, 0).ok());
  ASSERT_TRUE(appender.Commit().ok());
  ASSERT_TRUE(appender.Append(LabelsOf("a"), 4, 1, 0).ok());
  EXPECT_EQ(appender.Commit().code(), StatusCode::kOutOfRange);
  EXPECT_TRUE(appender.Commit().ok());
}

TEST(Partition, MatchersFollowTheRulesForAbsentLabels) {
  const auto partition = Partition::MakeInMemory({});
  BatchBuilder batch;
  for (const char* host : {"", "a", "b", "c"}) batch.Float(LabelsOf("m", host), 1, 1);
  MustWrite(*partition, batch);
  using Hosts = std::vector<std::string>;
  const auto hosts = [&](Type type, const char* value) { return HostsOf(*partition, {Match(type, "host", value)}); };
  EXPECT_EQ(hosts(Type::kEqual, "a"), Hosts({"a"}));
  EXPECT_EQ(hosts(Type::kEqual, ""), Hosts({""}));
  EXPECT_EQ(hosts(Type::kNotEqual, "a"), Hosts({"", "b", "c"}));
  EXPECT_EQ(hosts(Type::kNotEqual, ""), Hosts({"a", "b", "c"}));
  EXPECT_EQ(hosts(Type::kRegex, "a|c"), Hosts({"a", "c"}));
  EXPECT_EQ(hosts(Type::kRegex, "a|"), Hosts({"", "a"}));
  EXPECT_EQ(hosts(Type::kRegex, "[ab]"), Hosts({"a", "b"}));
  EXPECT_EQ(hosts(Type::kRegex, ".*"), Hosts({"", "a", "b", "c"}));
  EXPECT_EQ(hosts(Type::kRegex, ".+"), Hosts({"a", "b", "c"}));
  EXPECT_EQ(hosts(Type::kNotRegex, "a|b"), Hosts({"", "c"}));
  EXPECT_EQ(hosts(Type::kNotRegex, "[ab]"), Hosts({"", "c"}));
  EXPECT_EQ(hosts(Type::kNotRegex, "a|"), Hosts({"b", "c"}));
  EXPECT_EQ(hosts(Type::kNotRegex, ".*"), Hosts());
  EXPECT_EQ(HostsOf(*partition, {Match(Type::kEqual, "absent", "")}), Hosts({"", "a", "b", "c"}));
  EXPECT_EQ(HostsOf(*partition, {Match(Type::kNotEqual, "absent", "")}), Hosts());
  EXPECT_EQ(HostsOf(*partition, {Match(Type::kRegex, "absent", "x?")}), Hosts({"", "a", "b", "c"}));
  EXPECT_EQ(HostsOf(*partition, {Match(Type::kRegex, "host", "[abc]"), Match(Type::kNotEqual, "host", "b")}),
            Hosts({"a", "c"}));
}

TEST(Partition, PostingsAnswerAsMatchingEachSeriesDoes) {
  std::mt19937_64 random(kPartitionSeed);
  const auto partition = Partition::MakeInMemory({});
  std::vector<model::Labels> all;
  BatchBuilder batch;
  for (int i = 0; i < 300; ++i) {
    model::LabelsBuilder labels;
    labels.Set("__name__", "m" + std::to_string(random() % 4)).Set("id", std::to_string(i));
    for (const char* name : {"x", "y", "z"}) labels.Set(name, std::string(random() % 3, 'v'));
    all.push_back(labels.Build());
    batch.Float(all.back(), 1, 1);
  }
  MustWrite(*partition, batch);
  const std::vector<std::string> patterns = {"", "v", "vv", "v|vv", "v*", "v+", "vv?|", "m[12]", "m1|m3", "1.*", ".*"};
  for (int round = 0; round < 400; ++round) {
    std::vector<model::Matcher> matchers;
    for (size_t k = 0; k <= random() % 4; ++k) {
      const char* names[] = {"__name__", "x", "y", "z", "id", "none"};
      matchers.push_back(
          Match(static_cast<Type>(random() % 4), names[random() % 6], patterns[random() % patterns.size()]));
    }
    std::vector<std::string> expected;
    for (const auto& labels : all) {
      if (std::all_of(matchers.begin(), matchers.end(), [&](const auto& m) { return m.MatchesLabels(labels); })) {
        expected.push_back(labels.ToString());
      }
    }
    std::vector<std::string> found;
    for (const auto& series : ReadAll(*partition, matchers)) found.push_back(series.labels.ToString());
    std::sort(expected.begin(), expected.end());
    std::sort(found.begin(), found.end());
    ASSERT_EQ(found, expected) << "seed " << kPartitionSeed << ", round " << round;
  }
}

TEST(Partition, AgreesWithAModelUnderRandomWrites) {
  for (uint64_t seed = kPartitionSeed; seed < kPartitionSeed + 20; ++seed) {
    std::mt19937_64 random(seed);
    PartitionOptions options;
    options.out_of_order_window_ms = static_cast<int64_t>(random() % 3) * 500;
    options.block_range_ms = 1000;
    options.float_chunk_samples_max = static_cast<uint32_t>(random() % 20) + 1;
    options.histogram_chunk_samples_max = static_cast<uint32_t>(random() % 20) + 1;
    const auto partition = Partition::MakeInMemory(options);
    testing::Model model;
    std::map<std::string, TimestampMs> newest;
    int64_t now = -2000;
    for (int round = 0; round < 60; ++round) {
      BatchBuilder batch;
      uint64_t rejected = 0;
      for (uint64_t k = random() % 40; k > 0; --k) {
        const auto labels = LabelsOf("m" + std::to_string(random() % 3));
        const std::string key(labels.encoded());
        now += static_cast<int64_t>(random() % 20);
        const int64_t time = now - (random() % 3 == 0 ? static_cast<int64_t>(random() % 1500) : 0);
        testing::ModelSample sample;
        if (random() % 4 == 0) {
          auto histogram = testing::SomeHistogram(static_cast<double>(random() % 10), static_cast<int>(random() % 2));
          sample.histogram = std::make_shared<model::Histogram>(histogram);
          batch.Histogram(labels, time, histogram);
        } else {
          const double value = testing::RandomValue(random);
          sample.bits = std::bit_cast<uint64_t>(value);
          sample.start = static_cast<int64_t>(random() % 2);
          batch.Float(labels, time, value, sample.start);
        }
        const auto found = newest.find(key);
        const bool in_order = found == newest.end() || time > found->second;
        const bool too_old = !in_order && time < found->second - options.out_of_order_window_ms;
        auto& samples = model[key];
        const auto existing = samples.find(time);
        if (too_old) {
          ++rejected;
        } else if (existing != samples.end()) {
          auto same = existing->second;
          same.start = sample.start;
          if (!(same == sample)) ++rejected;
        } else {
          samples.emplace(time, sample);
          if (in_order) newest[key] = time;
        }
      }
      const auto outcome = MustWrite(*partition, batch);
      ASSERT_EQ(outcome.rejected, rejected) << "seed " << seed << ", round " << round;
    }
    std::erase_if(model, [](const auto& entry) { return entry.second.empty(); });
    ASSERT_EQ(testing::ModelOf(ReadAll(*partition, {MatchEverything()})), model) << "seed " << seed;
    const storage::TimeRange part{now - 700, now - 300};
    for (auto& [key, samples] : model) {
      std::erase_if(samples, [&](const auto& s) { return s.first < part.min || s.first > part.max; });
    }
    std::erase_if(model, [](const auto& entry) { return entry.second.empty(); });
    ASSERT_EQ(testing::ModelOf(ReadAll(*partition, {MatchEverything()}, part)), model) << "seed " << seed;
  }
}

TEST(Partition, LabelNamesAndValuesAreSortedAndLimited) {
  const auto partition = Partition::MakeInMemory({});
  BatchBuilder batch;
  for (const char* host : {"c", "a", "b"}) batch.Float(LabelsOf("m", host), 1, 1);
  batch.Float(LabelsOf("n"), 100, 1);
  MustWrite(*partition, batch);
  storage::QueryControl control;
  const auto querier = partition->MakeQuerier(TenantId(0)).value();
  EXPECT_THAT(querier->LabelNames(testing::kAllTime, {}, 0, control).value(), ElementsAre("__name__", "host"));
  EXPECT_THAT(querier->LabelValues("host", testing::kAllTime, {}, 0, control).value(), ElementsAre("a", "b", "c"));
  EXPECT_THAT(querier->LabelValues("host", testing::kAllTime, {}, 1, control).value(), ElementsAre("a", "b"));
  const std::vector<model::Matcher> n = {Match(Type::kEqual, "__name__", "n")};
  EXPECT_THAT(querier->LabelNames(testing::kAllTime, n, 0, control).value(), ElementsAre("__name__"));
  EXPECT_THAT(querier->LabelNames({0, 50}, n, 0, control).value(), ElementsAre());
  EXPECT_THAT(querier->LabelValues("none", testing::kAllTime, {}, 0, control).value(), ElementsAre());
}

TEST(Partition, SelectStopsWhenTheQueryIsCancelled) {
  const auto partition = Partition::MakeInMemory({});
  storage::QueryControl control;
  control.Cancel();
  const auto querier = partition->MakeQuerier(TenantId(0)).value();
  EXPECT_EQ(querier->Select(testing::kAllTime, {}, {}, control).status().code(), StatusCode::kCancelled);
}

TEST(Partition, KeepsTheLatestMetadataOfEachMetric) {
  const auto partition = Partition::MakeInMemory({});
  BatchBuilder batch;
  batch.batch.metadata = {{"b", "gauge", "first", ""}, {"a", "counter", "c", "bytes"}, {"b", "gauge", "second", ""}};
  MustWrite(*partition, batch);
  const auto all = partition->Metadata(TenantId(0), "", 0);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].metric, "a");
  EXPECT_EQ(all[1].help, "second");
  EXPECT_EQ(partition->Metadata(TenantId(0), "b", 0).size(), 1u);
  EXPECT_EQ(partition->Metadata(TenantId(0), "none", 0).size(), 0u);
  EXPECT_EQ(partition->Metadata(TenantId(0), "", 1).size(), 1u);
}

TEST(Partition, StatusCountsSeriesPairsAndTimes) {
  const auto partition = Partition::MakeInMemory({});
  BatchBuilder batch;
  for (const char* host : {"c", "a", "b"}) batch.Float(LabelsOf("m", host), 5, 1);
  batch.Float(LabelsOf("n", "a"), 100, 1);
  MustWrite(*partition, batch);
  const auto status = partition->StatusOf(TenantId(0), 1);
  EXPECT_EQ(status.series, 4u);
  EXPECT_EQ(status.chunks, 4u);
  EXPECT_EQ(status.label_pairs, 5u);
  EXPECT_EQ(status.min_time, 5);
  EXPECT_EQ(status.max_time, 100);
  ASSERT_EQ(status.series_count_by_metric_name.size(), 1u);
  EXPECT_EQ(status.series_count_by_metric_name[0].name, "m");
  EXPECT_EQ(status.series_count_by_metric_name[0].count, 3u);
  EXPECT_EQ(status.label_value_count_by_label_name[0].name, "host");
  EXPECT_EQ(status.series_count_by_label_pair[0].name, "__name__=m");
}

TEST(Partition, HeadBytesGrowWithSamplesAndSeries) {
  const auto partition = Partition::MakeInMemory({});
  const uint64_t empty = partition->Stats().head_bytes;
  BatchBuilder batch;
  for (int i = 0; i < 1000; ++i) batch.Float(LabelsOf("m"), i, i);
  MustWrite(*partition, batch);
  const uint64_t one = partition->Stats().head_bytes;
  EXPECT_GT(one, empty);
  BatchBuilder many;
  for (int i = 0; i < 1000; ++i) many.Float(LabelsOf("m", std::to_string(i)), i, i);
  MustWrite(*partition, many);
  EXPECT_GT(partition->Stats().head_bytes, one + 1000 * 100);
}

TEST(MergeQueryable, ListsTheSeriesOfAllStoresInOrder) {
  const auto one = Partition::MakeInMemory({});
  const auto two = Partition::MakeInMemory({});
  BatchBuilder first;
  first.Float(LabelsOf("m", "a"), 1, 1).Float(LabelsOf("m", "c"), 1, 3);
  MustWrite(*one, first);
  BatchBuilder second;
  second.Float(LabelsOf("m", "b"), 1, 2);
  MustWrite(*two, second);
  const MergeQueryable both({one.get(), two.get()});
  const auto all = ReadAll(both, {MatchEverything()});
  ASSERT_EQ(all.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(all[i].samples.values[0], static_cast<double>(i + 1));
  storage::QueryControl control;
  const auto querier = both.MakeQuerier(TenantId(0)).value();
  EXPECT_THAT(querier->LabelValues("host", testing::kAllTime, {}, 0, control).value(), ElementsAre("a", "b", "c"));
}

TEST(Partition, ReadersSeeEachSeriesAscendingAndGaplessWhileTheWriterWrites) {
  PartitionOptions options;
  options.float_chunk_samples_max = 16;
  const auto partition = Partition::MakeInMemory(options);
  constexpr int kRounds = 300;
  std::atomic<int> written{0};
  std::atomic<bool> failed{false};
  std::vector<std::thread> readers;
  for (int r = 0; r < 3; ++r) {
    readers.emplace_back([&] {
      int before = 0;
      do {
        before = written.load();
        const auto all = testing::TryReadAll(*partition, {MatchEverything()});
        if (!all.ok()) failed = true;
        for (const auto& series : *all) {
          const auto& times = series.samples.timestamps;
          for (size_t i = 0; i < times.size(); ++i) {
            if (times[i] != static_cast<int64_t>(i) || series.samples.values[i] != static_cast<double>(i)) {
              failed = true;
            }
          }
          if (times.size() < static_cast<size_t>(before)) failed = true;
        }
      } while (before < kRounds);
    });
  }
  for (int i = 0; i < kRounds; ++i) {
    BatchBuilder batch;
    for (int s = 0; s < 5; ++s) batch.Float(LabelsOf("m", std::to_string(s)), i, i);
    MustWrite(*partition, batch);
    written.store(i + 1);
  }
  for (std::thread& reader : readers) reader.join();
  EXPECT_FALSE(failed.load());
}

}  // namespace
}  // namespace millstream::tsdb

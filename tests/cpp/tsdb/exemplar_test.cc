#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <string>
#include <vector>

#include "exemplar_store.h"
#include "record.h"
#include "tsdb_machine.h"
#include "tsdb_testing.h"

namespace millstream::tsdb {
namespace {

using testing::BatchBuilder;
using testing::LabelsOf;
using testing::Machine;

model::Exemplar Trace(const std::string& id, TimestampMs timestamp, double value = 1) {
  return {model::Labels::Of({{"trace_id", id}}), value, timestamp};
}

std::vector<std::vector<model::Matcher>> Named(const std::string& name) {
  return {{model::Matcher::Make(model::MatchType::kEqual, "__name__", name).value()}};
}

// "series@timestamp=trace …" of everything, in the order of Select.
std::string Shown(const std::vector<model::SeriesExemplars>& found) {
  std::string out;
  for (const model::SeriesExemplars& of_series : found) {
    for (const model::Exemplar& exemplar : of_series.exemplars) {
      out += std::string(of_series.series.Get("host")) + "@" + std::to_string(exemplar.timestamp) + "=" +
             std::string(exemplar.labels.Get("trace_id")) + " ";
    }
  }
  return out;
}

TEST(ExemplarStore, SelectsBySeriesAndTimeInOrder) {
  ExemplarStore store(1 << 20);
  store.Add(LabelsOf("m", "b"), Trace("2", 20));
  store.Add(LabelsOf("m", "b"), Trace("1", 10));
  store.Add(LabelsOf("m", "a"), Trace("3", 30));
  store.Add(LabelsOf("n", "a"), Trace("4", 40));
  EXPECT_EQ(Shown(store.Select(testing::kAllTime, Named("m"))), "a@30=3 b@10=1 b@20=2 ");
  EXPECT_EQ(Shown(store.Select({20, 30}, Named("m"))), "a@30=3 b@20=2 ");
  EXPECT_EQ(Shown(store.Select(testing::kAllTime, {})), "");
}

TEST(ExemplarStore, TheSameExemplarIsThereOnce) {
  ExemplarStore store(1 << 20);
  const double nan = std::bit_cast<double>(uint64_t{0x7ff8000000000001});
  for (int round = 0; round < 2; ++round) {
    for (const double value : {1.0, 2.0, nan}) store.Add(LabelsOf("m"), Trace("1", 10, value));
    store.Add(LabelsOf("m"), Trace("2", 10));
  }
  EXPECT_EQ(store.count(), 4u);
  EXPECT_EQ(store.Judge(LabelsOf("m"), Trace("1", 10, nan), 0), ExemplarStore::Verdict::kKnown);
  EXPECT_EQ(store.Judge(LabelsOf("m"), Trace("9", 10), 0), ExemplarStore::Verdict::kNew);
  EXPECT_EQ(store.Judge(LabelsOf("m"), Trace("9", 9), 0), ExemplarStore::Verdict::kTooOld);
  EXPECT_EQ(store.Judge(LabelsOf("m"), Trace("9", 9), 1), ExemplarStore::Verdict::kNew);
}

TEST(ExemplarStore, NeverHoldsMoreBytesThanItMayAndDropsTheOldest) {
  constexpr uint64_t kBytes = 20'000;
  ExemplarStore store(kBytes);
  for (int i = 0; i < 1000; ++i) {
    store.Add(LabelsOf("m", std::to_string(i % 37)), Trace(std::string(static_cast<size_t>(i % 90), 'x'), i));
    ASSERT_LE(store.bytes(), kBytes);
  }
  const auto all = store.All();
  ASSERT_GT(all.size(), 10u);
  // The newest ones, without a gap.
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i].exemplars.front().timestamp, static_cast<TimestampMs>(1000 - all.size() + i));
  }
  ExemplarStore none(0);
  EXPECT_EQ(none.Judge(LabelsOf("m"), Trace("1", 1), 0), ExemplarStore::Verdict::kTooLarge);
  none.Add(LabelsOf("m"), Trace("1", 1));
  EXPECT_EQ(none.count(), 0u);
}

TEST(ExemplarStore, BytesComeBackToNothingWhenSeriesComeAndGo) {
  ExemplarStore store(2000);
  for (int i = 0; i < 100; ++i) store.Add(LabelsOf("m", std::to_string(i)), Trace("1", i));
  const uint64_t bytes = store.bytes();
  for (int i = 100; i < 10'000; ++i) store.Add(LabelsOf("m", std::to_string(i % 90 + 10)), Trace("1", i));
  EXPECT_EQ(store.bytes(), bytes);
}

TEST(Exemplars, SurviveARestartFromTheLogAndFromASnapshot) {
  Machine machine(1);
  ASSERT_TRUE(machine.Open().ok());
  const auto write = [&](const std::string& id, TimestampMs timestamp) {
    BatchBuilder batch;
    batch.Float(LabelsOf("m", "a"), timestamp, 1);
    batch.batch.exemplars.push_back({LabelsOf("m", "a"), Trace(id, timestamp), 0});
    storage::WriteOutcome outcome;
    EXPECT_TRUE(machine.Write(batch, &outcome).ok());
    EXPECT_EQ(outcome.rejected, 0u);
    return outcome.exemplars_written;
  };
  EXPECT_EQ(write("1", 1000), 1u);
  ASSERT_TRUE(machine.partition->Checkpoint().ok());
  ASSERT_TRUE(machine.partition->Checkpoint().ok());
  EXPECT_EQ(write("2", 1200), 1u);
  const std::string expected = "a@1000=1 a@1200=2 ";
  for (int restart = 0; restart < 2; ++restart) {
    EXPECT_EQ(Shown(machine.partition->Exemplars(TenantId(0), testing::kAllTime, Named("m"))), expected);
    machine.Close();
    ASSERT_TRUE(machine.Open().ok());
  }
  // A request that is sent again is acknowledged and stores nothing.
  EXPECT_EQ(write("2", 1200), 1u);
  EXPECT_EQ(write("1", 1000), 1u);
  EXPECT_EQ(Shown(machine.partition->Exemplars(TenantId(0), testing::kAllTime, Named("m"))), expected);
  EXPECT_EQ(Shown(machine.partition->Exemplars(TenantId(1), testing::kAllTime, Named("m"))), "");
}

TEST(Exemplars, BehindTheWindowTheyAreRefusedWithTheirItem) {
  Machine machine(2);
  ASSERT_TRUE(machine.Open().ok());
  BatchBuilder batch;
  batch.batch.exemplars.push_back({LabelsOf("m"), Trace("1", 10'000), 4});
  storage::WriteOutcome outcome;
  ASSERT_TRUE(machine.Write(batch, &outcome).ok());
  EXPECT_EQ(outcome.exemplars_written, 1u);
  BatchBuilder late;
  late.batch.exemplars.push_back({LabelsOf("m"), Trace("2", 10'000 - 1501), 5});
  ASSERT_TRUE(machine.Write(late, &outcome).ok());
  EXPECT_EQ(outcome.exemplars_written, 0u);
  ASSERT_EQ(outcome.rejections.size(), 1u);
  EXPECT_EQ(outcome.rejections[0].item, 5u);
  EXPECT_EQ(outcome.rejections[0].reason.code(), StatusCode::kOutOfRange);
}

TEST(Record, ExemplarsSurviveEncodingAndEveryTruncationIsDataLoss) {
  Record record;
  record.tenant = TenantId(3);
  record.exemplars = {{LabelsOf("a", "x"), {Trace("1", INT64_MIN), {{}, -0.0, INT64_MAX}}}, {LabelsOf("b"), {}}};
  const std::string bytes = EncodeRecord(record);
  const auto decoded = DecodeRecord(bytes);
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  ASSERT_EQ(decoded->exemplars.size(), 2u);
  EXPECT_EQ(decoded->exemplars[0].series, LabelsOf("a", "x"));
  ASSERT_EQ(decoded->exemplars[0].exemplars.size(), 2u);
  EXPECT_EQ(decoded->exemplars[0].exemplars[0].labels, Trace("1", 0).labels);
  EXPECT_EQ(decoded->exemplars[0].exemplars[0].timestamp, INT64_MIN);
  EXPECT_TRUE(std::signbit(decoded->exemplars[0].exemplars[1].value));
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    EXPECT_EQ(DecodeRecord(std::string_view(bytes).substr(0, cut)).status().code(), StatusCode::kDataLoss) << cut;
  }
}

}  // namespace
}  // namespace millstream::tsdb

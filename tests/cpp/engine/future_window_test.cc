// Samples ahead of the clock, whatever they come by.
#include <gtest/gtest.h>

#include <snappy.h>

#include <string>

#include "../env/temp_folder.h"
#include "compress.h"
#include "memory_database.h"
#include "millstream/engine/database.h"
#include "millstream/env/env.h"
#include "millstream/env/sim_clock.h"
#include "protobuf_writer.h"

namespace millstream::engine {
namespace {

constexpr TimestampMs kNow = 1'700'000'000'000;
constexpr int64_t kWindowMs = 600'000;

class FutureWindow : public testing::Test {
 protected:
  std::unique_ptr<Database> Open(int64_t window_ms = kWindowMs) {
    DatabaseOptions options;
    options.partitions = 2;
    options.future_window_ms = window_ms;
    env::Env env = env::SystemEnv();
    env.clock = &clock_;
    return Database::Open(std::string(kMemoryPath), options, env).value();
  }

  static PushOutcome Push(Database& db, std::string_view format, std::string_view body, WriteOptions options = {}) {
    const auto outcome = db.Push(kDefaultTenant, {.format = format, .body = body, .options = std::move(options)});
    EXPECT_TRUE(outcome.ok()) << outcome.status().ToString();
    return outcome.ok() ? *outcome : PushOutcome();
  }

  // Exactly one item was refused, as too far ahead, and `number` is its own.
  static void ExpectRefused(const PushOutcome& outcome, uint32_t number) {
    EXPECT_EQ(outcome.rejected, 1u);
    ASSERT_EQ(outcome.refusals.size(), 1u);
    EXPECT_EQ(outcome.refusals[0].item, number);
    EXPECT_EQ(outcome.refusals[0].reason.code(), StatusCode::kOutOfRange);
    EXPECT_NE(outcome.refusals[0].reason.message().find("too far in the future"), std::string_view::npos)
        << outcome.refusals[0].reason.message();
  }

  env::SimClock clock_{kNow};
};

TEST_F(FutureWindow, LetsThroughWhatIsWithinItAndSaysByHowMuchTheRestIsAhead) {
  const auto db = Open();
  EXPECT_EQ(Push(*db, "text", "m 1 1700000600000\n").rejected, 0u);
  const PushOutcome refused = Push(*db, "text", "m 1 1700000600001\n");
  ExpectRefused(refused, 1);
  for (const char* wanted : {"1700000600001", "600001 ms ahead", "600000 ms", "unit", "storage.future_window"}) {
    EXPECT_NE(refused.refusals[0].reason.message().find(wanted), std::string_view::npos) << wanted;
  }
  clock_.Advance(std::chrono::milliseconds(1));
  EXPECT_EQ(Push(*db, "text", "m 1 1700000600001\n").rejected, 0u) << "the clock went on";
}

TEST_F(FutureWindow, ASampleInAWrongUnitDoesNotKeepTrueOnesOut) {
  const auto db = Open();
  for (const char* time : {"9223372036854775807", "1700000000000000", "1700000000000000000"}) {
    const std::string both = std::string("m 1 ") + time + "\nm 2 1700000000000\n";
    const PushOutcome outcome = Push(*db, "text", both);
    ExpectRefused(outcome, 1);
    EXPECT_EQ(outcome.samples, 1u);
  }
}

TEST_F(FutureWindow, HoldsForEveryFormat) {
  const auto db = Open();
  const auto field = [](int number, std::string_view bytes) { return wire::BytesField(number, bytes); };
  const std::string late = wire::DoubleField(1, 1) + wire::VarintField(2, 1'700'000'700'000);
  ExpectRefused(Push(*db, "remote_write",
                     wire::Compress(field(1, field(1, field(1, "__name__") + field(2, "m")) + field(2, late)))),
                0);
  std::string symbols;
  for (const std::string_view symbol : {"", "__name__", "m"}) symbols += field(4, symbol);
  ExpectRefused(
      Push(*db, "remote_write_2", wire::Compress(symbols + field(5, field(1, std::string("\1\2")) + field(2, late)))),
      0);
  ExpectRefused(Push(*db, "open_metrics", "# TYPE m gauge\nm 1 1700000700\n# EOF\n"), 2);
  ExpectRefused(Push(*db, "influx", "m value=1 1700000000000000000", {{"precision", "us"}}), 1);
  ExpectRefused(
      Push(*db, "json", R"({"metrics":[{"name":"m","labels":{},"timestamp":1700000000000000000,"value":1}]})"), 0);
  ExpectRefused(Push(*db, "opentsdb", R"({"metric":"m","timestamp":1700000700,"value":1,"tags":{"a":"b"}})"), 0);
  ExpectRefused(
      Push(
          *db, "otlp_json",
          R"({"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{"timeUnixNano":"1700000700000000000","asDouble":1}]}}]}]}]})"),
      0);
  EXPECT_TRUE(db->Series(kDefaultTenant, {.selectors = {"{__name__!=\"\"}"}})->empty());
}

TEST_F(FutureWindow, HoldsForNativeHistogramsAndExemplars) {
  const auto db = Open();
  std::string symbols;
  for (const std::string_view symbol : {"", "__name__", "m", "trace_id", "t1"}) symbols += wire::BytesField(4, symbol);
  const auto request = [&](const std::string& rest) {
    return wire::Compress(symbols + wire::BytesField(5, wire::BytesField(1, std::string("\1\2")) + rest));
  };
  const auto histogram = [](uint64_t time) {
    return wire::BytesField(3, wire::VarintField(1, 3) + wire::DoubleField(3, 2) +
                                   wire::BytesField(11, wire::VarintField(2, 1)) +
                                   wire::BytesField(12, std::string("\6")) + wire::VarintField(15, time));
  };
  const auto exemplar = [](uint64_t time) {
    return wire::BytesField(
        4, wire::BytesField(1, std::string("\3\4")) + wire::DoubleField(2, 1) + wire::VarintField(3, time));
  };
  ExpectRefused(Push(*db, "remote_write_2", request(histogram(kNow + kWindowMs + 1))), 0);
  const PushOutcome outcome =
      Push(*db, "remote_write_2", request(histogram(kNow) + exemplar(kNow) + exemplar(kNow + kWindowMs + 1)));
  ExpectRefused(outcome, 0);
  EXPECT_EQ(outcome.histograms, 1u);
  EXPECT_EQ(outcome.exemplars, 1u);
}

TEST_F(FutureWindow, APointOfDeltaTemporalityThatIsRefusedIsNotAddedUp) {
  const auto db = Open();
  const auto body = [](const char* start, const char* end, int value) {
    return std::string(
               R"({"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","sum":{"aggregationTemporality":1,"dataPoints":[{"startTimeUnixNano":")") +
           start + R"(","timeUnixNano":")" + end + R"(","asDouble":)" + std::to_string(value) + "}]}}]}]}]}";
  };
  Push(*db, "otlp_json", body("1699999990000000000", "1699999995000000000", 1));
  ExpectRefused(Push(*db, "otlp_json", body("1699999995000000000", "1700000700000000000", 40)), 0);
  EXPECT_EQ(Push(*db, "otlp_json", body("1699999995000000000", "1700000000000000000", 2)).rejected, 0u);
  const auto result = db->Query(kDefaultTenant, "m", kNow, {});
  EXPECT_EQ(std::get<promql::Vector>(result->value).at(0).value, 3);
}

TEST_F(FutureWindow, HoldsForColumnsOfOneSeriesAndByHandle) {
  const auto db = Open();
  const std::vector<model::Label> labels = {{"__name__", "m"}};
  const std::vector<TimestampMs> times = {kNow, kNow + kWindowMs + 1};
  const std::vector<double> values = {1, 2};
  ExpectRefused(db->Write(kDefaultTenant, labels, times, values).value(), 1);
  const std::vector<uint64_t> handles(2, db->SeriesHandles(kDefaultTenant, std::span(&labels, 1)).value().at(0));
  ExpectRefused(db->Append(kDefaultTenant, handles, times, values).value(), 1);
}

TEST_F(FutureWindow, ZeroTakesEverySample) {
  const auto db = Open(0);
  EXPECT_EQ(Push(*db, "text", "m 1 9223372036854775807\n").rejected, 0u);
  DatabaseOptions wrong;
  wrong.future_window_ms = -1;
  EXPECT_EQ(CheckOptions(wrong).code(), StatusCode::kInvalidArgument);
}

TEST_F(FutureWindow, AWindowWithoutAnEndHasNone) {
  const auto db = Open(INT64_MAX);
  EXPECT_EQ(Push(*db, "text", "m 1 9223372036854775807\n").rejected, 0u);
}

}  // namespace
}  // namespace millstream::engine

#include "millstream/engine/database.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include "memory_database.h"

namespace millstream::engine {
namespace {

std::unique_ptr<Database> MemoryOf(DatabaseOptions options = {}) {
  options.partitions = options.partitions > 0 ? options.partitions : 3;
  return Database::Open(std::string(kMemoryPath), options).value();
}

// The value of a query whose answer is one element.
double One(const Database& db, const std::string& expression, TimestampMs time) {
  const auto result = db.Query(kDefaultTenant, expression, time, {});
  EXPECT_TRUE(result.ok()) << expression << ": " << result.status().ToString();
  if (!result.ok()) return NAN;
  const auto* vector = std::get_if<promql::Vector>(&result->value);
  EXPECT_TRUE(vector != nullptr && vector->size() == 1) << expression << ": " << ResultJson(*result);
  return vector != nullptr && vector->size() == 1 ? vector->front().value : NAN;
}

TEST(Database, AWriteInAFormOrWithAnOptionThatDoesNotExistStoresNothing) {
  const auto db = MemoryOf();
  const Status form = db->Push(kDefaultTenant, {.format = "tex", .body = "m 1 1000\n"}).status();
  EXPECT_EQ(form.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(form.message().find("\"tex\""), std::string_view::npos);
  const Status option =
      db->Push(kDefaultTenant, {.format = "text", .body = "m 1 1000\n", .options = {{"precision", "s"}}}).status();
  EXPECT_EQ(option.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(option.message().find("\"precision\""), std::string_view::npos);
  EXPECT_TRUE(db->Series(kDefaultTenant, {.selectors = {"m"}}).value().empty());
}

TEST(Database, EveryWayInEndsInTheSameSeries) {
  const auto db = MemoryOf();
  const TimestampMs t = 1'700'000'000'000;
  const std::vector<model::Label> labels = {{"__name__", "m"}, {"host", "a"}};
  ASSERT_TRUE(PushText(*db, "m{host=\"a\"} 1 1700000000000\n").ok());
  ASSERT_TRUE(
      db->Push(kDefaultTenant,
               {.format = "json",
                .body = R"({"metrics":[{"name":"m","labels":{"host":"a"},"value":2,"timestamp":1700000001000}]})"})
          .ok());
  const std::vector<TimestampMs> times = {t + 2000, t + 3000};
  const std::vector<double> values = {3, 4};
  const auto written = db->Write(kDefaultTenant, labels, times, values);
  ASSERT_TRUE(written.ok()) << written.status().ToString();
  EXPECT_EQ(written->samples, 2u);
  const std::vector<std::vector<model::Label>> sets = {labels};
  const auto handles = db->SeriesHandles(kDefaultTenant, sets).value();
  const std::vector<uint64_t> refs = {handles[0], handles[0]};
  const std::vector<TimestampMs> later = {t + 4000, t + 5000};
  ASSERT_TRUE(db->Append(kDefaultTenant, refs, later, values).ok());
  EXPECT_EQ(One(*db, "count_over_time(m[1m])", t + 5000), 6);
  EXPECT_EQ(One(*db, "count(m)", t + 5000), 1);
}

TEST(Database, SamplesOfManySeriesAreSpreadAndFoundAgain) {
  const auto db = MemoryOf();
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "m{i=\"" + std::to_string(i) + "\"} " + std::to_string(i) + "\n";
  for (int round = 0; round < 3; ++round) {  // the later rounds hit the cache of spellings
    const auto outcome = PushText(*db, text, 1000 + round);
    ASSERT_TRUE(outcome.ok()) << outcome.status().ToString();
    EXPECT_EQ(outcome->samples, 1000u);
    EXPECT_EQ(outcome->rejected, 0u);
  }
  EXPECT_EQ(One(*db, "count(m)", 1002), 1000);
  EXPECT_EQ(One(*db, "sum(count_over_time(m[1s]))", 1002), 3000);
  EXPECT_EQ(One(*db, "m{i=\"777\"}", 1002), 777);
}

TEST(Database, BadItemsAreRefusedByThemselves) {
  const auto db = MemoryOf();
  const auto outcome = PushText(*db, "good 1\nbad{a=\"1\",a=\"2\"} 1\nno value\ngood 2 5\n", 10);
  ASSERT_TRUE(outcome.ok());
  EXPECT_EQ(outcome->samples, 2u);
  EXPECT_EQ(outcome->rejected, 2u);
  ASSERT_EQ(outcome->refusals.size(), 2u);
  EXPECT_EQ(outcome->refusals[0].item, 2u);
  EXPECT_EQ(outcome->refusals[1].item, 3u);
}

TEST(Database, ResendingARequestDoublesNothing) {
  const auto db = MemoryOf();
  for (int i = 0; i < 2; ++i) {
    const auto outcome = PushText(*db, "m 1 1000\nm 2 2000\n");
    ASSERT_TRUE(outcome.ok());
    EXPECT_EQ(outcome->rejected, 0u);
  }
  EXPECT_EQ(One(*db, "count_over_time(m[1m])", 2000), 2);
  const auto other = PushText(*db, "m 7 1000\n");
  ASSERT_TRUE(other.ok());
  EXPECT_EQ(other->rejected, 1u);
}

TEST(Database, TenantsDoNotSeeEachOther) {
  const auto db = MemoryOf();
  ASSERT_TRUE(db->Push(TenantId(1), {.format = "text", .body = "m{a=\"x\"} 1 1000\n"}).ok());
  ASSERT_TRUE(db->Push(TenantId(2), {.format = "text", .body = "m{a=\"x\"} 2 1000\n"}).ok());
  const auto result = db->Query(TenantId(2), "m", 1000, {});
  ASSERT_TRUE(result.ok());
  const auto& vector = std::get<promql::Vector>(result->value);
  ASSERT_EQ(vector.size(), 1u);
  EXPECT_EQ(vector[0].value, 2);
  EXPECT_TRUE(db->LabelNames(kDefaultTenant, {}).value().empty());
}

TEST(Database, HandleOfAnotherTenantOrOfNobodyIsRefused) {
  const auto db = MemoryOf();
  const std::vector<std::vector<model::Label>> sets = {{{"__name__", "m"}}};
  const auto handles = db->SeriesHandles(TenantId(1), sets).value();
  const std::vector<TimestampMs> times = {1};
  const std::vector<double> values = {1};
  EXPECT_EQ(db->Append(TenantId(2), handles, times, values).status().code(), StatusCode::kInvalidArgument);
  const std::vector<uint64_t> nobody = {99};
  EXPECT_EQ(db->Append(TenantId(1), nobody, times, values).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(db->SeriesHandles(TenantId(1), sets).value(), handles);
}

TEST(Database, LabelCallsUniteSelectorsAndTellWhenThereIsMore) {
  const auto db = MemoryOf();
  ASSERT_TRUE(PushText(*db, "a{x=\"1\"} 1 1000\nb{y=\"2\"} 1 1000\nc{z=\"3\"} 1 1000\n").ok());
  EXPECT_EQ(db->LabelNames(kDefaultTenant, {.selectors = {"a", "b"}}).value(),
            (std::vector<std::string>{"__name__", "x", "y"}));
  EXPECT_EQ(db->LabelValues(kDefaultTenant, "__name__", {}).value(), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(db->LabelValues(kDefaultTenant, "__name__", {.selectors = {}, .limit = 1})->size(), 2u);
  EXPECT_EQ(db->Series(kDefaultTenant, {.selectors = {"{__name__=~\"a|c\"}"}})->size(), 2u);
  EXPECT_EQ(db->Series(kDefaultTenant, {.selectors = {"{"}}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(db->Series(kDefaultTenant, {}).status().code(), StatusCode::kInvalidArgument);
}

TEST(Database, CancelBeforeAQueryEndsIt) {
  const auto db = MemoryOf();
  ASSERT_TRUE(PushText(*db, "m 1 1000\n").ok());
  QueryCancel cancel;
  cancel.Cancel();
  EXPECT_EQ(db->Query(kDefaultTenant, "sum(m)", 1000, {}, &cancel).status().code(), StatusCode::kCancelled);
}

TEST(Database, TimeoutEndsAQueryInTheMiddleOfASingleSeries) {
  const auto db = MemoryOf();
  QueryOptions options;
  options.timeout_ms = 50;
  const std::string hours_of_work = "sum_over_time(quantile_over_time(0.5, vector(time())[2d:1s])[2d:1s])";
  EXPECT_EQ(db->Query(kDefaultTenant, hours_of_work, 1'700'000'000'000, options).status().code(),
            StatusCode::kDeadlineExceeded);
}

TEST(Database, ClosedDatabaseAnswersUnavailable) {
  const auto db = MemoryOf();
  ASSERT_TRUE(db->Close().ok());
  ASSERT_TRUE(db->Close().ok());
  EXPECT_EQ(PushText(*db, "m 1\n").status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(db->Query(kDefaultTenant, "m", 0, {}).status().code(), StatusCode::kUnavailable);
  EXPECT_TRUE(db->Stats().empty());
}

TEST(Database, EachWriterSeesItsOwnAcknowledgedSamplesAtOnce) {
  const auto db = MemoryOf();
  std::vector<std::thread> threads;
  for (int writer = 0; writer < 3; ++writer) {
    threads.emplace_back([&db, writer] {
      const std::string series = "m{w=\"" + std::to_string(writer) + "\"}";
      for (int i = 0; i < 200; ++i) {
        const std::string text = series + " 1 " + std::to_string(1000 + i) + "\n";
        ASSERT_TRUE(PushText(*db, text).ok());
        ASSERT_EQ(One(*db, "count_over_time(" + series + "[1m])", 1000 + i), i + 1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(One(*db, "sum(count_over_time(m[1m]))", 1200), 600);
}

TEST(Database, MemoryLimitRefusesWritesButAnswersQueries) {
  DatabaseOptions options;
  options.memory_limit_bytes = 1;
  const auto db = MemoryOf(options);
  Status last;
  for (int i = 0; i < 3 && last.ok(); ++i) {
    last = PushText(*db, "m 1 " + std::to_string(i) + "\n").status();
  }
  EXPECT_EQ(last.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(last.message().find("storage.memory_limit_bytes"), std::string_view::npos);
  EXPECT_EQ(One(*db, "count(m)", 10), 1);
}

TEST(Database, UnknownFeatureAndBadNumbersAreNamed) {
  DatabaseOptions options;
  options.enabled_features = {"promql-everything"};
  EXPECT_EQ(Database::Open(std::string(kMemoryPath), options).status().message(),
            "unknown feature \"promql-everything\"");
  EXPECT_EQ(Database::Open("", {}).status().code(), StatusCode::kInvalidArgument);
  DatabaseOptions negative;
  negative.partitions = -1;
  EXPECT_EQ(Database::Open(std::string(kMemoryPath), negative).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace millstream::engine

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "memory_database.h"
#include "millstream/engine/database.h"
#include "millstream/env/env.h"
#include "millstream/env/sim_clock.h"

namespace millstream::engine {
namespace {

// Series m{i="from"} to m{i="to" - 1}, one sample each.
std::string Lines(int from, int to) {
  std::string text;
  for (int i = from; i < to; ++i) text += "m{i=\"" + std::to_string(i) + "\"} 1\n";
  return text;
}

PushOutcome Push(Database& db, const std::string& text, uint64_t most, TimestampMs time, TenantId tenant = {}) {
  const auto outcome =
      db.Push(tenant, {.format = "text", .body = text, .default_timestamp = time, .series = {.most = most}});
  EXPECT_TRUE(outcome.ok()) << outcome.status().ToString();
  return outcome.value();
}

TEST(SeriesLimit, RefusesNewSeriesOneByOneAndLetsKnownOnesGoOn) {
  const auto db = Memory();
  const PushOutcome first = Push(*db, Lines(0, 15), 10, 1000);
  EXPECT_EQ(first.samples, 10u);
  EXPECT_EQ(first.rejected, 5u);
  ASSERT_EQ(first.refusals.size(), 5u);
  EXPECT_EQ(first.refusals[0].reason.code(), StatusCode::kResourceExhausted);
  const std::string_view words = first.refusals[0].reason.message();
  for (const char* wanted : {"limits.max_series", "10 series", "tenants.NAME.limits"}) {
    EXPECT_NE(words.find(wanted), std::string_view::npos) << words;
  }
  EXPECT_EQ(db->StatusOf({}, 10).series, 10u);
  const PushOutcome second = Push(*db, Lines(0, 15), 10, 2000);
  EXPECT_EQ(second.samples, 10u);
  EXPECT_EQ(second.rejected, 5u);
  EXPECT_EQ(Push(*db, Lines(0, 15), 12, 3000).samples, 12u) << "a raised limit counts at once";
  EXPECT_EQ(Push(*db, Lines(0, 15), 0, 4000).samples, 15u) << "0 is any number";
  EXPECT_EQ(Push(*db, Lines(0, 20), 1, 5000).samples, 15u) << "a lower one takes nothing away";
}

TEST(SeriesLimit, CountsEachTenantByItself) {
  const auto db = Memory();
  EXPECT_EQ(Push(*db, Lines(0, 8), 8, 1000).rejected, 0u);
  EXPECT_EQ(Push(*db, Lines(0, 8), 8, 1000, kOther).rejected, 0u);
  EXPECT_EQ(Push(*db, Lines(8, 9), 8, 1000, kOther).rejected, 1u);
}

TEST(SeriesLimit, ASeriesWhoseSamplesAreAllRefusedTakesNoPlace) {
  const auto db = Memory();
  const auto bad = db->Push({}, {.format = "text", .body = "m{i=\"x\"} 1 1\nm{i=\"x\"} 2 1\n", .series = {.most = 2}});
  EXPECT_EQ(bad->samples, 1u);
  DatabaseOptions options;
  options.partitions = 1;
  options.retention_ms = 1000;
  const std::string folder = testing::TempDir() + "/series_limit";
  std::filesystem::remove_all(folder);
  {
    const auto kept = Database::Open(folder, options).value();
    const auto old = kept->Push({}, {.format = "text", .body = "old 1 1\n", .series = {.most = 1}});
    EXPECT_EQ(old->rejected, 1u);
    EXPECT_EQ(Push(*kept, "fresh 1\n", 1, kept->Now()).samples, 1u);
    ASSERT_TRUE(kept->Close().ok());
  }
  const auto again = Database::Open(folder, options).value();
  EXPECT_EQ(Push(*again, "more 1\n", 1, again->Now()).rejected, 1u) << "what a restart brings back is counted";
  EXPECT_EQ(Push(*again, "fresh 1\n", 1, again->Now()).samples, 1u);
}

TEST(SeriesLimit, IsExactWhenManyWriteAtOnce) {
  const auto db = Memory();
  constexpr uint64_t kMost = 500;
  std::atomic<uint64_t> stored{0};
  std::vector<std::thread> writers;
  for (int w = 0; w < 4; ++w) {
    writers.emplace_back([&, w] {
      for (int i = 0; i < 50; ++i) {
        stored += Push(*db, Lines(w * 1000 + i * 10, w * 1000 + i * 10 + 10), kMost, 1000).samples;
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(stored.load(), kMost);
  EXPECT_EQ(db->StatusOf({}, 1).series, kMost);
}

TEST(SeriesLimit, NewSeriesComeNoFasterThanTheirRate) {
  env::SimClock clock(1'700'000'000'000);
  env::Env env = env::SystemEnv();
  env.clock = &clock;
  DatabaseOptions options;
  options.partitions = 4;
  const auto db = Database::Open(std::string(kMemoryPath), options, env).value();
  const auto push = [&](int to, uint64_t per_second, TenantId tenant = {}) {
    return db
        ->Push(tenant, {.format = "text",
                        .body = Lines(0, to),
                        .default_timestamp = clock.WallNow(),
                        .series = {.new_per_second = per_second}})
        .value();
  };
  const PushOutcome first = push(25, 10);
  EXPECT_EQ(first.samples, 10u);
  EXPECT_EQ(first.rejected, 15u);
  EXPECT_EQ(first.refusals[0].reason.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(first.refusals[0].reason.message().find("limits.new_series_per_second allows one tenant 10"),
            std::string_view::npos);
  EXPECT_EQ(push(25, 10).samples, 10u) << "known ones go on, and no time has passed";
  EXPECT_EQ(push(8, 10, kOther).samples, 8u) << "another tenant's rate is its own";
  clock.Advance(std::chrono::milliseconds(300));
  EXPECT_EQ(push(25, 10).samples, 13u);
  clock.Advance(std::chrono::hours(1));
  EXPECT_EQ(push(100, 10).samples, 23u) << "rest does not add up to more than a second's worth";
  EXPECT_EQ(push(100, 0).samples, 100u);
}

TEST(SeriesLimit, TheDatabasesOwnHoldForWhoeverWrites) {
  DatabaseOptions options;
  options.partitions = 2;
  options.tenant_series = {.most = 10, .new_per_second = 0};
  const auto db = Database::Open(std::string(kMemoryPath), options).value();
  EXPECT_EQ(Push(*db, Lines(0, 15), 0, 1000).samples, 10u) << "a request that asks for none";
  EXPECT_EQ(Push(*db, Lines(0, 15), 1000, 2000).samples, 10u) << "or for more";
  EXPECT_EQ(Push(*db, Lines(0, 15), 4, 1000, kOther).samples, 4u) << "or for less";
  const std::vector<model::Label> labels{{"__name__", "direct"}};
  const std::vector<TimestampMs> times{1};
  const std::vector<double> values{1.0};
  EXPECT_EQ(db->Write({}, labels, times, values)->rejected, 1u);
}

TEST(SeriesLimit, ForbiddenSeriesAreCountedWithoutWriting) {
  const auto db = Memory();
  const WriteRequest request{.format = "text",
                             .body = "a 1\nb{env=\"prod\"} 1\nb 1\n",
                             .filter = MakeFilter({"b"}, {"{env=\"prod\"}"}).value()};
  EXPECT_EQ(CountForbidden(request).value(), 2u);
  EXPECT_EQ(CountForbidden({.format = "nothing", .body = ""}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(db->StatusOf({}, 1).series, 0u);
}

}  // namespace
}  // namespace millstream::engine

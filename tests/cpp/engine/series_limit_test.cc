#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "millstream/engine/database.h"

namespace millstream::engine {
namespace {

constexpr TenantId kOther{7};

std::unique_ptr<Database> Memory() {
  DatabaseOptions options;
  options.partitions = 4;
  return Database::Open(std::string(kMemoryPath), options).value();
}

// Series m{i="from"} to m{i="to" - 1}, one sample each.
std::string Lines(int from, int to) {
  std::string text;
  for (int i = from; i < to; ++i) text += "m{i=\"" + std::to_string(i) + "\"} 1\n";
  return text;
}

PushOutcome Push(Database& db, const std::string& text, uint64_t most, TimestampMs time, TenantId tenant = {}) {
  const auto outcome = db.Push(tenant, {.format = "text", .body = text, .default_timestamp = time, .series_max = most});
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
  const auto bad = db->Push({}, {.format = "text", .body = "m{i=\"x\"} 1 1\nm{i=\"x\"} 2 1\n", .series_max = 2});
  EXPECT_EQ(bad->samples, 1u);
  DatabaseOptions options;
  options.partitions = 1;
  options.retention_ms = 1000;
  const std::string folder = testing::TempDir() + "/series_limit";
  std::filesystem::remove_all(folder);
  {
    const auto kept = Database::Open(folder, options).value();
    const auto old = kept->Push({}, {.format = "text", .body = "old 1 1\n", .series_max = 1});
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

// Several requests at once: what each is told, whatever it travelled with.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "millstream/engine/database.h"

namespace millstream::engine {
namespace {

std::unique_ptr<Database> InOrderMemory() {
  DatabaseOptions options;
  options.partitions = 2;
  options.out_of_order_window_ms = 0;
  return Database::Open(std::string(kMemoryPath), options).value();
}

std::string Json(const std::vector<std::string>& items) {
  return fmt::format(R"({{"metrics":[{}]}})", fmt::join(items, ","));
}

std::string Item(std::string_view name, double value, TimestampMs timestamp) {
  return fmt::format(R"({{"name":"{}","value":{},"timestamp":{}}})", name, value, timestamp);
}

bool Has(const Database& db, TenantId tenant, const std::string& name) {
  const auto answer = db.Query(tenant, name, 2000, {});
  EXPECT_TRUE(answer.ok());
  return ResultJson(*answer).find(R"("result":[])") == std::string::npos;
}

std::vector<Result<PushOutcome>> PushAll(Database& db, const std::vector<std::string>& bodies,
                                         const std::vector<TenantId>& tenants, std::string_view format = "json") {
  std::vector<TenantWrite> writes;
  for (size_t i = 0; i < bodies.size(); ++i) {
    writes.push_back({tenants[i % tenants.size()], {.format = format, .body = bodies[i], .default_timestamp = 1}});
  }
  return db.PushAll(writes);
}

TEST(JoinedWrites, EachRequestIsToldOfItsOwnItemsByItsOwnNumbers) {
  const auto db = InOrderMemory();
  const auto outcomes =
      PushAll(*db,
              {Json({Item("a", 1, 1000), Item("b", 2, 1000)}),
               Json({Item("c", 3, 1000), R"({"name":"","value":1})", Item("d", 4, 1000)}), "no JSON",
               Json({Item("bad name\\u0000", 1, 1000), Item("a", 5, 2000)}), Json({Item("e", 6, 1000)})},
              {kDefaultTenant});
  ASSERT_EQ(outcomes.size(), 5u);
  EXPECT_EQ(outcomes[0]->samples, 2u);
  EXPECT_EQ(outcomes[0]->rejected, 0u);
  EXPECT_EQ(outcomes[1]->samples, 2u);
  ASSERT_EQ(outcomes[1]->refusals.size(), 1u);
  EXPECT_EQ(outcomes[1]->refusals[0].item, 1u);
  EXPECT_EQ(outcomes[2].status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(outcomes[3]->samples + outcomes[3]->rejected, 2u);
  EXPECT_EQ(outcomes[4]->samples, 1u);
  for (const char* name : {"a", "b", "c", "d", "e"}) EXPECT_TRUE(Has(*db, kDefaultTenant, name)) << name;
}

TEST(JoinedWrites, TheSameSeriesInSeveralRequestsTakesTheirSamplesInOrder) {
  const auto db = InOrderMemory();
  // The third is older than the second, and nothing out of order is taken here.
  const auto outcomes = PushAll(
      *db, {Json({Item("m", 1, 1000)}), Json({Item("m", 2, 3000)}), Json({Item("n", 0, 1), Item("m", 3, 2000)})},
      {kDefaultTenant});
  EXPECT_EQ(outcomes[0]->samples, 1u);
  EXPECT_EQ(outcomes[1]->samples, 1u);
  EXPECT_EQ(outcomes[2]->samples, 1u);
  ASSERT_EQ(outcomes[2]->refusals.size(), 1u);
  EXPECT_EQ(outcomes[2]->refusals[0].item, 1u);
  EXPECT_EQ(outcomes[2]->refusals[0].reason.code(), StatusCode::kOutOfRange);
}

TEST(JoinedWrites, TenantsThatAlternateKeepTheirOwn) {
  const auto db = InOrderMemory();
  const auto outcomes =
      PushAll(*db, {Json({Item("x", 1, 1000)}), Json({Item("y", 1, 1000)}), Json({Item("x", 2, 2000)})},
              {TenantId(1), TenantId(2)});
  for (const auto& outcome : outcomes) EXPECT_EQ(outcome->samples, 1u);
  EXPECT_TRUE(Has(*db, TenantId(1), "x"));
  EXPECT_FALSE(Has(*db, TenantId(2), "x"));
  EXPECT_TRUE(Has(*db, TenantId(2), "y"));
}

TEST(JoinedWrites, MoreRefusalsThanAreKeptAreStillToldToWhoMadeThem) {
  const auto db = InOrderMemory();
  ASSERT_EQ(PushAll(*db, {Json({Item("m", 1, 10'000)})}, {kDefaultTenant})[0]->samples, 1u);
  std::vector<std::string> late;
  for (int i = 0; i < 70; ++i) late.push_back(Item("m", 1, i));
  std::vector<std::string> bodies(3, Json(late));
  bodies.push_back(Json({Item("m", 2, 20'000), Item("m", 1, 5)}));
  const auto outcomes = PushAll(*db, bodies, {kDefaultTenant});
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(outcomes[i]->samples, 0u);
    EXPECT_EQ(outcomes[i]->rejected, 70u);
    EXPECT_EQ(outcomes[i]->refusals.size(), 70u);
  }
  EXPECT_EQ(outcomes[3]->samples, 1u);
  EXPECT_EQ(outcomes[3]->rejected, 1u);
}

TEST(JoinedWrites, LinesAreRefusedByTheirNumberInTheirRequest) {
  const auto db = InOrderMemory();
  ASSERT_EQ(PushAll(*db, {"m 1 10000\n"}, {kDefaultTenant}, "text")[0]->samples, 1u);
  const auto outcomes =
      PushAll(*db, {"a 1 1000\nb 1 1000\n", "c 1 1000\nm 1 5000\nd 1 1000\n"}, {kDefaultTenant}, "text");
  EXPECT_EQ(outcomes[0]->samples, 2u);
  EXPECT_EQ(outcomes[1]->samples, 2u);
  ASSERT_EQ(outcomes[1]->refusals.size(), 1u);
  EXPECT_EQ(outcomes[1]->refusals[0].item, 2u);
}

}  // namespace
}  // namespace millstream::engine

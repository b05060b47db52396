// What a database finds again after it was closed, or after the machine lost power.

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "memory_database.h"
#include "millstream/engine/database.h"
#include "millstream/env/file_util.h"
#include "millstream/env/sim_clock.h"
#include "millstream/env/sim_file_system.h"

namespace millstream::engine {
namespace {

class DurabilityTest : public testing::Test {
 protected:
  env::Env Env() { return {&clock_, env::SystemEnv().random, &files_, env::SystemEnv().executor}; }

  std::unique_ptr<Database> Open(DatabaseOptions options = {}) {
    if (options.partitions == 0) options.partitions = 2;
    options.durability = storage::Durability::kFsync;
    auto db = Database::Open("data", options, Env());
    EXPECT_TRUE(db.ok()) << db.status().ToString();
    return db.ok() ? std::move(db).value() : nullptr;
  }

  static void Push(Database& db, int from, int to) {
    for (int i = from; i < to; ++i) {
      const std::string text =
          "m{s=\"" + std::to_string(i % 7) + "\"} " + std::to_string(i) + " " + std::to_string(1000 + i) + "\n";
      const auto outcome = PushText(db, text);
      ASSERT_TRUE(outcome.ok()) << outcome.status().ToString();
      ASSERT_EQ(outcome->samples, 1u);
    }
  }

  static double Count(const Database& db) {
    const auto result = db.Query(kDefaultTenant, "sum(count_over_time(m[1h]))", 3'000'000, {});
    EXPECT_TRUE(result.ok()) << result.status().ToString();
    const auto& vector = std::get<promql::Vector>(result->value);
    return vector.empty() ? 0 : vector[0].value;
  }

  env::SimClock clock_{1'700'000'000'000};
  env::SimFileSystem files_{42};
};

TEST_F(DurabilityTest, CleanCloseAndReopenKeepsEverySampleOnce) {
  auto db = Open();
  Push(*db, 0, 100);
  ASSERT_TRUE(db->Close().ok());
  db = Open();
  EXPECT_EQ(Count(*db), 100);
  Push(*db, 100, 150);
  Push(*db, 0, 10);  // sent again
  db.reset();
  db = Open();
  EXPECT_EQ(Count(*db), 150);
}

TEST_F(DurabilityTest, SeriesThatTheHeadForgotIsWrittenByItsLabels) {
  DatabaseOptions options;
  options.partitions = 1;
  options.out_of_order_window_ms = 0;
  options.checkpoint_interval_ms = 1;
  const auto db = Open(options);
  const auto push = [&](const std::string& text) {
    const auto outcome = PushText(*db, text);
    ASSERT_TRUE(outcome.ok()) << outcome.status().ToString();
    EXPECT_EQ(outcome->rejected, 0u);
  };
  push("m{s=\"silent\"} 1 1000\nm{s=\"alive\"} 1 1000\n");
  push("m{s=\"alive\"} 2 90000000\n");
  // A checkpoint, which the timer asks for, takes the silent series out of the head.
  const auto until = std::chrono::steady_clock::now() + std::chrono::minutes(2);
  while (db->Stats().at("millstream_head_series") > 1) {
    ASSERT_LT(std::chrono::steady_clock::now(), until);
    std::this_thread::yield();
  }
  push(
      "m{s=\"alive\"} 3 90001000\nm{s=\"silent\"} 2 90001000\nm{s=\"alive\"} 4 90002000\n"
      "m{s=\"silent\"} 3 90002000\n");
  const auto result = db->Query(kDefaultTenant, "sum by (s) (sum_over_time(m[1d]))", 90'002'000, {});
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  const auto& vector = std::get<promql::Vector>(result->value);
  ASSERT_EQ(vector.size(), 2u);
  for (const promql::VectorSample& sample : vector) {
    EXPECT_EQ(sample.value, sample.labels.Get("s") == "alive" ? 9 : 5) << sample.labels.ToString();
  }
}

TEST_F(DurabilityTest, PowerCutLosesNothingThatFsyncAcknowledged) {
  auto db = Open();
  Push(*db, 0, 60);
  files_.PowerCut();
  db.reset();  // what is left of the old process can no longer reach the disk
  db = Open();
  EXPECT_EQ(Count(*db), 60);
}

TEST_F(DurabilityTest, ProcessDeathLosesNothing) {
  auto db = Open();
  Push(*db, 0, 60);
  files_.ProcessDeath();
  db.reset();
  db = Open();
  EXPECT_EQ(Count(*db), 60);
}

TEST_F(DurabilityTest, ChangingTheNumberOfPartitionsIsRefused) {
  Open().reset();
  DatabaseOptions options;
  options.partitions = 5;
  const auto db = Database::Open("data", options, Env());
  ASSERT_FALSE(db.ok());
  EXPECT_EQ(db.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(db.status().message().find("made with 2 partitions"), std::string_view::npos);
}

TEST_F(DurabilityTest, SecondOpenOfAnOpenFolderIsRefused) {
  const auto db = Open();
  const auto second = Database::Open("data", {}, Env());
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), StatusCode::kFailedPrecondition);
}

TEST_F(DurabilityTest, ManifestThatIsNoneIsDataLossAndNamed) {
  Open().reset();
  ASSERT_TRUE(files_.Overwrite("data/MANIFEST", "millstream 1\npartitions x\n").ok());
  const auto db = Database::Open("data", {}, Env());
  ASSERT_FALSE(db.ok());
  EXPECT_EQ(db.status().code(), StatusCode::kDataLoss);
  EXPECT_NE(db.status().message().find("data/MANIFEST"), std::string_view::npos);
}

TEST_F(DurabilityTest, OnlyAnEmptyOrNewFolderBecomesADatabase) {
  DatabaseOptions existing;
  existing.create_if_missing = false;
  EXPECT_EQ(Database::Open("data", existing, Env()).status().code(), StatusCode::kNotFound);
  EXPECT_FALSE(files_.Exists("data").value());

  ASSERT_TRUE(files_.MakeFolder("documents").ok());
  ASSERT_TRUE(env::WriteFileAtomically(files_, "documents/letter.txt", "dear").ok());
  const auto foreign = Database::Open("documents", {}, Env());
  EXPECT_EQ(foreign.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(foreign.status().message().find("letter.txt"), std::string_view::npos);
  EXPECT_EQ(files_.List("documents")->size(), 1u);

  ASSERT_TRUE(files_.MakeFolder("half").ok());
  ASSERT_TRUE(env::WriteFileAtomically(files_, "half/LOCK", "").ok());
  EXPECT_TRUE(Database::Open("half", {}, Env()).ok());
  EXPECT_TRUE(Database::Open("half", existing, Env()).ok());

  // The gateway may have made its keys before the first start.
  ASSERT_TRUE(files_.MakeFolder("keys").ok());
  ASSERT_TRUE(files_.MakeFolder("keys/meta").ok());
  EXPECT_TRUE(Database::Open("keys", {}, Env()).ok());
}

TEST_F(DurabilityTest, LostManifestIsNotReplacedByOneThatWouldLoseSeries) {
  Open().reset();
  ASSERT_TRUE(files_.Remove("data/MANIFEST").ok());
  EXPECT_EQ(Database::Open("data", {}, Env()).status().code(), StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace millstream::engine

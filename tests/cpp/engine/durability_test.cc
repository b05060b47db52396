// What a database finds again after it was closed, or after the machine lost power.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "millstream/engine/database.h"
#include "millstream/env/file_util.h"
#include "millstream/env/sim_clock.h"
#include "millstream/env/sim_file_system.h"

namespace millstream::engine {
namespace {

class DurabilityTest : public testing::Test {
 protected:
  env::Env Env() { return {&clock_, env::SystemEnv().random, &files_, env::SystemEnv().executor}; }

  std::unique_ptr<Database> Open() {
    DatabaseOptions options;
    options.partitions = 2;
    options.durability = storage::Durability::kFsync;
    auto db = Database::Open("data", options, Env());
    EXPECT_TRUE(db.ok()) << db.status().ToString();
    return db.ok() ? std::move(db).value() : nullptr;
  }

  static void Push(Database& db, int from, int to) {
    for (int i = from; i < to; ++i) {
      const std::string text =
          "m{s=\"" + std::to_string(i % 7) + "\"} " + std::to_string(i) + " " + std::to_string(1000 + i) + "\n";
      const auto outcome = db.PushText(kDefaultTenant, text, TextFormat::kPrometheus, 0);
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
}

TEST_F(DurabilityTest, LostManifestIsNotReplacedByOneThatWouldLoseSeries) {
  Open().reset();
  ASSERT_TRUE(files_.Remove("data/MANIFEST").ok());
  EXPECT_EQ(Database::Open("data", {}, Env()).status().code(), StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace millstream::engine

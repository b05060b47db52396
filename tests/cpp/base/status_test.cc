#include "millstream/base/status.h"

#include <gtest/gtest.h>

#include <memory>

#include "millstream/base/result.h"

namespace millstream {
namespace {

TEST(Status, OkHasNoMessageAndPrintsOk) {
  const Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.code(), StatusCode::kOk);
  EXPECT_EQ(status.ToString(), "OK");
}

TEST(Status, ErrorKeepsCodeAndFormattedMessage) {
  const Status status = InvalidArgument("step {} is not positive", -5);
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.ToString(), "INVALID_ARGUMENT: step -5 is not positive");
}

TEST(Status, CopyIsIndependentOfTheMovedFromOriginal) {
  Status original = NotFound("series");
  const Status copy = original;
  const Status moved = std::move(original);
  EXPECT_EQ(copy, moved);
}

TEST(Status, ContextIsPutBeforeTheMessageAndLeavesOkAlone) {
  EXPECT_EQ(DataLoss("bad checksum").WithContext("segment 3").message(), "segment 3: bad checksum");
  EXPECT_TRUE(Status::Ok().WithContext("segment 3").ok());
}

Result<std::unique_ptr<int>> Make(bool fail) {
  if (fail) return OutOfRange("too far");
  return std::make_unique<int>(7);
}

Status Use(bool fail, int* out) {
  MS_ASSIGN_OR_RETURN(std::unique_ptr<int> value, Make(fail));
  *out = *value;
  return Status::Ok();
}

TEST(Result, AssignOrReturnPassesValueAndError) {
  int out = 0;
  EXPECT_TRUE(Use(false, &out).ok());
  EXPECT_EQ(out, 7);
  EXPECT_EQ(Use(true, &out).code(), StatusCode::kOutOfRange);
}

TEST(ResultDeathTest, ValueOfAnErrorAborts) {
  EXPECT_DEATH({ (void)Make(true).value(); }, "check failed");
}

}  // namespace
}  // namespace millstream

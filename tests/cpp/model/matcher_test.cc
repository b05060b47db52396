#include "millstream/model/matcher.h"

#include <gtest/gtest.h>

#include "millstream/model/labels.h"

namespace millstream::model {
namespace {

TEST(Matcher, RegexIsAnchoredAtBothEndsAndDotMatchesNewline) {
  const Matcher matcher = Matcher::Make(MatchType::kRegex, "a", "b.c").value();
  EXPECT_TRUE(matcher.Matches("b\nc"));
  EXPECT_FALSE(matcher.Matches("xb.c"));
  EXPECT_FALSE(matcher.Matches("b.cx"));
}

TEST(Matcher, AbsentLabelIsTheEmptyValue) {
  const Labels labels = Labels::Of({{"a", "1"}});
  EXPECT_TRUE(Matcher::Make(MatchType::kEqual, "b", "").value().MatchesLabels(labels));
  EXPECT_TRUE(Matcher::Make(MatchType::kNotRegex, "b", "x+").value().MatchesLabels(labels));
  EXPECT_FALSE(Matcher::Make(MatchType::kNotEqual, "a", "1").value().MatchesLabels(labels));
}

TEST(Matcher, BadOrHugeRegexIsRefused) {
  EXPECT_EQ(Matcher::Make(MatchType::kRegex, "a", "(").status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Matcher::Make(MatchType::kRegex, "a", std::string(kRegexBytesMax + 1, 'x')).status().code(),
            StatusCode::kResourceExhausted);
  EXPECT_EQ(Matcher::Make(MatchType::kRegex, "a", "((a{100}){100}){100}").ok(), false);
}

TEST(Matcher, PrintsWithPromQlQuoting) {
  EXPECT_EQ(Matcher::Make(MatchType::kNotEqual, "a", "x\"y").value().ToString(), R"(a!="x\"y")");
  EXPECT_EQ(Matcher::Make(MatchType::kEqual, "a.b", "x").value().ToString(), R"("a.b"="x")");
}

}  // namespace
}  // namespace millstream::model

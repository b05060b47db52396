#include "millstream/model/labels.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace millstream::model {
namespace {

TEST(Labels, SortsByNameAndDropsEmptyValues) {
  const Labels labels = Labels::Of({{"z", "1"}, {"a", "2"}, {"m", ""}});
  EXPECT_EQ(labels.size(), 2u);
  EXPECT_EQ(labels.Get("a"), "2");
  EXPECT_EQ(labels.Get("z"), "1");
  EXPECT_EQ(labels.Get("m"), "");
  EXPECT_EQ((*labels.begin()).name, "a");
}

TEST(Labels, DuplicateNameIsRefusedByName) {
  const std::vector<Label> pairs = {{"job", "a"}, {"job", "b"}};
  const Result<Labels> labels = Labels::FromPairs(pairs);
  ASSERT_FALSE(labels.ok());
  EXPECT_EQ(labels.status().message(), "label name \"job\" occurs twice");
}

TEST(Labels, LongValuesRoundTripThroughTheLongForm) {
  const std::string value(70'000, 'x');
  const Labels labels = Labels::Of({{"a", value}, {"b", std::string(254, 'y')}, {"c", std::string(255, 'z')}});
  EXPECT_EQ(labels.Get("a"), value);
  EXPECT_EQ(labels.Get("b").size(), 254u);
  EXPECT_EQ(labels.Get("c").size(), 255u);
  EXPECT_EQ(Labels::FromEncoded(std::string(labels.encoded())).value(), labels);
}

TEST(Labels, EncodedBytesThatBreakAnInvariantAreDataLoss) {
  const std::string good(Labels::Of({{"a", "1"}, {"b", "2"}}).encoded());
  for (size_t cut = 1; cut < good.size(); ++cut) {
    if (cut == 4) continue;  // the boundary between the two labels
    EXPECT_EQ(Labels::FromEncoded(good.substr(0, cut)).status().code(), StatusCode::kDataLoss) << cut;
  }
  EXPECT_FALSE(Labels::FromEncoded(good.substr(4) + good.substr(0, 4)).ok());
  EXPECT_FALSE(Labels::FromEncoded(std::string("\1a\0", 3)).ok());
}

TEST(Labels, OrderIsPairwiseWithShorterFirst) {
  const Labels shorter = Labels::Of({{"a", "1"}});
  const Labels longer = Labels::Of({{"a", "1"}, {"b", "1"}});
  const Labels greater = Labels::Of({{"a", "2"}});
  EXPECT_LT(shorter, longer);
  EXPECT_LT(longer, greater);
  EXPECT_EQ(shorter <=> shorter, std::strong_ordering::equal);
}

TEST(Labels, PrintsAsPromQlWithQuotesOnlyWhereNeeded) {
  EXPECT_EQ(Labels::Of({{"__name__", "up"}, {"job", "a\"b"}}).ToString(), R"(up{job="a\"b"})");
  EXPECT_EQ(Labels::Of({{"__name__", "my.metric"}, {"lab.el", "x"}}).ToString(), R"({"my.metric", "lab.el"="x"})");
  EXPECT_EQ(Labels().ToString(), "{}");
  EXPECT_EQ(Labels::Of({{"__name__", "up"}}).ToString(), "up");
}

TEST(LabelsBuilder, SetDelKeepWorkOnACopyOfTheBase) {
  const Labels base = Labels::Of({{"__name__", "up"}, {"dc", "x"}, {"host", "h"}});
  LabelsBuilder builder(base);
  builder.Set("env", "prod").Del("host").Set("dc", "");
  EXPECT_EQ(builder.Build(), Labels::Of({{"__name__", "up"}, {"env", "prod"}}));
  const std::vector<std::string> keep = {"host"};
  EXPECT_EQ(LabelsBuilder(base).Keep(keep).Build(), Labels::Of({{"host", "h"}}));
  EXPECT_EQ(LabelsBuilder(base).Del(keep).Build(), Labels::Of({{"__name__", "up"}, {"dc", "x"}}));
  EXPECT_EQ(base.size(), 3u);
}

}  // namespace
}  // namespace millstream::model

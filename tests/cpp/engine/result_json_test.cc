#include <gtest/gtest.h>

#include "millstream/engine/database.h"

namespace millstream::engine {
namespace {

using model::Labels;

TEST(ResultJson, ScalarAndString) {
  EXPECT_EQ(ResultJson({promql::Scalar{4000, 2}, {}, {}}), R"({"resultType":"scalar","result":[4,"2"]})");
  EXPECT_EQ(ResultJson({promql::String{4500, "a\"b"}, {}, {}}), R"({"resultType":"string","result":[4.500,"a\"b"]})");
}

TEST(ResultJson, VectorAndMatrix) {
  const promql::Vector vector = {{Labels::Of({{"__name__", "up"}}), 1000, 1, nullptr}};
  EXPECT_EQ(ResultJson({vector, {}, {}}),
            R"({"resultType":"vector","result":[{"metric":{"__name__":"up"},"value":[1,"1"]}]})");
  const promql::Matrix matrix = {{Labels(), {1000, 2000}, {1, 2.5}, {}, {}}};
  EXPECT_EQ(ResultJson({matrix, {}, {}}),
            R"({"resultType":"matrix","result":[{"metric":{},"values":[[1,"1"],[2,"2.5"]]}]})");
  EXPECT_EQ(ResultJson({promql::Matrix(), {}, {}}), R"({"resultType":"matrix","result":[]})");
}

TEST(ResultJson, HistogramTellsItsBucketsWithTheirBoundaries) {
  auto histogram = std::make_shared<model::Histogram>();
  histogram->count = 6;
  histogram->sum = 10;
  histogram->zero_count = 1;
  histogram->zero_threshold = 0.5;
  histogram->positive_spans = {{1, 2}};
  histogram->positive_buckets = {2, 3};
  const promql::Vector vector = {{Labels(), 1000, 0, histogram}};
  EXPECT_EQ(ResultJson({vector, {}, {}}),
            R"({"resultType":"vector","result":[{"metric":{},"histogram":[1,{"count":"6","sum":"10","buckets":)"
            R"([[3,"-0.5","0.5","1"],[0,"1","2","2"],[0,"2","4","3"]]}]}]})");
}

}  // namespace
}  // namespace millstream::engine

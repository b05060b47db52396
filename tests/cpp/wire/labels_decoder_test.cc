#include "millstream/wire/labels_decoder.h"

#include <gtest/gtest.h>

#include "protobuf_writer.h"

namespace millstream::wire {
namespace {

using model::Labels;

Status TextError(std::string_view text) {
  return DecodeLabels(LabelEncoding::kText, text).status();
}

TEST(LabelsDecoder, UnsortedLabelsAreSorted) {
  EXPECT_EQ(DecodeLabels(LabelEncoding::kProtobuf, LabelField("z", "1") + LabelField("__name__", "m")).value(),
            Labels::Of({{"__name__", "m"}, {"z", "1"}}));
}

TEST(LabelsDecoder, DuplicateEmptyAndMissingNamesAreRefused) {
  const std::string name = LabelField("__name__", "m");
  EXPECT_EQ(
      DecodeLabels(LabelEncoding::kProtobuf, name + LabelField("a", "1") + LabelField("a", "2")).status().message(),
      "label name \"a\" occurs twice");
  EXPECT_EQ(DecodeLabels(LabelEncoding::kProtobuf, name + LabelField("", "1")).status().message(), "empty label name");
  EXPECT_EQ(DecodeLabels(LabelEncoding::kProtobuf, LabelField("a", "1")).status().message(),
            "the metric name is missing or empty");
  EXPECT_FALSE(DecodeLabels(LabelEncoding::kProtobuf, LabelField("__name__", "")).ok());
}

TEST(LabelsDecoder, InvalidUtf8NamesTheLabelAndTheByte) {
  EXPECT_EQ(DecodeLabels(LabelEncoding::kProtobuf, LabelField("__name__", "m") + LabelField("a", "ok\xFF"))
                .status()
                .message(),
            "the value of label \"a\" is not UTF-8 at byte 2");
}

TEST(LabelsDecoder, LimitsAreNamedWithTheirValue) {
  std::string many = LabelField("__name__", "m");
  for (int i = 0; i < 100; ++i) many += LabelField("l" + std::to_string(i), "v");
  const Status status = DecodeLabels(LabelEncoding::kProtobuf, many).status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("the limit is 64"), std::string_view::npos);
  LabelLimits limits;
  limits.value_bytes_max = 3;
  EXPECT_EQ(DecodeLabels(LabelEncoding::kText, R"(m{a="1234"})", limits).status().code(),
            StatusCode::kResourceExhausted);
}

TEST(LabelsDecoder, TextFormsAndEscapes) {
  EXPECT_EQ(DecodeLabels(LabelEncoding::kText, R"(m { a = "x\"y\\z\n" , })").value(),
            Labels::Of({{"__name__", "m"}, {"a", "x\"y\\z\n"}}));
  EXPECT_EQ(DecodeLabels(LabelEncoding::kText, R"({"my.metric","l.a"="x"})").value(),
            Labels::Of({{"__name__", "my.metric"}, {"l.a", "x"}}));
  EXPECT_EQ(DecodeLabels(LabelEncoding::kText, "m").value(), Labels::Of({{"__name__", "m"}}));
  EXPECT_EQ(DecodeLabels(LabelEncoding::kText, R"(m{a="}"})").value(), Labels::Of({{"__name__", "m"}, {"a", "}"}}));
}

TEST(LabelsDecoder, BrokenTextIsRefusedWithAReason) {
  EXPECT_EQ(TextError("9m").message(), "\"9m\" is no metric name");
  EXPECT_EQ(TextError(R"(m{a=1})").message(), "the value of label \"a\" is not quoted");
  EXPECT_EQ(TextError(R"(m{a})").message(), "label \"a\" has no value");
  EXPECT_EQ(TextError(R"(m{a="1" b="2"})").message(), "expected a comma or a closing brace after label 2");
  EXPECT_FALSE(TextError(R"(m{a="1"}x)").ok());
}

TEST(LabelsDecoder, PairsThatAreCutOffAreRefused) {
  std::string raw;
  AppendPairString("__name__", &raw);
  AppendPairString("m", &raw);
  EXPECT_TRUE(DecodeLabels(LabelEncoding::kPairs, raw).ok());
  for (size_t cut = 1; cut < raw.size(); ++cut) {
    EXPECT_FALSE(DecodeLabels(LabelEncoding::kPairs, std::string_view(raw).substr(0, cut)).ok()) << cut;
  }
}

}  // namespace
}  // namespace millstream::wire

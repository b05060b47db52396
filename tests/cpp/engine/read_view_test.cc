// What a view of some series, or of several tenants, shows, and that nothing reaches past it.

#include "millstream/engine/read_view.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "millstream/engine/database.h"
#include "millstream/env/random.h"

namespace millstream::engine {
namespace {

using Names = std::vector<std::string>;

constexpr TenantId kA{1};
constexpr TenantId kB{2};

DatabaseOptions Three() {
  DatabaseOptions options;
  options.partitions = 3;
  return options;
}

std::unique_ptr<Database> Filled() {
  auto db = Database::Open(std::string(kMemoryPath), Three()).value();
  const char* of_a =
      "# HELP up is it up\n# TYPE up gauge\n"
      "up{env=\"dev\",host=\"1\"} 1 1000\nup{env=\"prod\",host=\"2\"} 2 1000\n"
      "# HELP secret hidden\n# TYPE secret gauge\nsecret{env=\"dev\"} 4 1000\nlatency_bucket{env=\"dev\"} 8 1000\n";
  const char* of_b = "up{env=\"dev\",host=\"1\"} 16 1000\nup{__tenant_id__=\"own\"} 32 1000\nonly_b 64 1000\n";
  EXPECT_TRUE(db->Push(kA, {.format = "text", .body = of_a}).ok());
  EXPECT_TRUE(db->Push(kB, {.format = "text", .body = of_b}).ok());
  return db;
}

ReadView Of(const std::vector<TenantScope>& scopes) {
  Result<ReadView> made = ReadView::Make(scopes);
  EXPECT_TRUE(made.ok()) << made.status().ToString();
  return std::move(made).value();
}

ReadView Both() {
  return Of({{kA, "a", {}, {}}, {kB, "b", {}, {}}});
}

std::string Ask(const Database& db, const ReadView& view, const std::string& expression) {
  const auto result = db.Query(view, expression, 1000, {});
  return result.ok() ? ResultJson(*result) : result.status().ToString();
}

// The sum of everything that an expression selects; 0 for nothing.
std::string Sum(const Database& db, const ReadView& view, const std::string& selector) {
  const std::string json = Ask(db, view, "sum(" + selector + ") or vector(0)");
  const size_t end = json.rfind("\"]");
  const size_t begin = json.rfind('"', end - 1);
  return end == std::string::npos ? json : json.substr(begin + 1, end - begin - 1);
}

Names NamesOf(const Result<std::vector<model::Labels>>& series) {
  Names names;
  EXPECT_TRUE(series.ok()) << series.status().ToString();
  for (const model::Labels& labels : *series) names.push_back(labels.ToString());
  return names;
}

const char* const kEverything = "{__name__=~\".+\"}";

TEST(ReadView, ShowsWhatAnySelectorAllowsAndNoneDenies) {
  const auto db = Filled();
  const struct {
    std::vector<std::string> allow;
    std::vector<std::string> deny;
    const char* sum;
  } cases[] = {
      {{}, {}, "15"},
      {{"up"}, {}, "3"},
      {{"up", "secret"}, {}, "7"},
      {{"up"}, {"{env=\"prod\"}"}, "1"},
      {{}, {"{env=\"prod\"}"}, "13"},
      {{}, {"secret", "up"}, "8"},
      {{"up"}, {"up"}, "0"},
      {{"{__name__=~\"up|sec.*\",env=\"dev\"}"}, {}, "5"},
      {{"nothing"}, {}, "0"},
      {{"{host=\"\",env=\"dev\"}"}, {}, "12"},
  };
  for (const auto& one : cases) {
    const ReadView view = Of({{kA, "a", one.allow, one.deny}});
    EXPECT_EQ(Sum(*db, view, kEverything), one.sum) << (one.allow.empty() ? "" : one.allow[0]);
  }
}

TEST(ReadView, NoExpressionReachesPastIt) {
  const auto db = Filled();
  const ReadView view = Of({{kA, "a", {"up"}, {"{env=\"prod\"}"}}});
  for (const char* hidden :
       {"secret", "{__name__=\"secret\"}", "{env=\"prod\"}", "max_over_time(secret[1h])", "secret offset -0s",
        "up{env=\"prod\"}", "{__name__!=\"up\",env!=\"\"}", "{__name__!~\"up\",__name__=~\".+\"}",
        "last_over_time({__name__=~\".+\",env=~\"p.*|\"}[1h])", "max_over_time(secret[1h:1s])",
        "label_replace(secret, \"a\", \"b\", \"\", \"\")", "secret @ 1", "secret or secret",
        "up{env=\"dev\"} and on(env) secret", "count_values(\"v\", secret)", "quantile(0.5, up{env!=\"dev\"})"}) {
    EXPECT_EQ(Ask(*db, view, hidden), R"({"resultType":"vector","result":[]})") << hidden;
  }
  EXPECT_EQ(Ask(*db, view, "absent(secret)"), R"({"resultType":"vector","result":[{"metric":{},"value":[1,"1"]}]})");
  const auto range = db->QueryRange(view, "sum(" + std::string(kEverything) + ")", 1000, 3000, 1000, {});
  ASSERT_TRUE(range.ok());
  EXPECT_EQ(ResultJson(*range),
            R"({"resultType":"matrix","result":[{"metric":{},"values":[[1,"1"],[2,"1"],[3,"1"]]}]})");
}

TEST(ReadView, ListsOnlyWhatItShows) {
  const auto db = Filled();
  const ReadView view = Of({{kA, "a", {"up", "latency_bucket"}, {"{env=\"prod\"}"}}});
  EXPECT_EQ(NamesOf(db->Series(view, {.selectors = {kEverything}})),
            (Names{"latency_bucket{env=\"dev\"}", "up{env=\"dev\", host=\"1\"}"}));
  EXPECT_EQ(db->LabelNames(view, {}).value(), (Names{"__name__", "env", "host"}));
  EXPECT_EQ(db->LabelNames(view, {.selectors = {"secret"}}).value(), Names{});
  EXPECT_EQ(db->LabelValues(view, "env", {}).value(), Names{"dev"});
  EXPECT_EQ(db->LabelValues(view, "host", {}).value(), Names{"1"});
  EXPECT_EQ(db->LabelValues(view, "__name__", {}).value(), (Names{"latency_bucket", "up"}));
  EXPECT_EQ(db->LabelValues(view, "__name__", {.selectors = {"{env=\"prod\"}"}}).value(), Names{});
  EXPECT_EQ(db->LabelNames(view, {.selectors = {}, .limit = 1}).value().size(), 2u);
  const auto metadata = db->Metadata(view, "", 0);
  ASSERT_EQ(metadata.size(), 1u);
  EXPECT_EQ(metadata[0].metric, "up");
  EXPECT_TRUE(db->Metadata(view, "secret", 0).empty());
  EXPECT_EQ(db->Metadata(kA, "", 0).size(), 2u);
}

TEST(ReadView, WhatDoesNotParseIsRefused) {
  for (const char* selector : {"", "up{", "sum(up)", "up[5m]", "{}", "up offset 5m", "{a=~\"(\"}"}) {
    EXPECT_EQ(ReadView::Make({{kA, "a", {selector}, {}}}).status().code(), StatusCode::kInvalidArgument) << selector;
    EXPECT_EQ(ReadView::Make({{kA, "a", {}, {selector}}}).status().code(), StatusCode::kInvalidArgument) << selector;
  }
  EXPECT_FALSE(ReadView::Make({}).ok());
  EXPECT_FALSE(ReadView::Make({{kA, "same", {}, {}}, {kB, "same", {}, {}}}).ok());
  EXPECT_EQ(MakeFilter(std::vector<std::string>(kViewSelectorsMax + 1, "up"), {}).status().code(),
            StatusCode::kResourceExhausted);
}

TEST(ReadView, SeveralTenantsAreToldApartByALabel) {
  const auto db = Filled();
  const ReadView both = Both();
  EXPECT_EQ(Sum(*db, both, kEverything), "127");
  EXPECT_EQ(
      NamesOf(db->Series(both, {.selectors = {"up"}})),
      (Names{"up{__tenant_id__=\"a\", env=\"dev\", host=\"1\"}", "up{__tenant_id__=\"a\", env=\"prod\", host=\"2\"}",
             "up{__tenant_id__=\"b\", env=\"dev\", host=\"1\"}",
             "up{__tenant_id__=\"b\", original___tenant_id__=\"own\"}"}));
  EXPECT_EQ(Sum(*db, both, "up{__tenant_id__=\"a\"}"), "3");
  EXPECT_EQ(Sum(*db, both, "up{__tenant_id__!~\"a|c\"}"), "48");
  EXPECT_EQ(Sum(*db, both, "up{__tenant_id__=\"own\"}"), "0");
  EXPECT_EQ(Sum(*db, both, "up{original___tenant_id__=\"own\"}"), "32");
  EXPECT_EQ(db->LabelValues(both, "__tenant_id__", {}).value(), (Names{"a", "b"}));
  EXPECT_EQ(db->LabelValues(both, "__tenant_id__", {.selectors = {"only_b"}}).value(), Names{"b"});
  EXPECT_EQ(db->LabelValues(both, "original___tenant_id__", {}).value(), Names{"own"});
  EXPECT_EQ(db->LabelNames(both, {.selectors = {"only_b"}}).value(), (Names{"__name__", "__tenant_id__"}));
  EXPECT_EQ(db->LabelNames(both, {.selectors = {"none"}}).value(), Names{});
  EXPECT_EQ(Ask(*db, both, "sum by (__tenant_id__) (up)"),
            R"({"resultType":"vector","result":[{"metric":{"__tenant_id__":"a"},"value":[1,"3"]},)"
            R"({"metric":{"__tenant_id__":"b"},"value":[1,"48"]}]})");
}

TEST(ReadView, ExemplarsOfSeveralTenantsAreToldApartToo) {
  const auto db = Filled();
  const auto push = [&](TenantId tenant, const std::string& series, const std::string& trace) {
    const std::string body = "# TYPE n counter\n" + series + " 1 1 # {t=\"" + trace + "\"} 1 1\n# EOF\n";
    EXPECT_EQ(db->Push(tenant, {.format = "open_metrics", .body = body})->exemplars, 1u) << series;
  };
  push(kA, "n_total{env=\"dev\"}", "1");
  push(kA, "n_total{env=\"prod\"}", "2");
  push(kB, "n_total{env=\"dev\"}", "3");
  push(kB, "n_total{__tenant_id__=\"own\"}", "4");
  const auto ask = [&](const ReadView& view, const std::string& expression) {
    const auto found = db->Exemplars(view, expression, {0, 10'000});
    EXPECT_TRUE(found.ok()) << found.status().ToString();
    Names names;
    for (const model::SeriesExemplars& one : *found) {
      names.push_back(one.series.ToString() + " " + one.exemplars.at(0).labels.ToString());
    }
    return names;
  };
  const std::string first = "n_total{__tenant_id__=\"a\", env=\"dev\"} {t=\"1\"}";
  const std::string second = "n_total{__tenant_id__=\"a\", env=\"prod\"} {t=\"2\"}";
  const std::string third = "n_total{__tenant_id__=\"b\", env=\"dev\"} {t=\"3\"}";
  const std::string fourth = "n_total{__tenant_id__=\"b\", original___tenant_id__=\"own\"} {t=\"4\"}";
  EXPECT_EQ(ask(Both(), "n_total"), (Names{first, second, third, fourth}));
  EXPECT_EQ(ask(Both(), "n_total{__tenant_id__=\"a\"}"), (Names{first, second}));
  EXPECT_EQ(ask(Both(), "n_total{__tenant_id__=\"own\"}"), Names{});
  EXPECT_EQ(ask(Both(), "n_total{original___tenant_id__=\"own\"}"), Names{fourth});
  EXPECT_EQ(ask(Both(), "n_total{env=\"prod\"} or n_total{__tenant_id__=\"b\",env=\"dev\"}"), (Names{second, third}));
  EXPECT_EQ(ask(Of({{kA, "a", {}, {"{env=\"prod\"}"}}, {kB, "b", {"up"}, {}}}), "n_total"), Names{first});
  EXPECT_EQ(ask(kB, "n_total{__tenant_id__=\"own\"}"), Names{"n_total{__tenant_id__=\"own\"} {t=\"4\"}"});
}

TEST(ReadView, EachOfSeveralTenantsIsNarrowedByItself) {
  const auto db = Filled();
  const ReadView view = Of({{kA, "a", {"secret"}, {}}, {kB, "b", {}, {"only_b"}}});
  EXPECT_EQ(Sum(*db, view, kEverything), "52");
  EXPECT_EQ(Sum(*db, view, "up"), "48");
}

TEST(ReadView, OneTenantAloneKeepsItsLabels) {
  const auto db = Filled();
  EXPECT_EQ(NamesOf(db->Series(Of({{kB, "b", {}, {}}}), {.selectors = {"{__tenant_id__=\"own\"}"}})),
            Names{"up{__tenant_id__=\"own\"}"});
}

TEST(ReadView, AWriterStoresWhatItMayAndIsToldTheRest) {
  const auto db = Filled();
  const storage::SeriesFilter filter = MakeFilter({"up"}, {"{env=\"prod\"}"}).value();
  const char* text =
      "# TYPE up gauge\nup{env=\"dev\",host=\"1\"} 100 2000\nup{env=\"prod\",host=\"2\"} 100 2000\n"
      "# TYPE fresh gauge\nfresh 100 2000\n";
  for (int round = 0; round < 2; ++round) {
    const auto outcome = db->Push(kA, {.format = "text", .body = text, .filter = filter});
    ASSERT_TRUE(outcome.ok()) << outcome.status().ToString();
    EXPECT_EQ(outcome->samples, 1u);
    EXPECT_EQ(outcome->metadata, 1u);
    EXPECT_EQ(outcome->rejected, 2u);
    ASSERT_EQ(outcome->refusals.size(), 2u);
    for (const ItemRefusal& refusal : outcome->refusals) {
      EXPECT_EQ(refusal.reason.code(), StatusCode::kPermissionDenied);
    }
    EXPECT_EQ(outcome->refusals[0].item, 3u);
  }
  EXPECT_EQ(NamesOf(db->Series(kA, {.selectors = {"fresh"}})), Names{});
}

// What the first tenant is told of a metric.
std::string HelpOf(const Database& db, std::string_view metric) {
  const auto found = db.Metadata(kA, metric, 0);
  return found.empty() ? std::string() : found[0].help;
}

TEST(ReadView, MetadataIsOfAWriterWhoMayWriteItsSeries) {
  struct Case {
    std::vector<std::string> allow;
    std::vector<std::string> deny;
    const char* series;  // that come with metadata of secret
    bool is_taken;
  };
  const Case cases[] = {
      {{}, {"{env=\"prod\"}"}, "secret{env=\"prod\"} 1 2000\n", false},
      {{}, {"{env=\"prod\"}"}, "", false},
      {{}, {"{env=\"prod\"}"}, "secret{env=\"dev\"} 1 2000\n", true},
      {{}, {"{env=\"prod\"}"}, "secret{env=\"prod\"} 1 2000\nsecret{env=\"dev\"} 1 2000\n", true},
      {{}, {"{env=\"prod\"}"}, "other{env=\"dev\"} 1 2000\n", false},
      {{}, {"{env=\"prod\"}"}, "secret_sum{env=\"dev\"} 1 2000\n", true},
      {{}, {"secret"}, "secret_sum{env=\"dev\"} 1 2000\n", false},
      {{"secret_sum"}, {}, "secret_sum{env=\"dev\"} 1 2000\n", false},
      {{"{env=\"dev\"}"}, {}, "secret{env=\"prod\"} 1 2000\n", false},
      {{"{env=\"dev\"}"}, {}, "", false},
      {{"{env=\"dev\"}"}, {}, "secret{env=\"dev\"} 1 2000\n", true},
      {{"secret"}, {}, "", true},
      {{"up"}, {}, "", false},
      {{}, {"secret"}, "", false},
      {{}, {"up"}, "", true},
      {{"{__name__=~\"sec.*\"}"}, {"{__name__=\"secret\",env=\"prod\"}"}, "", false},
  };
  for (const Case& one : cases) {
    const auto db = Filled();
    const std::string body = std::string("# HELP secret evil\n# TYPE secret gauge\n") + one.series;
    const auto outcome =
        db->Push(kA, {.format = "text", .body = body, .filter = MakeFilter(one.allow, one.deny).value()});
    ASSERT_TRUE(outcome.ok()) << outcome.status().ToString();
    EXPECT_EQ(outcome->metadata, one.is_taken ? 1u : 0u) << one.series;
    EXPECT_EQ(HelpOf(*db, "secret"), one.is_taken ? "evil" : "hidden")
        << one.series << (one.allow.empty() ? "" : one.allow[0]) << (one.deny.empty() ? "" : one.deny[0]);
  }
}

TEST(ReadView, SelectorsLieWithinAccessListsWhenTheirMatchersSaySo) {
  struct Case {
    std::vector<std::string> selectors;
    std::vector<std::string> allow;
    std::vector<std::string> deny;
    bool within;
  };
  const std::vector<Case> cases{
      {{"up"}, {}, {}, true},
      {{"up{team=\"a\"}"}, {"{team=\"a\"}"}, {}, true},
      {{"up{team=\"a\"}"}, {"{team=~\"a|b\"}"}, {}, true},
      {{"up{team=~\"a|b\"}"}, {"{team=~\"a|b\"}"}, {}, true},
      {{"up{team=\"a\"}"}, {"{team=\"b\"}", "up"}, {}, true},
      {{"up{team=\"a\"}"}, {"up{team!=\"b\"}"}, {}, true},
      {{"up"}, {"{team=\"a\"}"}, {}, false},
      {{"up{team=\"ab\"}"}, {"{team=~\"a|b\"}"}, {}, false},
      {{"up{team=~\"a\"}"}, {"{team=~\"a|b\"}"}, {}, false},  // in doubt
      {{"up{team=\"a\"}"}, {"down{team=\"a\"}"}, {}, false},
      {{"up{team=\"a\"}", "up"}, {"{team=\"a\"}"}, {}, false},
      {{"up{team!=\"a\"}"}, {"{team=\"a\"}"}, {}, false},
      {{"up"}, {}, {"secret"}, true},
      {{"up{env=\"dev\"}"}, {}, {"{env=\"prod\"}"}, true},
      {{"up{env!=\"prod\"}"}, {}, {"{env=\"prod\"}"}, true},
      {{"up{env!~\"p.*\"}"}, {}, {"{env=~\"p.*\"}"}, true},
      {{"up"}, {}, {"{env=\"prod\"}"}, false},
      {{"secret"}, {}, {"secret"}, false},
      {{"{__name__=~\".+\"}"}, {}, {"secret"}, false},
      {{"up{env=\"dev\"}"}, {"up"}, {"{env=\"prod\"}", "{host=\"1\"}"}, false},
  };
  for (const Case& one : cases) {
    const auto within = AreWithin(one.selectors, one.allow, one.deny);
    ASSERT_TRUE(within.ok()) << within.status().ToString();
    EXPECT_EQ(*within, one.within) << one.selectors.front() << (one.allow.empty() ? "" : " in " + one.allow.front());
  }
  EXPECT_EQ(AreWithin({"up{"}, {}, {}).status().code(), StatusCode::kInvalidArgument);
}

TEST(ReadView, WhatIsSaidToLieWithinNeverShowsMore) {
  env::SeededRandom random(7);
  const std::vector<std::string> parts{"a=\"x\"", "a!=\"x\"",  "a=~\"x|y\"", "a!~\"x|y\"", "b=\"x\"",
                                       "b=\"\"",  "b=~\"y|\"", "b!=\"\"",    "b!~\"y.*\""};
  const auto selector = [&] {
    std::string out = "{__name__=\"m\"";
    for (uint64_t i = random.Below(3); i > 0; --i) out += "," + parts[random.Below(parts.size())];
    return out + "}";
  };
  const auto selectors = [&] {
    std::vector<std::string> out;
    for (uint64_t i = random.Below(3); i > 0; --i) out.push_back(selector());
    return out;
  };
  int within = 0;
  for (int round = 0; round < 5000; ++round) {
    const std::vector<std::string> asked{selector()};
    const auto allow = selectors();
    const auto deny = selectors();
    if (!AreWithin(asked, allow, deny).value()) continue;
    ++within;
    const auto wanted = MakeFilter(asked, {}).value();
    const auto visible = MakeFilter(allow, deny).value();
    for (const std::string a : {"", "x", "y", "yz"}) {
      for (const std::string b : {"", "x", "y", "yz"}) {
        const std::vector<model::Label> pairs{{"__name__", "m"}, {"a", a}, {"b", b}};
        const auto labels = model::Labels::FromPairs(pairs);
        ASSERT_TRUE(labels.ok()) << labels.status().ToString();
        if (wanted.Admits(*labels)) EXPECT_TRUE(visible.Admits(*labels)) << asked.front() << labels->ToString();
      }
    }
  }
  fmt::print("{} of 5000 lay within\n", within);
  EXPECT_GT(within, 500);
}

}  // namespace
}  // namespace millstream::engine

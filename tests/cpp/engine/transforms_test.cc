// What becomes of events that rules make samples of, also when the process dies in between.
//
// The store of samples is a map that outlives every crash, as acknowledged samples do. It refuses what a store of
// metrics refuses: another value at a time that is taken.
#include "transforms.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "events_fixture.h"
#include "millstream/env/random.h"

namespace millstream::engine {
namespace {

using events::kTenant;
using events::MetricRule;
using events::MetricRules;
using events::MetricType;
using events::SimMachine;

MetricRule Rule(std::string metric, std::string value = "", MetricType type = MetricType::kCounter) {
  return {.metric = std::move(metric),
          .type = type,
          .value = std::move(value),
          .labels = {{"region", "payload.region"}},
          .filter = ""};
}

events::TopicOptions Options(std::vector<MetricRule> rules) {
  events::TopicOptions options;
  options.metrics = MetricRules(std::move(rules));
  return options;
}

// "m{eu}" of the labels of a rule above.
std::string NameOf(std::string_view labels) {
  std::vector<std::string> texts;
  for (; !labels.empty();) {
    const auto size = static_cast<unsigned char>(labels[0]);
    texts.emplace_back(labels.substr(4, size));
    labels.remove_prefix(4 + size);
  }
  return texts.size() > 3 ? texts[1] + "{" + texts[3] + "}" : texts[1];
}

struct Samples {
  std::map<std::string, std::map<TimestampMs, double>> series;
  uint64_t conflicts = 0;
  uint64_t fail_every = 0;  // of the writes, one after it took the samples and the next before
  uint64_t writes = 0;
  uint64_t series_max = 0;  // as it was asked for last

  TransformStore Store() {
    return {.write = [this](TenantId, uint64_t limit,
                            std::span<const TransformSample> samples) { return Write(limit, samples); },
            .newest = [this](TenantId, std::string_view labels) -> std::optional<TimestampMs> {
              const auto found = series.find(NameOf(labels));
              if (found == series.end()) return std::nullopt;
              return found->second.rbegin()->first;
            }};
  }

  Result<uint64_t> Write(uint64_t limit, std::span<const TransformSample> samples) {
    series_max = limit;
    ++writes;
    if (fail_every > 0 && writes % (2 * fail_every) == 0) return ResourceExhausted("not now");
    uint64_t refused = 0;
    for (const TransformSample& sample : samples) {
      const auto [at, is_new] = series[NameOf(sample.labels)].try_emplace(sample.timestamp, sample.value);
      refused += !is_new && at->second != sample.value ? 1 : 0;
    }
    conflicts += refused;
    if (fail_every > 0 && writes % fail_every == 0) return Internal("the answer is lost");
    return refused;
  }

  double Last(const std::string& name) const {
    const auto found = series.find(name);
    return found == series.end() ? NAN : found->second.rbegin()->second;
  }
};

class TransformsTest : public testing::Test {
 protected:
  void Open(storage::Durability durability = storage::Durability::kFsync) {
    Close();
    broker_ = machine_.MustOpen(durability);
    auto opened = Transforms::Open(machine_.env(), "/data/transforms", *broker_, samples_.Store());
    ASSERT_TRUE(opened.ok()) << opened.status().ToString();
    transforms_ = std::move(*opened);
  }
  void Close() {
    transforms_.reset();
    broker_.reset();
  }
  void Create(const std::string& topic, const events::TopicOptions& options) {
    const auto made = broker_->CreateTopic(kTenant, topic, options);
    ASSERT_TRUE(made.ok()) << made.status().ToString();
  }
  void Publish(const std::string& topic, const std::string& payload, TimestampMs timestamp = 0,
               std::optional<uint32_t> partition = {}) {
    events::PublishEvent event = events::Text(topic, payload, partition);
    event.event.is_json = payload.starts_with("{");
    event.has_timestamp = timestamp != 0;
    event.event.timestamp = timestamp;
    const auto published = events::PublishOne(*broker_, event);
    ASSERT_TRUE(published.ok()) << published.status().ToString();
  }
  void Order(const std::string& region, double amount) {
    Publish("orders", fmt::format(R"({{"region":"{}","amount":{}}})", region, amount));
  }
  bool Turn() {
    machine_.clock.Advance(std::chrono::milliseconds(kTransformTurnMs));
    return transforms_->Run();
  }
  double Stat(const std::string& name) const { return transforms_->Stats().at("millstream_transform_" + name); }

  SimMachine machine_{1};
  Samples samples_;
  std::shared_ptr<events::Broker> broker_;
  std::unique_ptr<Transforms> transforms_;
};

TEST_F(TransformsTest, CountersAddUpByLabelsAndBeginAtZero) {
  Open();
  Create("orders", Options({Rule("orders_total"), Rule("amount_total", "payload.amount")}));
  Order("eu", 2);
  Order("us", 3);
  Order("eu", 0.5);
  EXPECT_TRUE(Turn());
  EXPECT_EQ(samples_.Last("orders_total{eu}"), 2);
  EXPECT_EQ(samples_.Last("orders_total{us}"), 1);
  EXPECT_EQ(samples_.Last("amount_total{eu}"), 2.5);
  const auto& series = samples_.series["amount_total{eu}"];
  ASSERT_EQ(series.size(), 2u);
  EXPECT_EQ(series.begin()->second, 0);
  EXPECT_EQ(series.rbegin()->first - series.begin()->first, kIdleMs);
  Order("eu", 1);
  EXPECT_TRUE(Turn());
  EXPECT_EQ(samples_.Last("amount_total{eu}"), 3.5);
  EXPECT_EQ(Stat("events_total"), 4);
  EXPECT_EQ(Stat("lag_events"), 0);
}

TEST_F(TransformsTest, AGaugeStandsAtTheTimeOfItsEvent) {
  Open();
  Create("rooms", Options({Rule("celsius", "payload.c", MetricType::kGauge)}));
  Publish("rooms", R"({"c":20,"region":"a"})", 1'600'000'000'000);
  Publish("rooms", R"({"c":21,"region":"a"})", 1'600'000'000'500);
  Publish("rooms", R"({"c":22,"region":"a"})", 1'600'000'000'500);
  EXPECT_TRUE(Turn());
  const std::map<TimestampMs, double> expected{{1'600'000'000'000, 20}, {1'600'000'000'500, 22}};
  EXPECT_EQ(samples_.series["celsius{a}"], expected);
  EXPECT_EQ(samples_.conflicts, 0u);
}

TEST_F(TransformsTest, WhatGivesNoSampleIsCountedByReason) {
  Open();
  Create("orders", Options({Rule("m", "payload.amount")}));
  for (const char* payload :
       {"text", R"({"a":1})", R"({"amount":"1"})", R"({"amount":-1})", R"({"amount":1e308})", R"({"amount":1e308})"}) {
    Publish("orders", payload);
  }
  EXPECT_TRUE(Turn());
  EXPECT_EQ(Stat("skipped_bytes_total"), 1);
  EXPECT_EQ(Stat("skipped_missing_total"), 1);
  EXPECT_EQ(Stat("skipped_type_total"), 2);  // one would make the total infinite
  EXPECT_EQ(Stat("skipped_negative_total"), 1);
  EXPECT_EQ(samples_.Last("m"), 1e308);
}

TEST_F(TransformsTest, SeriesBeyondTheBoundAreRefusedAndCounted) {
  Open();
  Create("orders", Options({Rule("m")}));
  for (size_t i = 0; i < kRuleSeriesMax + 5; ++i) Order(fmt::format("r{}", i), 1);
  Order("r0", 1);
  transforms_->LimitSeries(kTenant, 7);
  EXPECT_TRUE(Turn());
  EXPECT_EQ(samples_.series.size(), kRuleSeriesMax);
  EXPECT_EQ(Stat("refused_series_total"), 5);
  EXPECT_EQ(samples_.Last("m{r0}"), 2);
  EXPECT_EQ(samples_.series_max, 7u);
  Open();
  Order("r0", 1);
  EXPECT_TRUE(Turn());
  EXPECT_EQ(samples_.series_max, 7u);  // known from the state
}

TEST_F(TransformsTest, ARestartGoesOnWhereItWas) {
  Open();
  Create("orders", Options({Rule("m", "payload.amount")}));
  Order("eu", 2);
  EXPECT_TRUE(Turn());
  Order("eu", 3);  // nobody has looked at it yet
  Open();
  EXPECT_TRUE(Turn());
  EXPECT_EQ(samples_.Last("m{eu}"), 5);
  machine_.clock.SetWall(machine_.clock.WallNow() - 60'000);
  Open();
  Order("eu", 1);
  EXPECT_TRUE(Turn());
  // Behind the others, although the clock was set back.
  EXPECT_EQ(samples_.Last("m{eu}"), 6);
  EXPECT_EQ(samples_.conflicts, 0u);
}

TEST_F(TransformsTest, ARuleBeginsWithTheEventsThatComeAfterItAndOthersGoOn) {
  Open();
  Create("orders", Options({Rule("first")}));
  Order("eu", 1);
  EXPECT_TRUE(Turn());
  Order("eu", 1);
  ASSERT_TRUE(broker_->AlterTopic(kTenant, "orders", {.metrics = MetricRules({Rule("first"), Rule("second")})}).ok());
  Order("eu", 1);
  EXPECT_TRUE(Turn());
  EXPECT_EQ(samples_.Last("first{eu}"), 3);
  EXPECT_EQ(samples_.Last("second{eu}"), 1);
  Open();
  Order("eu", 1);
  EXPECT_TRUE(Turn());
  EXPECT_EQ(samples_.Last("first{eu}"), 4);
  EXPECT_EQ(samples_.Last("second{eu}"), 2);
  ASSERT_TRUE(broker_->AlterTopic(kTenant, "orders", {.metrics = MetricRules({Rule("second")})}).ok());
  Order("eu", 1);
  EXPECT_TRUE(Turn());
  EXPECT_EQ(samples_.Last("first{eu}"), 4);
  EXPECT_EQ(samples_.Last("second{eu}"), 3);
}

TEST_F(TransformsTest, ATopicThatIsMadeAnewCountsAnewBehindTheOldSamples) {
  Open();
  Create("orders", Options({Rule("m")}));
  for (int i = 0; i < 3; ++i) Order("eu", 1);
  EXPECT_TRUE(Turn());
  ASSERT_TRUE(broker_->DeleteTopic(kTenant, "orders").ok());
  Create("orders", Options({Rule("m")}));
  Order("eu", 1);
  EXPECT_TRUE(Turn());
  EXPECT_EQ(samples_.Last("m{eu}"), 1);
  std::vector<double> values;
  for (const auto& [at, value] : samples_.series["m{eu}"]) values.push_back(value);
  EXPECT_EQ(values, (std::vector<double>{0, 3, 0, 1}));
  ASSERT_TRUE(broker_->DeleteTopic(kTenant, "orders").ok());
  EXPECT_TRUE(Turn());
  EXPECT_EQ(machine_.files.List("/data/transforms")->size(), 0u);
}

TEST_F(TransformsTest, AnEphemeralTopicKeepsItsTotalsOverARestart) {
  Open();
  events::TopicOptions options = Options({Rule("m")});
  options.durability = events::TopicDurability::kEphemeral;
  Create("orders", options);
  for (int i = 0; i < 3; ++i) Order("eu", 1);
  EXPECT_TRUE(Turn());
  Open();
  Order("eu", 1);
  EXPECT_TRUE(Turn());
  EXPECT_EQ(samples_.Last("m{eu}"), 4);
}

TEST_F(TransformsTest, IdleCountersAreWrittenAgainAndGaugesAreNot) {
  Open();
  Create("orders", Options({Rule("m"), Rule("g", "payload.amount", MetricType::kGauge)}));
  Order("eu", 1);
  EXPECT_TRUE(Turn());
  const size_t before = samples_.series["m{eu}"].size();
  for (int i = 0; i < 4; ++i) {
    machine_.clock.Advance(std::chrono::milliseconds(kIdleMs));
    EXPECT_TRUE(Turn());
  }
  EXPECT_EQ(samples_.series["m{eu}"].size(), before + 4);
  EXPECT_EQ(samples_.Last("m{eu}"), 1);
  EXPECT_EQ(samples_.series["g{eu}"].size(), 1u);
}

TEST_F(TransformsTest, WhatCannotBeWrittenIsTriedAgainAndCountedOnce) {
  Open();
  Create("orders", Options({Rule("m", "payload.amount"), Rule("g", "payload.amount", MetricType::kGauge)}));
  samples_.fail_every = 2;
  int failed = 0;
  for (int i = 1; i <= 40; ++i) {
    Order("eu", i);
    failed += Turn() ? 0 : 1;
  }
  EXPECT_GT(failed, 5);
  EXPECT_EQ(Stat("failures_total"), failed);
  samples_.fail_every = 0;
  EXPECT_TRUE(Turn());
  EXPECT_EQ(samples_.Last("m{eu}"), 820);
  EXPECT_EQ(samples_.conflicts, 0u);
  EXPECT_EQ(Stat("lag_events"), 0);
}

TEST_F(TransformsTest, AStateThatIsDamagedIsNamed) {
  Open();
  Create("orders", Options({Rule("m")}));
  Order("eu", 1);
  EXPECT_TRUE(Turn());
  const std::string file = fmt::format("/data/transforms/{}", broker_->TopicsWithRules().topics[0].number);
  Close();
  ASSERT_TRUE(machine_.files.Overwrite(file, "damaged").ok());
  broker_ = machine_.MustOpen();
  const auto opened = Transforms::Open(machine_.env(), "/data/transforms", *broker_, samples_.Store());
  EXPECT_EQ(opened.status().code(), StatusCode::kDataLoss);
  EXPECT_NE(opened.status().message().find(file), std::string_view::npos);
}

TEST_F(TransformsTest, ATopicWhoseLogCannotBeReadIsTriedAgain) {
  Open();
  Create("orders", Options({Rule("m")}));
  Order("eu", 1);
  EXPECT_TRUE(Turn());
  Order("eu", 1);
  Close();
  broker_ = machine_.MustOpen();
  machine_.files.FailNext(env::SimFileSystem::Operation::kList, Internal("the device fails"));
  auto opened = Transforms::Open(machine_.env(), "/data/transforms", *broker_, samples_.Store());
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  transforms_ = std::move(*opened);
  EXPECT_EQ(samples_.Last("m{eu}"), 1);
  EXPECT_TRUE(Turn());
  EXPECT_EQ(samples_.Last("m{eu}"), 2);
}

TEST(TransformState, WhatIsWrittenIsReadAndAnyPartOfItIsRefused) {
  TransformState state{.offsets = {3, 0, uint64_t{1} << 40}, .stamp = 1'700'000'000'000, .series_max = 9, .rules = {}};
  state.rules.push_back({.rule = "a", .series = {}});
  state.rules.push_back({.rule = events::EncodeMetricRule(Rule("m")), .series = {}});
  state.rules[1].series["x"] = {.total = 1.5, .stamp = 7, .zero = 3};
  state.rules[1].series["y"] = {.total = 0, .stamp = -7, .zero = 0};
  const std::string bytes = EncodeTransformState(state);
  EXPECT_EQ(DecodeTransformState(bytes).value(), state);
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_EQ(DecodeTransformState(bytes.substr(0, size)).status().code(), StatusCode::kDataLoss) << size;
  }
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string changed = bytes;
    changed[i] ^= 4;
    EXPECT_FALSE(DecodeTransformState(changed).ok()) << i;
  }
}

// --- crashes ---

// Events, restarts and changes of rules until the machine dies. `answered` is the sum of what was published and
// answered, `tried` of the rest.
void RunUntilCrash(SimMachine& machine, Samples& samples, uint64_t seed, double* answered, double* tried) {
  env::SeededRandom random(seed);
  std::shared_ptr<events::Broker> broker;
  std::unique_ptr<Transforms> transforms;
  for (int step = 0; step < 24 && !machine.files.crashed(); ++step) {
    if (broker == nullptr) {
      auto opened = machine.Open(storage::Durability::kFsync);
      if (!opened.ok()) return;
      broker = *opened;
      auto made = Transforms::Open(machine.env(), "/data/transforms", *broker, samples.Store());
      if (!made.ok()) return;
      transforms = std::move(*made);
      (void)broker->CreateTopic(kTenant, "orders", Options({Rule("m", "payload.amount")})).ok();
    }
    machine.clock.Advance(std::chrono::milliseconds(random.Below(3000)));
    switch (random.Below(8)) {
      case 0:
        transforms = nullptr;
        broker = nullptr;
        break;
      case 1:
      case 2:
      case 3:
        (void)transforms->Run();
        break;
      default: {
        const double amount = static_cast<double>(1 + random.Below(100));
        const std::string payload = fmt::format(R"({{"amount":{}}})", amount);
        events::PublishEvent event = events::Text("orders", payload);
        event.event.is_json = true;
        *tried += amount;
        if (events::PublishOne(*broker, event).ok()) *answered += amount;
      }
    }
  }
}

TEST(TransformsCrash, EveryEventIsCountedOnceWhereverTheMachineDies) {
  uint64_t crashes = 0;
  uint64_t checked = 0;
  for (const bool power_cut : {false, true}) {
    for (const uint64_t seed : {1, 3}) {
      uint64_t operations = 0;
      {
        SimMachine machine(seed);
        Samples samples;
        double answered = 0;
        double tried = 0;
        RunUntilCrash(machine, samples, seed, &answered, &tried);
        operations = machine.files.operations();
      }
      for (uint64_t at = 1; at < operations; ++at) {
        SCOPED_TRACE(fmt::format("seed {}, crash at operation {} of {}", seed, at, operations));
        SimMachine machine(seed);
        machine.files.CrashAt(at);
        Samples samples;
        samples.fail_every = seed == 3 ? 3 : 0;
        double answered = 0;
        double tried = 0;
        RunUntilCrash(machine, samples, seed, &answered, &tried);
        if (power_cut) {
          machine.files.PowerCut();
        } else {
          machine.files.ProcessDeath();
        }
        samples.fail_every = 0;
        const auto broker = machine.MustOpen();
        ASSERT_NE(broker, nullptr);
        const auto transforms = Transforms::Open(machine.env(), "/data/transforms", *broker, samples.Store());
        ASSERT_TRUE(transforms.ok()) << transforms.status().ToString();
        ASSERT_TRUE((*transforms)->Run());
        ++crashes;
        double there = 0;
        if (broker->DescribeTopic(kTenant, "orders").ok()) {
          const auto fetched = broker->Fetch(kTenant, "orders", 0, {.limit = 1000});
          ASSERT_TRUE(fetched.ok());
          for (const events::EventPtr& event : fetched->events) {
            there += std::stod(std::string(event->view().payload.substr(10)));
          }
        }
        ASSERT_GE(there, answered);
        ASSERT_LE(there, tried);
        ASSERT_EQ(samples.conflicts, 0u);
        if (there == 0) continue;
        const auto& series = samples.series["m"];
        double before = 0;
        for (const auto& [time, value] : series) {
          ASSERT_GE(value, before) << "at " << time;
          before = value;
          ++checked;
        }
        ASSERT_EQ(before, there);
      }
    }
  }
  fmt::print("{} crashes, {} samples checked\n", crashes, checked);
  EXPECT_GT(checked, crashes);
}

}  // namespace
}  // namespace millstream::engine

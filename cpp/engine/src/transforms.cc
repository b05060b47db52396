#include "transforms.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "millstream/env/file_util.h"
#include "millstream/events/subscription.h"

namespace millstream::engine {
namespace {

// How far in the future a stored sample may stand for counters to go on behind it: a clock that was set back. What is
// further is not ours.
constexpr int64_t kFutureMs = 3'600'000;

struct OwnedSample {
  std::string labels;
  TimestampMs timestamp = 0;
  double value = 0;
};

std::vector<TransformSample> Views(const std::vector<OwnedSample>& samples) {
  std::vector<TransformSample> out;
  out.reserve(samples.size());
  for (const OwnedSample& sample : samples) out.push_back({sample.labels, sample.timestamp, sample.value});
  return out;
}

uint64_t At(const std::vector<uint64_t>& offsets, size_t partition) {
  return partition < offsets.size() ? offsets[partition] : 0;
}

bool IsNumber(std::string_view name) {
  return !name.empty() && name.size() <= 10 && std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

// A topic with rules.
struct Transforms::Feed {
  events::TopicInfo topic;
  std::unique_ptr<const events::CompiledRules> rules;
  std::vector<std::vector<uint64_t>> since;  // of each rule, with what this process knows better
  std::unique_ptr<events::Subscription> subscription;
  TransformState state;
  bool changed = false;         // the state is not what was saved
  TimestampMs saved_ms = 0;     // when it was
  TimestampMs repeated_ms = 0;  // when idle counters were written last
  TimestampMs batch_stamp = 0;  // of counters in the batch
  bool more = false;            // the last batch was full
  bool failed = false;          // in this turn
  std::vector<bool> wanted;     // scratch of one event, as the next
  std::vector<events::CompiledRules::Outcome> outcomes;

  // What is left of a batch.
  std::map<std::pair<std::string, TimestampMs>, double> gauges;
  bool save_due = false;
  std::vector<OwnedSample> counters;
  std::vector<std::pair<size_t, const std::string*>> touched;  // rule, and the labels in its series

  bool IsCounter(size_t rule) const { return topic.options.metrics.list()[rule].type == events::MetricType::kCounter; }
  // Samples of a counter's series as the state has them.
  void AddCounter(const std::string& labels, const RuleSeries& series) {
    if (series.zero != 0) counters.push_back({labels, series.zero, 0});
    counters.push_back({labels, series.stamp, series.total});
  }
};

// --- life ---

Transforms::Transforms(const env::Env& env, std::string folder, events::Broker& broker, TransformStore store)
    : env_(env), folder_(std::move(folder)), broker_(broker), store_(std::move(store)) {}

Result<std::unique_ptr<Transforms>> Transforms::Open(const env::Env& env, const std::string& folder,
                                                     events::Broker& broker, TransformStore store) {
  std::unique_ptr<Transforms> transforms(new Transforms(env, folder, broker, std::move(store)));
  for (const events::TopicInfo& topic : broker.TopicsWithRules().topics) {
    MS_RETURN_IF_ERROR(transforms->LoadState(topic.number).status());
    transforms->unopened_.insert(topic.number);
  }
  // A topic whose log cannot be read keeps nobody from the others: it is tried again.
  (void)transforms->Adopt().ok();
  if (folder.empty()) return transforms;
  MS_ASSIGN_OR_RETURN(const bool exists, env.files->Exists(folder));
  if (!exists) return transforms;
  // States of topics that are gone or have no rules any more, and what a crash left half written.
  MS_ASSIGN_OR_RETURN(const std::vector<env::FolderEntry> entries, env.files->List(folder));
  for (const env::FolderEntry& entry : entries) {
    const bool known = IsNumber(entry.name) && std::stoull(entry.name) <= UINT32_MAX &&
                       (transforms->feeds_.contains(static_cast<uint32_t>(std::stoull(entry.name))) ||
                        transforms->unopened_.contains(static_cast<uint32_t>(std::stoull(entry.name))));
    if (!known) MS_RETURN_IF_ERROR(env::RemoveTree(*env.files, fmt::format("{}/{}", folder, entry.name)));
  }
  return transforms;
}

Transforms::~Transforms() {
  Stop();
}

Status Transforms::Start() {
  MS_ASSIGN_OR_RETURN(timer_, env::IntervalTimer::Start(
                                  "ms-transforms", std::chrono::milliseconds(kTransformTurnMs), [this] { (void)Run(); },
                                  *env_.executor));
  return Status::Ok();
}

void Transforms::Stop() {
  if (stopping_.exchange(true)) return;
  timer_.reset();
  for (const auto& [number, feed] : feeds_) {
    feed->subscription.reset();
    const bool finished = feed->gauges.empty() && !feed->save_due && feed->counters.empty();
    // Spares the next process reading it again.
    if (finished && feed->changed) (void)Save(*feed).ok();
  }
}

std::string Transforms::PathOf(uint32_t topic) const {
  return fmt::format("{}/{}", folder_, topic);
}

// --- topics ---

Result<std::optional<TransformState>> Transforms::LoadState(uint32_t topic) const {
  if (folder_.empty()) return std::optional<TransformState>();
  MS_ASSIGN_OR_RETURN(const bool exists, env_.files->Exists(PathOf(topic)));
  if (!exists) return std::optional<TransformState>();
  MS_ASSIGN_OR_RETURN(const std::string bytes, env::ReadFile(*env_.files, PathOf(topic), kTransformStateBytesMax));
  auto state = DecodeTransformState(bytes);
  if (!state.ok()) return std::move(state).status().WithContext(PathOf(topic));
  return std::optional<TransformState>(std::move(*state));
}

Status Transforms::Adopt() {
  events::Broker::RuledTopics ruled = broker_.TopicsWithRules();
  // Others are fed from metrics only.
  std::erase_if(ruled.topics, [](const events::TopicInfo& topic) { return topic.options.metrics.empty(); });
  adopted_ = false;
  std::erase_if(feeds_, [&](const auto& entry) {
    const bool stays =
        std::ranges::any_of(ruled.topics, [&](const events::TopicInfo& topic) { return topic.number == entry.first; });
    // What of the state a failure leaves goes when the database is opened next.
    if (!stays) (void)RemoveState(entry.first).ok();
    return !stays;
  });
  Status first_error;
  for (const events::TopicInfo& topic : ruled.topics) {
    const auto found = feeds_.find(topic.number);
    Status status = found == feeds_.end() ? Join(topic) : SetRules(topic, found->second.get());
    if (status.ok()) unopened_.erase(topic.number);
    // It may be gone again.
    if (first_error.ok() && status.code() != StatusCode::kNotFound) first_error = std::move(status);
  }
  rules_version_ = ruled.version;
  adopted_ = first_error.ok();
  return first_error;
}

Status Transforms::Join(const events::TopicInfo& topic) {
  const bool opening = unopened_.contains(topic.number);
  auto feed = std::make_unique<Feed>();
  feed->topic = topic;
  const std::vector<events::MetricRule>& rules = topic.options.metrics.list();
  for (const events::MetricRule& rule : rules) feed->since.push_back(rule.since);
  feed->state.offsets.resize(topic.options.partitions);
  for (size_t i = 0; i < feed->state.offsets.size(); ++i) {
    uint64_t first = UINT64_MAX;
    for (const events::MetricRule& rule : rules) first = std::min(first, At(rule.since, i));
    feed->state.offsets[i] = first;
  }
  if (opening) {
    MS_ASSIGN_OR_RETURN(std::optional<TransformState> state, LoadState(topic.number));
    if (state.has_value()) {
      feed->state = std::move(*state);
      feed->state.offsets.resize(topic.options.partitions);
    }
    // Offsets that an earlier process noted may lie behind the end of what an ephemeral topic, or the loss of power,
    // left. What is published now stands there.
    MS_ASSIGN_OR_RETURN(const events::TopicDescription now, broker_.DescribeTopic(topic.tenant, topic.name));
    for (const events::PartitionState& partition : now.partitions) {
      const auto clamp = [&](std::vector<uint64_t>* offsets) {
        if (partition.partition >= offsets->size()) return;
        uint64_t& offset = (*offsets)[partition.partition];
        offset = std::min(offset, partition.end_offset);
      };
      clamp(&feed->state.offsets);
      for (std::vector<uint64_t>& since : feed->since) clamp(&since);
    }
  }
  MS_RETURN_IF_ERROR(SetRules(topic, feed.get()));
  events::SubscribeOptions options{.topics = {topic.name}};
  std::map<uint32_t, uint64_t>& from =
      options.from.emplace<events::TopicOffsets>().try_emplace(topic.name).first->second;
  for (uint32_t i = 0; i < feed->state.offsets.size(); ++i) from[i] = feed->state.offsets[i];
  MS_ASSIGN_OR_RETURN(feed->subscription, broker_.Subscribe(topic.tenant, options, nullptr));

  // The samples that belong to the state, which may not have been written: those of its newest batch.
  TimestampMs newest = INT64_MIN;
  const TimestampMs latest = env_.clock->WallNow() + kFutureMs;
  for (size_t i = 0; i < rules.size(); ++i) {
    if (!feed->IsCounter(i)) continue;
    for (const auto& [labels, series] : feed->state.rules[i].series) {
      newest = std::max(newest, series.stamp);
      const std::optional<TimestampMs> stored = store_.newest(topic.tenant, labels);
      if (stored.has_value() && *stored <= latest) feed->state.stamp = std::max(feed->state.stamp, *stored);
    }
  }
  for (size_t i = 0; i < rules.size(); ++i) {
    if (!feed->IsCounter(i)) continue;
    for (const auto& [labels, series] : feed->state.rules[i].series) {
      if (series.stamp == newest) feed->AddCounter(labels, series);
    }
  }
  feeds_.emplace(topic.number, std::move(feed));
  return Status::Ok();
}

Status Transforms::SetRules(const events::TopicInfo& topic, Feed* feed) {
  if (feed->rules != nullptr && feed->topic.options.metrics == topic.options.metrics) {
    feed->topic = topic;
    return Status::Ok();
  }
  MS_ASSIGN_OR_RETURN(auto compiled, events::CompiledRules::Compile(topic.options.metrics));
  std::vector<RuleState> states;
  std::vector<std::vector<uint64_t>> since;
  for (const events::MetricRule& rule : topic.options.metrics.list()) {
    RuleState& state = states.emplace_back(RuleState{.rule = events::EncodeMetricRule(rule)});
    since.push_back(rule.since);
    for (size_t i = 0; i < feed->state.rules.size(); ++i) {
      if (feed->state.rules[i].rule == state.rule) state.series = std::move(feed->state.rules[i].series);
    }
    const std::vector<events::MetricRule>& before = feed->topic.options.metrics.list();
    for (size_t i = 0; i < before.size() && i < feed->since.size(); ++i) {
      if (before[i] == rule) since.back() = feed->since[i];
    }
  }
  feed->state.rules = std::move(states);
  feed->since = std::move(since);
  feed->rules = std::move(compiled);
  feed->topic = topic;
  feed->changed = true;
  return Status::Ok();
}

Status Transforms::RemoveState(uint32_t topic) {
  return folder_.empty() ? Status::Ok() : env::RemoveTree(*env_.files, PathOf(topic));
}

// --- running ---

bool Transforms::Run() {
  bool good = true;
  if (!adopted_ || broker_.RulesVersion() != rules_version_) {
    if (!Adopt().ok()) {
      counts_.failures.fetch_add(1);
      good = false;
    }
  }
  for (const auto& [number, feed] : feeds_) feed->failed = false;
  bool more = true;
  while (more && !stopping_.load()) {
    more = false;
    uint64_t lag = 0;
    for (const auto& [number, feed] : feeds_) {
      if (stopping_.load()) return good;
      if (!feed->failed) {
        const Result<bool> advanced = Advance(*feed);
        feed->failed = !advanced.ok();
        feed->more = advanced.ok() && *advanced;
      }
      if (feed->failed || feed->more) lag += LagOf(*feed);
      more = more || feed->more;
    }
    counts_.lag.store(lag);
  }
  for (const auto& [number, feed] : feeds_) {
    if (!feed->failed) {
      RepeatIdle(*feed);
      continue;
    }
    good = false;
    counts_.failures.fetch_add(1);
  }
  return good;
}

Result<bool> Transforms::Advance(Feed& feed) {
  MS_RETURN_IF_ERROR(Finish(feed));
  MS_ASSIGN_OR_RETURN(const events::Polled polled,
                      feed.subscription->Poll(kTransformBatchEvents, kTransformBatchBytes, 0));
  counts_.lost.fetch_add(polled.dropped);
  uint64_t bytes = 0;
  for (const events::SubscribedEvent& event : polled.events) bytes += event.event->bytes();
  if (!polled.events.empty()) Apply(feed, polled);
  if (feed.changed && env_.clock->WallNow() - feed.saved_ms >= kSaveMs) feed.save_due = true;
  MS_RETURN_IF_ERROR(Finish(feed));
  return polled.events.size() >= kTransformBatchEvents || bytes >= kTransformBatchBytes;
}

void Transforms::Apply(Feed& feed, const events::Polled& polled) {
  feed.batch_stamp = std::max(env_.clock->WallNow(), feed.state.stamp + 1);
  for (const events::SubscribedEvent& event : polled.events) ApplyEvent(feed, event);
  feed.changed = true;
  if (feed.touched.empty()) return;
  feed.state.stamp = feed.batch_stamp;
  feed.save_due = true;
  for (const auto& [rule, labels] : feed.touched) {
    feed.AddCounter(*labels, feed.state.rules[rule].series.find(*labels)->second);
  }
  feed.touched.clear();
}

void Transforms::ApplyEvent(Feed& feed, const events::SubscribedEvent& event) {
  // A topic of the same name that was made after this one.
  if (event.event->topic() != feed.topic.number) return;
  const uint32_t partition = event.event->partition();
  const uint64_t offset = event.event->offset();
  if (partition >= feed.state.offsets.size()) feed.state.offsets.resize(partition + 1);
  feed.state.offsets[partition] = offset + 1;
  feed.wanted.assign(feed.since.size(), false);
  for (size_t i = 0; i < feed.since.size(); ++i) feed.wanted[i] = offset >= At(feed.since[i], partition);
  feed.rules->Evaluate(feed.topic.name, *event.event, feed.wanted, &feed.outcomes);
  counts_.events.fetch_add(1, std::memory_order_relaxed);
  for (size_t i = 0; i < feed.outcomes.size(); ++i) {
    const events::CompiledRules::Outcome& outcome = feed.outcomes[i];
    switch (outcome.skip) {
      case events::RuleSkip::kNone:
        break;
      case events::RuleSkip::kFiltered:
        continue;
      case events::RuleSkip::kBytes:
        counts_.skipped_bytes.fetch_add(1);
        continue;
      case events::RuleSkip::kMissing:
        counts_.skipped_missing.fetch_add(1);
        continue;
      case events::RuleSkip::kType:
        counts_.skipped_type.fetch_add(1);
        continue;
      case events::RuleSkip::kNegative:
        counts_.skipped_negative.fetch_add(1);
        continue;
      case events::RuleSkip::kLabel:
        counts_.skipped_label.fetch_add(1);
        continue;
    }
    auto& series = feed.state.rules[i].series;
    if (series.size() >= kRuleSeriesMax && !series.contains(outcome.labels)) {
      counts_.refused_series.fetch_add(1);
    } else if (feed.IsCounter(i)) {
      Count(feed, i, outcome.labels, outcome.value);
    } else {
      series.try_emplace(outcome.labels);
      feed.gauges[{outcome.labels, event.event->view().timestamp}] = outcome.value;
    }
  }
}

void Transforms::Count(Feed& feed, size_t rule, const std::string& labels, double value) {
  auto& all = feed.state.rules[rule].series;
  auto found = all.find(labels);
  if (found == all.end()) {
    found = all.try_emplace(labels).first;
    RuleSeries& series = found->second;
    // Behind what the store has of a counter that had the same labels before.
    const TimestampMs before = store_.newest(feed.topic.tenant, labels).value_or(INT64_MIN / 2);
    series.zero = std::max(before + 1, feed.batch_stamp - kIdleMs);
    if (series.zero >= feed.batch_stamp) series.zero = 0;
  } else if (found->second.stamp != feed.batch_stamp) {
    found->second.zero = 0;
  }
  RuleSeries& series = found->second;
  if (!std::isfinite(series.total + value)) {
    counts_.skipped_type.fetch_add(1);
    return;
  }
  series.total += value;
  if (series.stamp == feed.batch_stamp) return;
  series.stamp = feed.batch_stamp;
  feed.touched.emplace_back(rule, &found->first);
}

// --- writing ---

Status Transforms::Finish(Feed& feed) {
  if (!feed.gauges.empty()) {
    std::vector<TransformSample> samples;
    for (const auto& [place, value] : feed.gauges) samples.push_back({place.first, place.second, value});
    MS_RETURN_IF_ERROR(Write(feed, samples));
    feed.gauges.clear();
  }
  if (feed.save_due) {
    MS_RETURN_IF_ERROR(Save(feed));
    feed.save_due = false;
  }
  if (!feed.counters.empty()) {
    MS_RETURN_IF_ERROR(Write(feed, Views(feed.counters)));
    feed.counters.clear();
  }
  return Status::Ok();
}

void Transforms::RepeatIdle(Feed& feed) {
  const TimestampMs now = env_.clock->WallNow();
  // Also when the clock was set back.
  if (std::abs(now - feed.repeated_ms) < kIdleMs) return;
  feed.repeated_ms = now;
  const TimestampMs stamp = std::max(now, feed.state.stamp + 1);
  std::vector<TransformSample> samples;
  for (size_t i = 0; i < feed.state.rules.size(); ++i) {
    if (!feed.IsCounter(i)) continue;
    for (const auto& [labels, series] : feed.state.rules[i].series) {
      if (series.stamp <= stamp - kIdleMs) samples.push_back({labels, stamp, series.total});
    }
  }
  if (samples.empty()) return;
  feed.state.stamp = stamp;
  // Should it fail, the next time comes.
  (void)Write(feed, samples).ok();
}

Status Transforms::Save(Feed& feed) {
  feed.saved_ms = env_.clock->WallNow();
  (void)SeriesMaxOf(feed);
  if (!folder_.empty()) {
    MS_RETURN_IF_ERROR(env::MakeFolders(*env_.files, folder_));
    MS_RETURN_IF_ERROR(
        env::WriteFileAtomically(*env_.files, PathOf(feed.topic.number), EncodeTransformState(feed.state)));
  }
  feed.changed = false;
  return Status::Ok();
}

Status Transforms::Write(Feed& feed, std::span<const TransformSample> samples) {
  MS_ASSIGN_OR_RETURN(const uint64_t refused, store_.write(feed.topic.tenant, SeriesMaxOf(feed), samples));
  counts_.refused_samples.fetch_add(refused);
  counts_.samples.fetch_add(samples.size() - std::min<uint64_t>(refused, samples.size()));
  return Status::Ok();
}

void Transforms::LimitSeries(TenantId tenant, uint64_t series_max) {
  const MutexLock lock(limits_mutex_);
  limits_[tenant] = series_max;
}

uint64_t Transforms::SeriesMaxOf(Feed& feed) {
  const MutexLock lock(limits_mutex_);
  const auto known = limits_.find(feed.topic.tenant);
  if (known != limits_.end()) feed.state.series_max = known->second;
  return feed.state.series_max;
}

uint64_t Transforms::LagOf(const Feed& feed) {
  const auto now = broker_.DescribeTopic(feed.topic.tenant, feed.topic.name);
  if (!now.ok()) return 0;
  uint64_t lag = 0;
  for (const events::PartitionState& partition : now->partitions) {
    lag += partition.end_offset - std::min(partition.end_offset, At(feed.state.offsets, partition.partition));
  }
  return lag;
}

std::map<std::string, double> Transforms::Stats() const {
  const auto number = [](const std::atomic<uint64_t>& value) { return static_cast<double>(value.load()); };
  return {{"millstream_transform_events_total", number(counts_.events)},
          {"millstream_transform_samples_total", number(counts_.samples)},
          {"millstream_transform_skipped_bytes_total", number(counts_.skipped_bytes)},
          {"millstream_transform_skipped_missing_total", number(counts_.skipped_missing)},
          {"millstream_transform_skipped_type_total", number(counts_.skipped_type)},
          {"millstream_transform_skipped_negative_total", number(counts_.skipped_negative)},
          {"millstream_transform_skipped_label_total", number(counts_.skipped_label)},
          {"millstream_transform_refused_series_total", number(counts_.refused_series)},
          {"millstream_transform_refused_samples_total", number(counts_.refused_samples)},
          {"millstream_transform_lost_events_total", number(counts_.lost)},
          {"millstream_transform_failures_total", number(counts_.failures)},
          {"millstream_transform_lag_events", number(counts_.lag)}};
}

}  // namespace millstream::engine

#include "metric_feed.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <deque>
#include <iterator>
#include <utility>

#include "millstream/engine/read_view.h"
#include "millstream/model/value.h"
#include "millstream/wire/json_writer.h"

namespace millstream::engine {
namespace {

std::string HeadOf(const model::Labels& labels) {
  std::string out = R"({"name":)";
  wire::AppendJsonString(labels.Get(model::kMetricName), &out);
  out += R"(,"labels":{)";
  bool first = true;
  for (const auto label : labels) {
    if (label.name == model::kMetricName) continue;
    if (!first) out += ',';
    first = false;
    wire::AppendJsonString(label.name, &out);
    out += ':';
    wire::AppendJsonString(label.value, &out);
  }
  out += R"(},"value":)";
  return out;
}

void AppendValue(double value, std::string* out) {
  const bool is_number = std::isfinite(value);
  if (!is_number) *out += '"';
  wire::AppendFloat(value, out);
  if (!is_number) *out += '"';
}

std::string PayloadOf(const MetricFeed::Sample& sample) {
  std::string out = sample.series->head;
  AppendValue(sample.value, &out);
  fmt::format_to(std::back_inserter(out), R"(,"timestamp":{}}})", sample.timestamp);
  return out;
}

std::string IdOf(const MetricFeed::Sample& sample) {
  return fmt::format("{}-{:x}-{:016x}", sample.series->key, static_cast<uint64_t>(sample.timestamp),
                     std::bit_cast<uint64_t>(sample.value));
}

// What became of an event.
enum class Fate {
  kThere,  // stored now or before, even if compaction or retention took it since
  kNever,  // nor would it be later
  kNotNow,
};

Fate FateOf(const Status& status) {
  switch (status.code()) {
    case StatusCode::kOk:
    case StatusCode::kOutOfRange:
      return Fate::kThere;
    case StatusCode::kInvalidArgument:
    case StatusCode::kNotFound:
    case StatusCode::kFailedPrecondition:
      return Fate::kNever;
    default:
      return Fate::kNotNow;
  }
}

}  // namespace

struct MetricFeed::Selection {
  struct Topic {
    std::string name;
    storage::SeriesFilter filter;
  };
  uint64_t version = 0;  // of the broker's rules
  TenantId tenant;
  std::vector<Topic> topics;
};

Status MetricFeed::Check(const std::vector<std::string>& selectors) {
  for (size_t i = 0; i < selectors.size(); ++i) {
    Status status = MakeFilter({selectors[i]}, {}).status();
    if (!status.ok()) return status.WithContext(fmt::format("from_metrics[{}]", i));
  }
  return Status::Ok();
}

std::shared_ptr<const MetricFeed::Selection> MetricFeed::Wanted(TenantId tenant) {
  if (fed_tenants_.load() == 0 && broker_.RulesVersion() == seen_version_.load()) return nullptr;
  const MutexLock lock(selection_mutex_);
  if (broker_.RulesVersion() != seen_version_.load()) {
    const events::Broker::RuledTopics ruled = broker_.TopicsWithRules();
    std::map<TenantId, std::shared_ptr<Selection>> made;
    for (const events::TopicInfo& topic : ruled.topics) {
      if (topic.options.from_metrics.empty()) continue;
      auto filter = MakeFilter(topic.options.from_metrics, {});
      // It was checked when it was set; what an older version allowed and this one does not selects nothing.
      if (!filter.ok()) continue;
      std::shared_ptr<Selection>& selection = made[topic.tenant];
      if (selection == nullptr) selection = std::make_shared<Selection>(ruled.version, topic.tenant);
      selection->topics.push_back({topic.name, std::move(*filter)});
    }
    selections_ = Selections(made.begin(), made.end());
    fed_tenants_.store(selections_.size());
    seen_version_.store(ruled.version);
  }
  const auto found = selections_.find(tenant);
  return found == selections_.end() ? nullptr : found->second;
}

Result<std::shared_ptr<const MetricFeed::Series>> MetricFeed::Decide(const Selection& selection, const SeriesKey& key,
                                                                     size_t index, const LabelsOf& labels) {
  Shard& shard = shards_[SeriesKeyHash()(key) % kShards];
  {
    const MutexLock lock(shard.mutex);
    const auto known = shard.decisions.find(key);
    if (known != shard.decisions.end() && known->second.version == selection.version) return known->second.series;
  }
  MS_ASSIGN_OR_RETURN(const model::Labels found, labels(index));
  std::shared_ptr<Series> series;
  for (const Selection::Topic& topic : selection.topics) {
    if (!topic.filter.Admits(found)) continue;
    if (series == nullptr) {
      series = std::make_shared<Series>();
      series->head = HeadOf(found);
      series->key = fmt::format("{:016x}", found.Hash());
    }
    series->topics.push_back(topic.name);
  }
  const MutexLock lock(shard.mutex);
  if (shard.decisions.size() >= kFeedSeriesMax / kShards) shard.decisions.clear();
  shard.decisions.insert_or_assign(key, Decision{selection.version, series});
  return std::shared_ptr<const Series>(std::move(series));
}

Status MetricFeed::Select(const Selection& selection, PartitionId partition, const storage::WriteBatch& batch,
                          const storage::WriteOutcome& outcome, const LabelsOf& labels, std::vector<Sample>* out) {
  std::vector<std::shared_ptr<const Series>> wanted(batch.series.size());
  std::vector<bool> unknown(batch.series.size());
  for (const uint32_t i : outcome.unknown_series) unknown[i] = true;
  bool any = false;
  for (size_t i = 0; i < batch.series.size(); ++i) {
    // Those that the partition no longer knew come again, with their labels.
    if (batch.series[i].ref == SeriesRef(0) || unknown[i]) continue;
    MS_ASSIGN_OR_RETURN(wanted[i], Decide(selection, {selection.tenant, partition, batch.series[i].ref}, i, labels));
    any = any || wanted[i] != nullptr;
  }
  if (!any) return Status::Ok();
  std::vector<uint32_t> rejected = outcome.rejected_items;
  std::ranges::sort(rejected);
  for (size_t i = 0; i < batch.floats.series.size(); ++i) {
    const std::shared_ptr<const Series>& series = wanted[batch.floats.series[i]];
    if (series == nullptr || model::IsStaleNan(batch.floats.values[i])) continue;
    if (std::ranges::binary_search(rejected, batch.floats.item[i])) continue;
    out->push_back({series, batch.floats.timestamps[i], batch.floats.values[i]});
  }
  return Status::Ok();
}

Status MetricFeed::Publish(TenantId tenant, const std::vector<Sample>& samples) {
  std::deque<std::string> texts;  // events borrow from them
  std::vector<events::PublishEvent> events;
  uint64_t bytes = 0;
  Status first_error;
  const auto send = [&] {
    Status status = Send(tenant, events);
    if (first_error.ok()) first_error = std::move(status);
    events.clear();
    texts.clear();
    bytes = 0;
  };
  for (const Sample& sample : samples) {
    const std::string& payload = texts.emplace_back(PayloadOf(sample));
    const std::string& id = texts.emplace_back(IdOf(sample));
    for (const std::string& topic : sample.series->topics) {
      events::PublishEvent& event = events.emplace_back();
      event.topic = topic;
      event.event.payload = payload;
      event.event.client_id = id;
      event.event.is_json = true;
      event.event.key = sample.series->key;
      event.event.timestamp = sample.timestamp;
      event.has_timestamp = true;
    }
    bytes += payload.size() * sample.series->topics.size();
    // The next sample has at most one event for each topic that can be fed.
    if (events.size() + events::kRuledTopicsMax > events::kPublishEventsMax || bytes >= kFeedBytesMax) send();
  }
  if (!events.empty()) send();
  return first_error;
}

Status MetricFeed::Send(TenantId tenant, std::span<const events::PublishEvent> events) {
  Status first_error;
  uint64_t published = 0;
  uint64_t refused = 0;
  const auto answers = broker_.Publish(tenant, events, events::WhenHeld::kRefuse);
  for (size_t i = 0; i < answers.size(); ++i) {
    const Fate fate = FateOf(answers[i].status());
    if (fate == Fate::kThere) ++published;
    if (fate == Fate::kNever) ++refused;
    if (fate != Fate::kNotNow || !first_error.ok()) continue;
    first_error = answers[i].status().WithContext(fmt::format(
        "the samples are stored, but topic \"{}\", which is fed from them, cannot take them now: send them again",
        events[i].topic));
  }
  published_.fetch_add(published);
  refused_.fetch_add(refused);
  if (!first_error.ok()) failures_.fetch_add(1);
  return first_error;
}

std::map<std::string, double> MetricFeed::Stats() const {
  return {{"millstream_feed_events_total", static_cast<double>(published_.load())},
          {"millstream_feed_refused_total", static_cast<double>(refused_.load())},
          {"millstream_feed_failures_total", static_cast<double>(failures_.load())}};
}

}  // namespace millstream::engine

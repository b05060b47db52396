// Broker::Publish: checks and encodes on the caller's thread, hands each partition its events, waits for the answers.
#include <chrono>
#include <map>
#include <utility>

#include "broker_impl.h"
#include "millstream/base/hash.h"
#include "millstream/base/utf8.h"
#include "millstream/events/event_id.h"
#include "millstream/events/event_json.h"

namespace millstream::events {
namespace {

Status CheckEvent(const EventView& event, uint64_t bytes_max) {
  uint64_t bytes = event.payload.size();
  if (event.key.has_value()) {
    if (event.key->size() > kKeyBytesMax) {
      return InvalidArgument("the key has {} bytes; at most {} are taken", event.key->size(), kKeyBytesMax);
    }
    bytes += event.key->size();
  }
  if (event.headers.size() > kHeadersMax) {
    return InvalidArgument("the event has {} headers; at most {} are taken", event.headers.size(), kHeadersMax);
  }
  uint64_t header_bytes = 0;
  for (const auto& [name, value] : event.headers) {
    if (name.empty() || !IsValidUtf8(name)) return InvalidArgument("a header's name must be UTF-8 and not empty");
    header_bytes += name.size() + value.size();
  }
  if (header_bytes > kHeaderBytesMax) {
    return InvalidArgument("the headers have {} bytes; at most {} are taken", header_bytes, kHeaderBytesMax);
  }
  bytes += header_bytes;
  if (bytes > bytes_max) {
    return InvalidArgument("the event has {} bytes; the topic takes at most {} (event_bytes_max)", bytes, bytes_max);
  }
  if (!event.client_id.empty()) MS_RETURN_IF_ERROR(CheckClientId(event.client_id));
  if (event.producer.has_value()) {
    if (event.producer->id.empty() || event.producer->id.size() > kProducerIdBytesMax) {
      return InvalidArgument("a producer's id has 1 to {} bytes, not {}", kProducerIdBytesMax,
                             event.producer->id.size());
    }
  }
  return event.is_json ? CheckJson(event.payload) : Status::Ok();
}

// The topics of one request: each looked up once.
struct KnownTopic {
  TopicPtr topic;
  TopicOptions options;
  uint64_t turn = 0;  // where its events without a key go
  Status status;
};

uint32_t PartitionFor(const PublishEvent& event, const KnownTopic& known) {
  if (event.partition.has_value()) return *event.partition;
  uint64_t hash = known.turn;
  if (event.event.key.has_value()) {
    hash = Hash64(*event.event.key);
  } else if (!event.event.client_id.empty()) {
    hash = Hash64(event.event.client_id);
  }
  return static_cast<uint32_t>(hash % known.options.partitions);
}

}  // namespace

std::vector<Result<Published>> Broker::Publish(TenantId tenant, std::span<const PublishEvent> events) {
  std::vector<Result<Published>> answers;
  if (events.size() > kPublishEventsMax) {
    const Status refused =
        InvalidArgument("{} events in one call; at most {} are taken", events.size(), kPublishEventsMax);
    answers.assign(events.size(), refused);
    return answers;
  }
  answers.assign(events.size(), Published());
  std::map<std::string, KnownTopic, std::less<>> topics;
  std::map<const Partition*, WriterTask> tasks;
  for (size_t i = 0; i < events.size(); ++i) {
    const PublishEvent& event = events[i];
    auto known = topics.find(event.topic);
    if (known == topics.end()) {
      known = topics.emplace(std::string(event.topic), KnownTopic()).first;
      auto found = impl_->FindTopic(tenant, known->first);
      if (found.ok()) {
        known->second.topic = std::move(*found);
        known->second.options = known->second.topic->options();
        known->second.turn = known->second.topic->NextTurn();
      } else {
        known->second.status = std::move(found).status();
      }
    }
    const KnownTopic& topic = known->second;
    Status status = topic.status.ok() ? CheckEvent(event.event, topic.options.event_bytes_max) : topic.status;
    if (status.ok() && Compacts(topic.options.cleanup) && !event.event.key.has_value()) {
      status = InvalidArgument("topic \"{}\" keeps the newest event of each key (cleanup {}): the event needs a key",
                               event.topic, CleanupName(topic.options.cleanup));
    }
    if (status.ok() && event.partition.value_or(0) >= topic.options.partitions) {
      status = InvalidArgument("topic \"{}\" has the partitions 0 to {}, not {}", event.topic,
                               topic.options.partitions - 1, *event.partition);
    }
    if (!status.ok()) {
      answers[i] = std::move(status);
      continue;
    }
    auto stored = StoredEvent::Make(EncodeEvent(event.event, event.has_timestamp));
    if (!stored.ok()) {
      answers[i] = std::move(stored).status();
      continue;
    }
    Partition& partition = impl_->PartitionOf(topic.topic, PartitionFor(event, topic));
    WriterTask& task = tasks[&partition];
    task.topic = topic.topic;
    task.partition = &partition;
    task.bytes += (*stored)->bytes();
    task.events.push_back({std::move(*stored), &answers[i]});
  }
  TaskGroup group;
  const env::Clock& clock = *impl_->env_.clock;
  const auto deadline = clock.MonotonicNow() + std::chrono::milliseconds(impl_->options_.block_wait_ms);
  for (auto& [partition, task] : tasks) {
    task.group = &group;
    Status submitted;
    if (task.partition->in_memory()) {
      // So that threads of a bounded pool are left for others, only so many wait.
      const bool may_wait = impl_->held_publishers_.fetch_add(1) < kHeldPublishersMax;
      submitted = task.partition->Reserve(task.bytes, clock, may_wait ? deadline : std::chrono::nanoseconds(0),
                                          std::chrono::milliseconds(impl_->options_.hold_stall_ms));
      impl_->held_publishers_.fetch_sub(1);
      task.reserved = submitted.ok();
    }
    if (submitted.ok()) submitted = task.partition->writer().Publish(&task);
    if (submitted.ok()) continue;
    if (task.reserved) task.partition->Release(task.bytes);
    for (PendingEvent& pending : task.events) *pending.answer = submitted;
  }
  group.Wait();
  return answers;
}

}  // namespace millstream::events

// Where the event of an id is.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "broker_impl.h"
#include "millstream/base/hash.h"
#include "millstream/events/broker.h"
#include "millstream/events/event_id.h"
#include "millstream/events/limits.h"

namespace millstream::events {
namespace {

EventPlace PlaceOf(const Topic& topic, const Partition& partition, const StoredEvent& event) {
  const auto status = partition.in_memory() ? EventStatus::kAccepted : EventStatus::kDurable;
  return {.event = Published::Of(event, status), .topic = topic.name()};
}

using Found = Result<std::optional<EventPlace>>;

// The engine's own id says where its event is.
Found FindOwn(const Topic& topic, Partition& partition, const EventId& id) {
  MS_ASSIGN_OR_RETURN(const PartitionEnds ends, partition.Ends());
  // The newest offset with these low bits, then those 2^32 before it.
  constexpr uint64_t kRound = uint64_t{1} << 32;
  uint64_t offset = (ends.end & ~(kRound - 1)) | id.offset_low;
  if (offset >= ends.end) offset -= kRound;  // below zero it wraps to beyond the end
  for (; offset >= ends.start && offset < ends.end; offset -= kRound) {
    auto event = partition.ReadOne(offset);
    if (event.ok() && (*event)->view().client_id.empty() && (*event)->view().taken_ms == id.taken_ms) {
      return std::optional(PlaceOf(topic, partition, **event));
    }
    if (!event.ok() && event.status().code() != StatusCode::kNotFound) return std::move(event).status();
  }
  return std::optional<EventPlace>();
}

// A client's id. What cannot be read of one partition, in `*trouble`, keeps nobody from looking into the others.
std::optional<EventPlace> FindNamed(const Topic& topic, Partition& partition, const std::string& id, Status* trouble) {
  auto found = partition.writer().FindId(partition, id);
  if (found.ok()) return PlaceOf(topic, partition, **found);
  if (found.status().code() != StatusCode::kNotFound) *trouble = std::move(found).status();
  return std::nullopt;
}

bool IsAtHand(const Partition& partition) {
  return partition.in_memory() || partition.HoldLog() != nullptr;
}

}  // namespace

Result<EventPlace> Broker::StatusOf(TenantId tenant, const std::string& id) {
  MS_RETURN_IF_ERROR(impl_->CheckOpen());
  const Status unknown = NotFound("there is no event \"{}\"", id.substr(0, kClientIdBytesMax));
  if (!CheckClientId(id).ok()) return unknown;
  if (const std::optional<EventId> parsed = ParseEventId(id); parsed.has_value()) {
    const TopicPtr topic = impl_->meta_->Find(parsed->topic);
    if (topic != nullptr && topic->tenant() == tenant && parsed->partition < topic->options().partitions) {
      MS_ASSIGN_OR_RETURN(auto found, FindOwn(*topic, impl_->PartitionOf(topic, parsed->partition), *parsed));
      if (found.has_value()) return *std::move(found);
    }
  }
  // Those that were used lately are open, and in each of the others, which have to be opened, an event without a key is
  // in the partition of its id's hash.
  const std::vector<TopicPtr> topics = impl_->meta_->List(tenant);
  std::set<const Partition*> searched;
  Status trouble = unknown;
  for (const TopicPtr& topic : topics) {
    for (Partition* partition : topic->UsedPartitions()) {
      if (!IsAtHand(*partition)) continue;
      searched.insert(partition);
      auto found = FindNamed(*topic, *partition, id, &trouble);
      if (found.has_value()) return *std::move(found);
    }
  }
  size_t opened = 0;
  for (const bool by_hash : {true, false}) {
    for (const TopicPtr& topic : topics) {
      const uint32_t partitions = topic->options().partitions;
      const auto hashed = static_cast<uint32_t>(Hash64(id) % partitions);
      const uint32_t begin = by_hash ? hashed : 0;
      const uint32_t end = by_hash ? hashed + 1 : partitions;
      for (uint32_t i = begin; i < end; ++i) {
        Partition& partition = impl_->PartitionOf(topic, i);
        if (!searched.insert(&partition).second) continue;
        if (++opened > kIdSearchPartitionsMax) return trouble;
        auto found = FindNamed(*topic, partition, id, &trouble);
        if (found.has_value()) return *std::move(found);
      }
    }
  }
  return trouble;
}

}  // namespace millstream::events

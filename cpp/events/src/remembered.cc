#include "remembered.h"

#include "millstream/base/hash.h"
#include "millstream/events/limits.h"

namespace millstream::events {

std::optional<uint64_t> Remembered::FindId(std::string_view client_id) const {
  const auto found = ids_.find(Hash64(client_id));
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

Result<std::optional<uint64_t>> Remembered::FindSequence(const ProducerStamp& stamp) const {
  const auto found = producers_.find(std::string(stamp.id));
  if (found == producers_.end()) return std::optional<uint64_t>();
  const std::deque<Taken>& taken = found->second;
  const Taken& last = taken.back();
  if (stamp.epoch < last.epoch) {
    return FailedPrecondition("producer \"{}\" is at epoch {}; {} is over", stamp.id, last.epoch, stamp.epoch);
  }
  if (stamp.epoch > last.epoch || stamp.sequence == last.sequence + 1) return std::optional<uint64_t>();
  if (stamp.sequence > last.sequence) {
    return Aborted("producer \"{}\" sent sequence {} after {}: {} is missing", stamp.id, stamp.sequence, last.sequence,
                   last.sequence + 1);
  }
  const uint64_t back = last.sequence - stamp.sequence;
  if (back < taken.size()) {
    const Taken& first = taken[taken.size() - 1 - back];
    if (first.epoch == stamp.epoch) return std::optional<uint64_t>(first.offset);
  }
  return OutOfRange("producer \"{}\" repeats sequence {}, which is too long ago to say where it is", stamp.id,
                    stamp.sequence);
}

void Remembered::Add(const EventView& event, uint64_t offset) {
  if (!event.client_id.empty()) {
    const uint64_t hash = Hash64(event.client_id);
    ids_[hash] = offset;
    id_order_.push_back({hash, offset});
    if (id_order_.size() > kRememberedEvents) {
      const NamedId oldest = id_order_.front();
      id_order_.pop_front();
      if (const auto found = ids_.find(oldest.hash); found != ids_.end() && found->second == oldest.offset) {
        ids_.erase(found);
      }
    }
  }
  if (event.producer.has_value()) {
    const auto node = producers_.try_emplace(std::string(event.producer->id)).first;
    node->second.push_back({event.producer->epoch, event.producer->sequence, offset});
    event_order_.push_back(&*node);
    if (event_order_.size() > kRememberedEvents) {
      Producers::value_type* oldest = event_order_.front();
      event_order_.pop_front();
      oldest->second.pop_front();
      if (oldest->second.empty()) producers_.erase(oldest->first);
    }
  }
}

void Remembered::Undo(uint64_t offset) {
  while (!id_order_.empty() && id_order_.back().offset >= offset) {
    const NamedId newest = id_order_.back();
    id_order_.pop_back();
    if (const auto found = ids_.find(newest.hash); found != ids_.end() && found->second == newest.offset) {
      ids_.erase(found);
    }
  }
  while (!event_order_.empty() && event_order_.back()->second.back().offset >= offset) {
    Producers::value_type* newest = event_order_.back();
    event_order_.pop_back();
    newest->second.pop_back();
    if (newest->second.empty()) producers_.erase(newest->first);
  }
}

void Remembered::Clear() {
  *this = Remembered();
}

}  // namespace millstream::events

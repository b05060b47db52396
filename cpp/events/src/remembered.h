// Remembered: which events a partition took lately, by the ids of clients and the sequences of producers, so that what
// is published again is not stored again.
//
// Threads     Of the partition's writer alone.
// Invariants  (1) At most kRememberedEvents ids, and as many events of producers: the oldest is forgotten first, and a
//             producer with its last event.
// Cost        O(1) an event.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "millstream/base/result.h"
#include "millstream/events/event.h"

namespace millstream::events {

class Remembered {
 public:
  // Where an event of this id perhaps is: another id may have the same hash.
  std::optional<uint64_t> FindId(std::string_view client_id) const;

  // The offset of the same event, none when it is a new one. kAborted: the sequence leaves a gap, so this one may come
  // again behind those before it. kFailedPrecondition: the producer has a newer epoch. kOutOfRange: a repetition of
  // what is forgotten.
  Result<std::optional<uint64_t>> FindSequence(const ProducerStamp& stamp) const;

  // The event has been taken at this offset, above all others.
  void Add(const EventView& event, uint64_t offset);
  // The events from `offset` on were not taken after all.
  void Undo(uint64_t offset);
  void Clear();

 private:
  struct Taken {
    uint32_t epoch = 0;
    uint64_t sequence = 0;
    uint64_t offset = 0;
  };
  using Producers = std::unordered_map<std::string, std::deque<Taken>>;
  struct NamedId {
    uint64_t hash = 0;
    uint64_t offset = 0;
  };

  std::unordered_map<uint64_t, uint64_t> ids_;  // hash to offset
  std::deque<NamedId> id_order_;
  Producers producers_;                             // each with at least one event
  std::deque<Producers::value_type*> event_order_;  // the producer of each of their events, oldest first
};

}  // namespace millstream::events

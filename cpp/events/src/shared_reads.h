// FrameSharing::Impl: what subscriptions that want the same from the same place on get in one turn: it is read,
// filtered and written once, and they share it.
//
// Lives for one turn, so that nothing in it grows old; every reader looks at its partition's ends itself.
//
// Threads     One.
// Ownership   Keeps the topics that it has read of alive, so that a partition's address means one partition.
// Cost        A look-up for each reader, instead of a copy of its events.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millstream/events/event.h"
#include "millstream/events/subscription.h"
#include "topic_state.h"

namespace millstream::events {

class Partition;

class FrameSharing::Impl {
 public:
  // Events of one partition, one behind the other.
  struct Chunk {
    TopicPtr topic;
    std::shared_ptr<const std::string> name;
    std::vector<EventPtr> events;  // those that the filter wants
    size_t scanned = 0;
    uint64_t bytes = 0;  // of events, as limits count them
    uint64_t next = 0;   // the offset behind what was read
  };
  using ChunkPtr = std::shared_ptr<const Chunk>;

  // Who reads with the same of all of this reads the same.
  struct Key {
    const Partition* partition = nullptr;
    uint64_t offset = 0;
    size_t events_max = 0;
    uint64_t bytes_max = 0;
    std::string filter = {};
    auto operator<=>(const Key&) const = default;
  };

  // Null when nobody has read that yet.
  ChunkPtr Find(const Key& key) const;
  void Set(Key key, ChunkPtr chunk) { chunks_.insert_or_assign(std::move(key), std::move(chunk)); }

  // The events of all chunks as frames, each of which begins with `head`.
  std::shared_ptr<const std::string> Frames(const std::vector<ChunkPtr>& chunks, std::string_view head);

  const std::shared_ptr<const std::string>& nothing() const { return nothing_; }
  uint64_t bytes() const { return bytes_; }

 private:
  const std::shared_ptr<const std::string> nothing_ = std::make_shared<const std::string>();
  std::map<Key, ChunkPtr> chunks_;
  std::map<std::pair<std::vector<ChunkPtr>, std::string>, std::shared_ptr<const std::string>> frames_;
  uint64_t bytes_ = 0;
};

}  // namespace millstream::events

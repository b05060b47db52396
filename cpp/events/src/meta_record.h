// The records of the meta log and the snapshot that covers them: topics, and the offsets that groups committed.
//
// docs/formats/events.md draws both. Decoding checks every length before it allocates.
// Threads     Pure functions.
// Errors      kDataLoss for bytes that are not encoded so.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/events/topic.h"

namespace millstream::events {

struct CommittedOffset {
  uint32_t topic = 0;  // by number
  uint32_t partition = 0;
  uint64_t offset = 0;
  friend bool operator==(const CommittedOffset&, const CommittedOffset&) = default;
};

struct PutTopic {
  TopicInfo topic;  // new, or changed
  friend bool operator==(const PutTopic&, const PutTopic&) = default;
};
struct DeleteTopic {
  uint32_t number = 0;
  friend bool operator==(const DeleteTopic&, const DeleteTopic&) = default;
};
struct PutOffsets {
  TenantId tenant;
  std::string group;
  std::vector<CommittedOffset> offsets;
  friend bool operator==(const PutOffsets&, const PutOffsets&) = default;
};
struct DeleteGroup {
  TenantId tenant;
  std::string group;
  friend bool operator==(const DeleteGroup&, const DeleteGroup&) = default;
};
struct PutGeneration {
  TenantId tenant;
  std::string group;
  uint64_t reserved = 0;  // the group may use the generations up to this one
  friend bool operator==(const PutGeneration&, const PutGeneration&) = default;
};
using MetaChange = std::variant<PutTopic, DeleteTopic, PutOffsets, DeleteGroup, PutGeneration>;

std::string EncodeChange(const MetaChange& change);
Result<MetaChange> DecodeChange(std::string_view bytes);

struct MetaSnapshot {
  uint64_t covers = 0;       // records of the log below are in it
  uint32_t next_number = 1;  // of the next topic
  std::vector<MetaChange> changes;
};

std::string EncodeSnapshot(const MetaSnapshot& snapshot);
Result<MetaSnapshot> DecodeSnapshot(std::string_view bytes);

}  // namespace millstream::events

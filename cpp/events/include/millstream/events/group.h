// Groups of consumers: who is a member, and which partitions each of them has.
//
// A member joins with topics and must be heard of within its session timeout. The group's partitions are shared out
// evenly, and whoever has one keeps it where that is possible. A partition that is to move stays with its owner until
// that one gave it up, its rebalance timeout has passed, or its session is over; everybody else goes on meanwhile. Each
// change of the sharing out has a generation of its own; what a member says of an older one is refused.
//
// Threads     Values.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "millstream/events/limits.h"

namespace millstream::events {

struct GroupPlace {
  std::string topic;
  uint32_t partition = 0;
  friend auto operator<=>(const GroupPlace&, const GroupPlace&) = default;
};

struct GroupJoin {
  std::string member = {};               // of the caller's choice, as an event's id; empty: the engine makes one
  std::vector<std::string> topics = {};  // names and patterns, as of a subscription
  int64_t session_timeout_ms = kSessionTimeoutDefaultMs;
  int64_t rebalance_timeout_ms = kRebalanceTimeoutDefaultMs;
};

// What a member is told.
struct GroupMembership {
  std::string member;
  uint64_t generation = 0;
  std::vector<GroupPlace> owned;     // it may read and commit these
  std::vector<GroupPlace> revoking;  // of these, what it should finish and give up
};

struct GroupMember {
  std::string member;
  std::vector<GroupPlace> owned;
  int64_t silent_ms = 0;  // since it was last heard of
  int64_t session_timeout_ms = 0;
};

struct GroupDescription {
  uint64_t generation = 0;  // 0: it has had no member since the database was opened
  std::vector<GroupMember> members;
};

// On whose behalf offsets are committed.
struct CommitOptions {
  std::string member = {};  // only what it owns; empty: nobody's
  uint64_t generation = 0;  // refused when it is not the current one; 0 is not compared
  bool reset = false;       // may go back; refused while the group has members
};

// An event that its consumer could not handle.
struct Nack {
  std::string topic;
  uint32_t partition = 0;
  uint64_t offset = 0;
};

struct NackOptions {
  int64_t delay_ms = -1;  // until it comes again; negative: the subscription's back-off
  std::string reason = {};
};

}  // namespace millstream::events

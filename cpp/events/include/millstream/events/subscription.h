// Subscription: a reader of many topic partitions, by cursors alone.
//
// It holds an offset for each partition and no events. Catching up and being live are the same: read from the offset
// on, and at the end wait to be told. So there is no gap and no repetition where one goes over into the other, and
// falling behind costs no memory: it is a distance between two offsets.
//
// Threads     All functions from any; one at a time goes on, and Close ends a Poll that waits. The news come from the
//             writers' threads.
// Ownership   Keeps the broker's inside alive; answers kUnavailable once the broker is closed.
// Cost        A poll looks at the partitions that have something, whatever the number of all.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/base/strong_int.h"
#include "millstream/events/event.h"
#include "millstream/events/event_sink.h"
#include "millstream/events/limits.h"
#include "millstream/events/notifier.h"

namespace millstream::events {

// What happens to a subscription that is further behind than lag_max, in one partition.
enum class OnSlow {
  kBlock,  // nothing: the log keeps what it has not read yet, as long as retention does. A partition in memory keeps
           // it, too, and its publishers wait or are refused; a subscription that reads nothing meanwhile, for
           // kHoldStallMs, ends with kResourceExhausted
  kDropOldest,  // it goes on lag_max before the end, and is told how many it missed
  kDisconnect,  // it ends with kResourceExhausted
};

enum class SubscribeFrom { kEarliest, kLatest };

using TopicOffsets = std::map<std::string, std::map<uint32_t, uint64_t>>;

// How a subscription is a member of its group.
struct ConsumerOptions {
  std::string member = {};  // empty: the engine makes one
  // Not polled, or with `pushed` not acknowledging, for so long: its partitions go to others.
  int64_t session_timeout_ms = kSessionTimeoutDefaultMs;
  // How long others wait for it to acknowledge what it has before it gives up a partition.
  int64_t rebalance_timeout_ms = kRebalanceTimeoutDefaultMs;
  // The reader is at the other end of a connection: it is alive while the subscription is there and nothing that it got
  // waits for its acknowledgement. Put out, it fails; otherwise it joins again with the next poll.
  bool pushed = false;
  uint32_t max_attempts = 0;               // an event that came so often and was refused is a dead letter; 0 never
  std::string dead_letter_topic = {};      // empty: the event's own with ".dlq" behind it
  int64_t backoff_ms = kBackoffDefaultMs;  // until an event comes for the second time; doubles with each time
  int64_t backoff_cap_ms = kBackoffCapDefaultMs;
};

struct SubscribeOptions {
  // Names, and patterns with '*': topics that are made later and match join from their first event on.
  std::vector<std::string> topics;
  // An end, a timestamp, or offsets; partitions that the offsets do not name begin at the earliest event.
  std::variant<SubscribeFrom, TimestampMs, TopicOffsets> from = SubscribeFrom::kLatest;
  // It reads the partitions that are its share, each from where the group has committed; where it never has, `from`
  // decides, and that is committed.
  std::string group = {};
  OnSlow on_slow = OnSlow::kBlock;
  uint64_t lag_max = kLagDefault;
  // An expression (src/filter.h has the grammar); empty wants all.
  std::string filter = {};
  ConsumerOptions consumer = {};
};

struct SubscribedEvent {
  std::shared_ptr<const std::string> topic;
  EventPtr event;
  uint32_t attempt = 0;  // how often the group got it with this; 0 without a group
};

struct Polled {
  std::vector<SubscribedEvent> events;
  uint64_t dropped = 0;  // events since the last poll that it will not see: too slow for lag_max or for retention
};

// What readers that are polled together share (Subscription::PollFrames). For one turn only: what it has read grows
// old. Threads: one.
class FrameSharing {
 public:
  FrameSharing();
  ~FrameSharing();
  FrameSharing(const FrameSharing&) = delete;
  FrameSharing& operator=(const FrameSharing&) = delete;

  // Of all frames that were made in this turn, each counted once.
  uint64_t bytes() const;

 private:
  friend class Subscription;
  class Impl;
  std::unique_ptr<Impl> impl_;
};

class Subscription {
 public:
  class Impl;
  explicit Subscription(std::shared_ptr<Impl> impl);
  ~Subscription();
  Subscription(const Subscription&) = delete;
  Subscription& operator=(const Subscription&) = delete;

  // What its notifier calls it; 0 without one. The token is in Notifier::Take when there may be something, again and
  // again until a poll finds nothing more.
  uint64_t token() const;

  // Events that come next, in order within each partition; waits for the first at most `wait_ms`. With a filter that
  // wants few of many it may return before, with nothing.
  Result<Polled> Poll(size_t limit, uint64_t bytes_max, int64_t wait_ms);
  // The same as JSON texts (event_json.h).
  struct PolledJson {
    std::vector<std::string> events;
    uint64_t dropped = 0;
  };
  Result<PolledJson> PollJson(size_t limit, uint64_t bytes_max, int64_t wait_ms);

  // The same as frames of a WebSocket, one behind the other (AppendEventFrame). Those who are at the same place, want
  // the same and have the same head get one text, not copies of it; members of a group always have their own.
  struct PolledFrames {
    std::shared_ptr<const std::string> frames;  // never null
    size_t events = 0;
    uint64_t dropped = 0;
    bool is_left = false;  // nothing was looked at: only a poll that may read files can
  };
  // With `memory_only` it gives what can be had without waiting for files and without a filter's work: for threads that
  // have other things to do.
  Result<PolledFrames> PollFrames(std::string_view head, size_t limit, uint64_t bytes_max, FrameSharing* sharing,
                                  bool memory_only = false);

  // The same for who keeps none of them: each is handed to `sink` where it lies. An error comes when nothing was taken
  // before it, else with the next poll. kFailedPrecondition for a member of a group, whose events are kept in its
  // books.
  struct PolledInto {
    size_t events = 0;
    uint64_t dropped = 0;
  };
  Result<PolledInto> PollInto(size_t limit, uint64_t bytes_max, int64_t wait_ms, EventSink& sink);

  // What Poll would answer of being too slow, without a step forward: kResourceExhausted for good once
  // OnSlow::kDisconnect is further behind than lag_max.
  Status CheckLag();

  // Of each partition the offset that comes next.
  TopicOffsets Position() const;
  // Commits the position for the group. kFailedPrecondition without one.
  Status Commit();
  // What its group calls it; empty without one.
  const std::string& member() const;
  const std::string& group() const;
  void Close();

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace millstream::events

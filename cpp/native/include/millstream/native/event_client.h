// EventClient: publishes, fetches and follows events of a server or a node over native frames (docs/formats/native.md).
//
// Publishes are pipelined: Publish returns when they are on their way. A connection that breaks is made anew; what was
// not acknowledged is sent again, and subscriptions go on where they were. Every event without an id gets one, by which
// the server knows what it has stored already: so nothing is lost, and nothing is stored twice. Who is a producer
// numbers its events itself.
//
// Threads     One at a time.
// Limits      At most as many publishes are under way as the server's window says, and kEventsUnderWayMax events;
//             Publish waits beyond that. A subscription's server sends at most `credit` events ahead of Poll. The
//             first kEventRefusalsMax refusals are kept. A subscription to more than 10,000 partitions or 1,000 topics
//             is not told where it begins: of a partition that nothing came from it cannot go on.
// Errors      As Client's. What the server refuses of events by themselves is in the totals.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/base/status.h"
#include "millstream/base/strong_int.h"
#include "millstream/native/client.h"

namespace millstream::native {

// A partition remembers the ids of more events than these.
inline constexpr size_t kEventsUnderWayMax = 8192;
inline constexpr size_t kEventRefusalsMax = 100;

struct Event {
  std::string topic;
  std::string payload;
  bool is_json = false;
  std::optional<std::string> key = {};
  std::vector<std::pair<std::string, std::string>> headers = {};
  std::optional<TimestampMs> timestamp = {};
  std::string id = {};
  std::optional<uint32_t> partition = {};
  std::optional<uint64_t> sequence = {};  // a producer's: counts up by one in each partition
};

struct ReceivedEvent {
  std::string id;
  std::string topic;
  uint32_t partition = 0;
  uint64_t offset = 0;
  TimestampMs timestamp = 0;
  bool is_json = false;
  std::optional<std::string> key;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string payload;
};

// An idempotent one, whose events have sequences: over a restart of the program, too, each is stored once.
struct Producer {
  std::string id;
  uint32_t epoch = 0;
};

struct EventRefusal {
  std::string topic;
  std::string id;
  Status why;
};

struct EventTotals {
  uint64_t stored = 0;  // acknowledged since the client was made
  uint64_t refused = 0;
  std::vector<EventRefusal> refusals = {};  // the first of them
};

enum class From { kLatest, kEarliest, kTimestamp, kOffset };
enum class OnSlow { kBlock, kDropOldest, kDisconnect };

using Offsets = std::map<std::string, std::map<uint32_t, uint64_t>>;  // by topic and partition

struct FetchRequest {
  std::string topic;
  uint32_t partition = 0;
  From from = From::kEarliest;
  uint64_t offset = 0;        // for kOffset
  TimestampMs timestamp = 0;  // for kTimestamp
  uint64_t limit = 1000;
  uint64_t bytes_max = 1 << 20;
};

struct FetchedEvents {
  std::vector<ReceivedEvent> events;
  uint64_t next_offset = 0;
  uint64_t end_offset = 0;
};

struct FollowRequest {
  std::vector<std::string> topics;  // names and patterns
  From from = From::kLatest;
  TimestampMs timestamp = 0;  // for kTimestamp
  Offsets offsets = {};       // for kOffset; partitions that are not named begin at their earliest event
  std::string filter = {};
  OnSlow on_slow = OnSlow::kBlock;
  uint64_t lag_max = 0;  // 0: the server's own
  uint64_t credit = 10'000;
};

class EventClient {
 public:
  static Result<std::unique_ptr<EventClient>> Connect(ClientOptions options, std::optional<Producer> producer = {});
  ~EventClient();

  // Those of one call go together.
  Status Publish(std::span<const Event> events);
  // Waits until everything published is answered.
  Result<EventTotals> Flush();

  Result<FetchedEvents> Fetch(const FetchRequest& request);

  // A number for the calls below.
  Result<uint64_t> Follow(FollowRequest request);
  // The next events of a subscription, at most `limit`; waits for the first at most `wait_ms`. What the server ended it
  // with, once everything before was taken.
  Result<std::vector<ReceivedEvent>> Poll(uint64_t subscription, size_t limit, int wait_ms);
  // What comes next after all that Poll gave: for a FollowRequest that goes on there.
  Result<Offsets> Position(uint64_t subscription) const;
  // Events that it will not see: it was too slow for `lag_max`, or for retention.
  Result<uint64_t> Dropped(uint64_t subscription) const;
  Status Unfollow(uint64_t subscription);

  int connections() const;  // how often one was made

 private:
  class Impl;
  explicit EventClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Publishes over UDP. Nobody says whether events arrived; the server counts what is missing.
//
// Threads     One at a time.
// Errors      kResourceExhausted for events that do not fit into one datagram.
class EventSender {
 public:
  // Of the options host, port, key and tenant count.
  static Result<std::unique_ptr<EventSender>> Open(const ClientOptions& options);
  ~EventSender();

  // One datagram.
  Status Publish(std::span<const Event> events);

 private:
  class Impl;
  explicit EventSender(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace millstream::native

// NativeTails: the subscriptions of one connection of native frames, which make frames on the pool as their client
// gives credit.
//
// Threads     All functions from any thread. `ready` is called on any, when Take has something and had nothing.
// Limits      kSubscriptionsMax subscriptions. At most one turn of the pool runs at a time, and none while more than
//             kUnsentBytesMax wait to be taken: a client that does not read is not read for, either. A turn that has
//             made kTurnBytesMax, or kTurnStepsMax frames, goes to the end of the pool's queue: others use it, too. Of
//             frames that were sent at most kUnsentBytesMax are kept to be written over.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millstream/base/mutex.h"
#include "millstream/base/result.h"
#include "millstream/engine/native_events.h"
#include "millstream/events/broker.h"
#include "work_pool.h"

namespace millstream::node {

class NativeTails : public std::enable_shared_from_this<NativeTails> {
 public:
  static constexpr size_t kSubscriptionsMax = 100;
  static constexpr size_t kUnsentBytesMax = 2 << 20;
  static constexpr size_t kTurnBytesMax = 1 << 20;
  static constexpr size_t kTurnStepsMax = 1000;

  // `hold` gives something that keeps alive what `ready` needs, for the time of a turn.
  static std::shared_ptr<NativeTails> Make(events::Broker& broker, TenantId tenant, WorkPool& pool,
                                           std::function<void()> ready, std::function<std::shared_ptr<void>()> hold);

  // The frame that answers; an error ends the connection.
  Result<std::string> Subscribe(std::string_view payload) EXCLUDES(mutex_);
  Status TakeCredit(std::string_view payload) EXCLUDES(mutex_);
  Status TakeUnsubscribe(std::string_view payload) EXCLUDES(mutex_);

  // Frames to be sent, in order; empty when there are none. `sent`, those before, are written over.
  std::vector<std::string> Take(std::vector<std::string> sent = {}) EXCLUDES(mutex_);
  // Whether a turn was wanted for which there was no room: Take, a moment later, asks again.
  bool is_put_off() EXCLUDES(mutex_);
  // The connection is gone.
  void Stop() EXCLUDES(mutex_);

 private:
  struct Followed {
    std::shared_ptr<engine::NativeTail> tail;
    uint64_t credit = 0;  // given since its last turn
    bool ending = false;
  };

  NativeTails(events::Broker& broker, TenantId tenant, WorkPool& pool, std::function<void()> ready,
              std::function<std::shared_ptr<void>()> hold)
      : broker_(broker), tenant_(tenant), pool_(pool), ready_(std::move(ready)), hold_(std::move(hold)) {}

  void OnNews() EXCLUDES(mutex_);
  void StartTurn() REQUIRES(mutex_);
  void Turn() EXCLUDES(mutex_);

  events::Broker& broker_;
  const TenantId tenant_;
  WorkPool& pool_;
  const std::function<void()> ready_;
  const std::function<std::shared_ptr<void>()> hold_;
  std::shared_ptr<events::Notifier> notifier_;  // set once, by Make
  Mutex mutex_;
  std::map<uint64_t, Followed> followed_ GUARDED_BY(mutex_);  // by the client's number
  std::map<uint64_t, uint64_t> numbers_ GUARDED_BY(mutex_);   // the client's by the notifier's token
  std::set<uint64_t> due_ GUARDED_BY(mutex_);                 // the client's numbers
  std::vector<std::string> unsent_ GUARDED_BY(mutex_);
  size_t unsent_bytes_ GUARDED_BY(mutex_) = 0;
  std::vector<std::string> sent_ GUARDED_BY(mutex_);  // to be written over, while there is something to be sent
  size_t sent_bytes_ GUARDED_BY(mutex_) = 0;          // their room
  uint64_t last_ GUARDED_BY(mutex_) = 0;              // whose turn it was
  bool turning_ GUARDED_BY(mutex_) = false;
  bool put_off_ GUARDED_BY(mutex_) = false;
  bool has_news_ GUARDED_BY(mutex_) = false;  // since a turn asked the notifier last
  bool stopped_ GUARDED_BY(mutex_) = false;
};

}  // namespace millstream::node

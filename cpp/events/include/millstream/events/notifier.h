// Notifier: tells one event loop which of its many subscriptions have something, without a thread for each.
//
// Threads     All functions from any thread. The wake function runs on whatever thread brought the news; it must not
//             block, and must not call the notifier.
// Invariants  (1) A token that was added since the last Take is in the next one, once.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "millstream/base/mutex.h"

namespace millstream::events {

class Notifier {
 public:
  // `wake` is called when there is something and was nothing before.
  explicit Notifier(std::function<void()> wake) : wake_(std::move(wake)) {}

  // A number for a new subscription; never given twice.
  uint64_t NewToken() EXCLUDES(mutex_);
  void Add(uint64_t token) EXCLUDES(mutex_);
  std::vector<uint64_t> Take() EXCLUDES(mutex_);

 private:
  const std::function<void()> wake_;
  Mutex mutex_;
  uint64_t next_token_ GUARDED_BY(mutex_) = 1;
  std::vector<uint64_t> ready_ GUARDED_BY(mutex_);  // each at most once: a subscription adds itself once until polled
};

}  // namespace millstream::events

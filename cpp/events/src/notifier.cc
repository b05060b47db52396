#include "millstream/events/notifier.h"

#include <utility>

namespace millstream::events {

uint64_t Notifier::NewToken() {
  const MutexLock lock(mutex_);
  return next_token_++;
}

void Notifier::Add(uint64_t token) {
  const MutexLock lock(mutex_);
  ready_.push_back(token);
  if (ready_.size() == 1) wake_();
}

std::vector<uint64_t> Notifier::Take() {
  const MutexLock lock(mutex_);
  return std::exchange(ready_, {});
}

}  // namespace millstream::events

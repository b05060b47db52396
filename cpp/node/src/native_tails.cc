#include "native_tails.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace millstream::node {

std::shared_ptr<NativeTails> NativeTails::Make(events::Broker& broker, TenantId tenant, WorkPool& pool,
                                               std::function<void()> ready,
                                               std::function<std::shared_ptr<void>()> hold) {
  std::shared_ptr<NativeTails> tails(new NativeTails(broker, tenant, pool, std::move(ready), std::move(hold)));
  const std::weak_ptr<NativeTails> weak = tails;
  // A wake must not call the notifier: the turn on the pool does.
  tails->notifier_ = std::make_shared<events::Notifier>([weak] {
    if (const auto self = weak.lock()) self->OnNews();
  });
  return tails;
}

Result<std::string> NativeTails::Subscribe(std::string_view payload) {
  MS_ASSIGN_OR_RETURN(const engine::NativeSubscribeHead head, engine::ReadNativeSubscribeHead(payload));
  const uint64_t number = head.subscription;
  {
    MutexLock lock(mutex_);
    if (followed_.contains(number)) {
      return InvalidArgument("there is a subscription {} already", number);
    }
    if (followed_.size() >= kSubscriptionsMax) {
      return engine::NativeEndedFrame(
          number, ResourceExhausted("a connection has at most {} subscriptions", kSubscriptionsMax));
    }
  }
  Result<std::unique_ptr<engine::NativeTail>> opened =
      engine::NativeTail::Open(broker_, tenant_, payload, std::nullopt, notifier_);
  if (!opened.ok()) return engine::NativeEndedFrame(number, opened.status());
  std::shared_ptr<engine::NativeTail> tail = *std::move(opened);
  std::string welcome = tail->Welcome();
  MutexLock lock(mutex_);
  if (stopped_) return welcome;
  numbers_.emplace(tail->token(), number);
  followed_.emplace(number, Followed{.tail = std::move(tail)});
  due_.insert(number);
  StartTurn();
  return welcome;
}

Status NativeTails::TakeCredit(std::string_view payload) {
  MS_ASSIGN_OR_RETURN(const engine::NativeCreditGiven given, engine::ReadNativeCredit(payload));
  MutexLock lock(mutex_);
  const auto found = followed_.find(given.subscription);
  if (found == followed_.end()) return Status::Ok();  // it has ended meanwhile
  found->second.credit =
      std::min(found->second.credit + std::min(given.events, engine::kNativeCreditMax), engine::kNativeCreditMax);
  due_.insert(given.subscription);
  StartTurn();
  return Status::Ok();
}

Status NativeTails::TakeUnsubscribe(std::string_view payload) {
  MS_ASSIGN_OR_RETURN(const uint64_t number, engine::ReadNativeUnsubscribe(payload));
  MutexLock lock(mutex_);
  const auto found = followed_.find(number);
  if (found == followed_.end()) return Status::Ok();
  found->second.ending = true;
  due_.insert(number);
  StartTurn();
  return Status::Ok();
}

std::vector<std::string> NativeTails::Take(std::vector<std::string> sent) {
  MutexLock lock(mutex_);
  std::vector<std::string> frames = std::exchange(unsent_, {});
  unsent_bytes_ = 0;
  for (std::string& frame : sent) {
    if (sent_bytes_ + frame.capacity() > kUnsentBytesMax) break;
    sent_bytes_ += frame.capacity();
    sent_.push_back(std::move(frame));
  }
  // A client that has all there is needs no memory.
  if (frames.empty()) {
    sent_.clear();
    sent_bytes_ = 0;
  }
  if (!due_.empty() || put_off_) StartTurn();
  return frames;
}

bool NativeTails::is_put_off() {
  MutexLock lock(mutex_);
  return put_off_ && unsent_.empty();
}

void NativeTails::Stop() {
  std::map<uint64_t, Followed> followed;
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    // A turn that runs closes what it has.
    if (!turning_) followed.swap(followed_);
  }
  for (auto& [number, one] : followed) one.tail->Close();
}

void NativeTails::OnNews() {
  MutexLock lock(mutex_);
  has_news_ = true;  // a turn that runs may have asked the notifier already
  StartTurn();
}

void NativeTails::StartTurn() {
  if (turning_ || stopped_) return;
  const bool was_put_off = std::exchange(put_off_, unsent_bytes_ > kUnsentBytesMax);
  if (put_off_) return;  // Take asks again
  turning_ = pool_.Submit([self = shared_from_this(), held = hold_()] { self->Turn(); }).ok();
  if (turning_) return;
  put_off_ = true;
  // So that it is asked again. Who was told already asks a moment later.
  if (!was_put_off) ready_();
}

void NativeTails::Turn() {
  size_t steps = 0;
  size_t bytes = 0;
  while (true) {
    uint64_t number = 0;
    uint64_t credit = 0;
    bool ending = false;
    std::shared_ptr<engine::NativeTail> tail;
    {
      MutexLock lock(mutex_);
      has_news_ = false;
    }
    {
      const std::vector<uint64_t> tokens = notifier_->Take();
      MutexLock lock(mutex_);
      for (const uint64_t token : tokens) {
        const auto found = numbers_.find(token);
        if (found != numbers_.end()) due_.insert(found->second);
      }
      while (!due_.empty() && !followed_.contains(*due_.begin())) due_.erase(due_.begin());
      // News that the tokens are without: their writer found a turn that ran.
      if (due_.empty() && has_news_ && !stopped_) continue;
      if (due_.empty() || stopped_ || unsent_bytes_ > kUnsentBytesMax || steps >= kTurnStepsMax ||
          bytes >= kTurnBytesMax) {
        turning_ = false;
        if (stopped_) break;
        // What is left waits behind the others of the pool, or for Take.
        if (!due_.empty()) StartTurn();
        return;
      }
      ++steps;
      // By turns: the next one after the one before.
      auto next = due_.upper_bound(last_);
      if (next == due_.end()) next = due_.begin();
      number = last_ = *next;
      due_.erase(next);
      Followed& followed = followed_[number];
      tail = followed.tail;
      credit = std::exchange(followed.credit, 0);
      ending = followed.ending;
    }
    std::string frame;
    std::string memory;
    {
      MutexLock lock(mutex_);
      if (!sent_.empty()) {
        memory = std::move(sent_.back());
        sent_.pop_back();
        sent_bytes_ -= memory.capacity();
      }
    }
    bool ended = ending;
    if (ending) {
      frame = engine::NativeEndedFrame(number, Status::Ok());
    } else {
      tail->AddCredit(credit);
      Result<std::string> next = tail->Next(std::move(memory));
      ended = !next.ok();
      frame = next.ok() ? *std::move(next) : engine::NativeEndedFrame(number, next.status());
    }
    if (ended) tail->Close();
    bytes += frame.size();
    bool tell = false;
    {
      MutexLock lock(mutex_);
      if (ended) {
        followed_.erase(number);
        numbers_.erase(tail->token());
      } else if (tail->has_more()) {
        due_.insert(number);
      }
      if (!frame.empty()) {
        tell = unsent_.empty();
        unsent_bytes_ += frame.size();
        unsent_.push_back(std::move(frame));
      }
    }
    if (tell) ready_();
  }
  std::map<uint64_t, Followed> followed;
  {
    MutexLock lock(mutex_);
    followed.swap(followed_);
  }
  for (auto& [number, one] : followed) one.tail->Close();
}

}  // namespace millstream::node

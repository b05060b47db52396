#include "millstream/wire/datagram_gaps.h"

#include <algorithm>
#include <bit>

namespace millstream::wire {

uint64_t DatagramGaps::LostAt(uint64_t sender, uint64_t number) {
  const auto found = places_.find(sender);
  if (found == places_.end()) {
    senders_.push_front({.id = sender, .highest = number});
    places_.emplace(sender, senders_.begin());
    if (senders_.size() > kSendersMax) {
      places_.erase(senders_.back().id);
      senders_.pop_back();
    }
    return 0;
  }
  senders_.splice(senders_.begin(), senders_, found->second);
  Sender& state = senders_.front();
  const bool later = number > state.highest;
  const uint64_t step = later ? number - state.highest : state.highest - number;
  if (step > kJumpMax) {
    state = {.id = sender, .highest = number};
    return 0;
  }
  if (!later) {
    if (step < kWindow) state.came |= uint64_t{1} << step;
    return 0;
  }
  // Those that leave the window without having come; a step beyond it passes over some as well.
  const uint64_t leaving = std::min(step, kWindow);
  const uint64_t left = leaving == kWindow ? state.came : state.came >> (kWindow - leaving);
  const uint64_t lost = leaving - static_cast<uint64_t>(std::popcount(left)) + (step - leaving);
  state.came = (leaving == kWindow ? 0 : state.came << leaving) | 1;
  state.highest = number;
  return lost;
}

}  // namespace millstream::wire

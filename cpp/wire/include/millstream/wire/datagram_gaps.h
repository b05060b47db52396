// DatagramGaps: which numbered datagrams of each sender never came, told by the gaps.
//
// A number counts as lost once kWindow later ones were meant to come. A jump farther than kJumpMax is a sender that
// began anew, and loses nothing.
//
// Threads     One at a time.
// Cost        O(1) a datagram. Of more than kSendersMax senders the longest silent are forgotten.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <unordered_map>

namespace millstream::wire {

class DatagramGaps {
 public:
  static constexpr uint64_t kWindow = 64;
  static constexpr uint64_t kJumpMax = 1 << 20;
  static constexpr size_t kSendersMax = 4096;

  // Notes that this one came; how many are lost for sure that were not so before.
  uint64_t LostAt(uint64_t sender, uint64_t number);

 private:
  struct Sender {
    uint64_t id;
    uint64_t highest;
    uint64_t came = ~uint64_t{0};  // bit n: highest - n came, or was before the first that did
  };

  std::list<Sender> senders_;  // the one heard last in front
  std::unordered_map<uint64_t, std::list<Sender>::iterator> places_;
};

}  // namespace millstream::wire

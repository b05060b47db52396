// InFlight: which events of a partition were handed to its owner and are not acknowledged yet.
//
// Threads     One at a time.
// Cost        Memory by rows of neighbours, at most kInFlightRunsMax: beyond that the two oldest rows, and what lies
//             between them, count as one; an acknowledgement covers all before it, so that is only ever too careful.
#pragma once

#include <cstdint>
#include <iterator>
#include <map>

#include "millstream/events/limits.h"

namespace millstream::events {

class InFlight {
 public:
  bool empty() const { return runs_.empty(); }
  // Not empty.
  uint64_t lowest() const { return runs_.begin()->first; }

  // Ascending, save for what comes again.
  void Add(uint64_t offset) {
    auto next = runs_.upper_bound(offset);
    if (next != runs_.begin()) {
      auto before = std::prev(next);
      if (offset < before->second) return;
      if (offset == before->second) {
        ++before->second;
        if (next != runs_.end() && next->first == before->second) {
          before->second = next->second;
          runs_.erase(next);
        }
        return;
      }
    }
    if (next != runs_.end() && next->first == offset + 1) {
      const uint64_t end = next->second;
      runs_.erase(next);
      runs_[offset] = end;
      return;
    }
    runs_[offset] = offset + 1;
    if (runs_.size() <= kInFlightRunsMax) return;
    auto second = std::next(runs_.begin());
    runs_.begin()->second = second->second;
    runs_.erase(second);
  }

  bool Contains(uint64_t offset) const {
    const auto next = runs_.upper_bound(offset);
    return next != runs_.begin() && offset < std::prev(next)->second;
  }

  void Remove(uint64_t offset) {
    const auto next = runs_.upper_bound(offset);
    if (next == runs_.begin()) return;
    const auto run = std::prev(next);
    const uint64_t end = run->second;
    if (offset >= end) return;
    if (run->first == offset) {
      runs_.erase(run);
    } else {
      run->second = offset;
    }
    if (offset + 1 < end) runs_[offset + 1] = end;
  }

  void RemoveBelow(uint64_t end) {
    while (!runs_.empty() && runs_.begin()->first < end) {
      const uint64_t run_end = runs_.begin()->second;
      runs_.erase(runs_.begin());
      if (run_end > end) runs_[end] = run_end;
    }
  }

  void Clear() { runs_.clear(); }

 private:
  std::map<uint64_t, uint64_t> runs_;  // first to end
};

}  // namespace millstream::events

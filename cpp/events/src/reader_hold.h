// ReaderHold: a reader's place in a partition that lives in memory, which keeps what the reader has not read yet.
//
// While one exists, the partition drops nothing from its place on: publishers for whom there is no room wait within a
// bound and are refused then. A reader that stays where it is while publishers wait loses its hold after a time
// (kHoldStallMs), so that a dead one stops nobody for ever.
//
// Threads     Begin, Move and the destructor by the reader; the partition's lock guards what is in it.
// Ownership   Borrows the partition and the listener.
#pragma once

#include <chrono>
#include <cstdint>

namespace millstream::events {

class Partition;
class PartitionListener;

class ReaderHold {
 public:
  ReaderHold(Partition& partition, PartitionListener& listener) : partition_(partition), listener_(listener) {}
  ~ReaderHold();
  ReaderHold(const ReaderHold&) = delete;
  ReaderHold& operator=(const ReaderHold&) = delete;

  // Holds what comes from `offset` on.
  void Begin(uint64_t offset);
  void End();
  // All below has been read. False when the hold was taken away: the listener has been told.
  bool Move(uint64_t offset);

 private:
  friend class Partition;

  Partition& partition_;
  PartitionListener& listener_;
  bool begun_ = false;  // of the reader

  // Under the partition's lock.
  uint64_t offset_ = 0;
  bool is_held_ = false;
  bool holds_up_ = false;  // publishers wait for it
  std::chrono::nanoseconds holds_up_since_{};
};

}  // namespace millstream::events

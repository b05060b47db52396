// A model checker for small concurrent programs: runs a program again and again until it has seen every interleaving of
// its atomic operations, and every older value that a load's memory order lets it read.
//
// The memory is that of an operational view model: each location keeps all values that were stored, each with the view
// of its store; a thread may read any value not older than what it has seen of that location; an acquire load takes
// over the view of the value it read, a release store leaves its own; read-modify-writes read the newest and carry the
// view on. Values that are not atomic (Traced) are checked for races with vector clocks. So it finds a missing release
// or acquire on a machine, such as x86, that would forgive it.
//
// Bounds      Stores of one location are ordered as they are executed, and a load does not see stores that come later:
//             load buffering, and stores that pass each other, are not tried. Reads of old values are limited to
//             Limits::stale_reads_max in one run, and so are the states; what was not reached is told (`complete`).
//             A state that was seen before is recognised by a hash of 64 bits.
// Threads     All of a program's threads are fibers on the calling thread. One check at a time.
// Rules       A program's threads keep nothing on the heap from their own stack: a run that reaches a known state is
//             abandoned where it is. No loop without an end: polls are counted.
// Source      Kang et al., "A promising semantics for relaxed-memory concurrency" (POPL 2017), without promises;
//             Norris and Demsky, "CDSChecker" (OOPSLA 2013), for the idea of a test of this kind.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

namespace millstream::queue::model {

inline constexpr size_t kThreadsMax = 4;
inline constexpr size_t kLocationsMax = 12;
inline constexpr size_t kCellsMax = 16;

struct Limits {
  uint32_t stale_reads_max = 3;     // in one run
  uint64_t states_max = 5'000'000;  // together
  uint32_t operations_max = 400;    // in one run; more is a loop without an end
};

// One run's program: its state lives in what the functions share.
struct Program {
  std::vector<std::function<void()>> threads;
  std::function<void()> after;  // when all threads have ended
};

struct Verdict {
  bool failed = false;
  std::string what = {};  // what failed, and the operations that led there
  bool complete = false;  // all was tried within the limits
  uint64_t runs = 0;
  uint64_t states = 0;
  uint64_t stale_reads = 0;
};

// Calls `make` for every run anew.
Verdict Explore(const std::function<Program()>& make, const Limits& limits = {});

// In a program: fails the check, with a reason, unless the condition holds.
void Require(bool condition, const char* reason);

// What Atomic and Traced call.
size_t NewLocation(uint64_t value);
uint64_t Load(size_t location, std::memory_order order);
void Store(size_t location, uint64_t value, std::memory_order order);
// Stores change(old) and answers the old value; `expected` not null: only when the old value is that.
uint64_t ReadModifyWrite(size_t location, const uint64_t* expected, const std::function<uint64_t(uint64_t)>& change,
                         std::memory_order order);
void Fence(std::memory_order order);
void WaitWhile(size_t location, uint64_t value);
void NotifyOne(size_t location);
inline constexpr size_t kNoCell = static_cast<size_t>(-1);
size_t NewCell();  // kNoCell while threads run: then it is on a thread's own stack
void CellRead(size_t cell, uint64_t value);
void CellWrite(size_t cell, uint64_t value);

template <typename U>
class Atomic {
 public:
  Atomic() : Atomic(U{}) {}
  explicit(false) Atomic(U value) : location_(NewLocation(static_cast<uint64_t>(value))) {}
  Atomic(const Atomic&) = delete;
  Atomic& operator=(const Atomic&) = delete;

  U load(std::memory_order order) const { return static_cast<U>(Load(location_, order)); }
  void store(U value, std::memory_order order) { Store(location_, static_cast<uint64_t>(value), order); }
  bool compare_exchange_weak(U& expected, U desired, std::memory_order order) {
    const auto wanted = static_cast<uint64_t>(expected);
    const uint64_t old =
        ReadModifyWrite(location_, &wanted, [desired](uint64_t) { return static_cast<uint64_t>(desired); }, order);
    const bool swapped = old == wanted;
    expected = static_cast<U>(old);
    return swapped;
  }
  U fetch_or(U bits, std::memory_order order) {
    return static_cast<U>(
        ReadModifyWrite(location_, nullptr, [bits](uint64_t old) { return old | static_cast<uint64_t>(bits); }, order));
  }
  void wait(U value, std::memory_order /*order*/) const { WaitWhile(location_, static_cast<uint64_t>(value)); }
  void notify_one() { NotifyOne(location_); }

 private:
  const size_t location_;
};

struct ModelAtomics {
  template <typename U>
  using Atomic = model::Atomic<U>;
  static void Fence(std::memory_order order) { model::Fence(order); }
};

// A value whose reads and writes must not race.
class Traced {
 public:
  Traced() : cell_(NewCell()) {}
  explicit Traced(uint64_t value) : cell_(NewCell()), value_(value) {}
  Traced(const Traced& other) : cell_(NewCell()), value_(other.Read()) {}
  Traced& operator=(const Traced& other) {
    const uint64_t value = other.Read();
    CellWrite(cell_, value);
    value_ = value;
    return *this;
  }

  uint64_t Read() const {
    CellRead(cell_, value_);
    return value_;
  }

 private:
  const size_t cell_;
  uint64_t value_ = 0;
};

}  // namespace millstream::queue::model

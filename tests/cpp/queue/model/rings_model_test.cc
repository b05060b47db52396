// Every interleaving of small programs over the rings and the parker, on a memory weaker than this machine's; and the
// same with one thing broken at a time, which must be found.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <vector>

#include "checker.h"
#include "millstream/queue/mpsc_ring.h"
#include "millstream/queue/parker.h"
#include "millstream/queue/spsc_ring.h"

namespace millstream::queue {
namespace {

using model::Explore;
using model::ModelAtomics;
using model::Program;
using model::Require;
using model::Traced;
using model::Verdict;

std::memory_order WithoutRelease(std::memory_order order) {
  if (order == std::memory_order_release) return std::memory_order_relaxed;
  return order == std::memory_order_acq_rel ? std::memory_order_acquire : order;
}
std::memory_order WithoutAcquire(std::memory_order order) {
  if (order == std::memory_order_acquire) return std::memory_order_relaxed;
  return order == std::memory_order_acq_rel ? std::memory_order_release : order;
}

// Stores publish nothing.
struct NoRelease : ModelAtomics {
  template <typename U>
  struct Atomic : model::Atomic<U> {
    using model::Atomic<U>::Atomic;
    void store(U value, std::memory_order order) { model::Atomic<U>::store(value, WithoutRelease(order)); }
  };
};

// Loads receive nothing.
struct NoAcquire : ModelAtomics {
  template <typename U>
  struct Atomic : model::Atomic<U> {
    using model::Atomic<U>::Atomic;
    U load(std::memory_order order) const { return model::Atomic<U>::load(WithoutAcquire(order)); }
  };
};

// Another thread may come between comparing and swapping.
struct TornSwap : ModelAtomics {
  template <typename U>
  struct Atomic : model::Atomic<U> {
    using model::Atomic<U>::Atomic;
    bool compare_exchange_weak(U& expected, U desired, std::memory_order order) {
      const U now = this->load(order);
      if (now != expected) {
        expected = now;
        return false;
      }
      this->store(desired, order);
      return true;
    }
  };
};

struct NoFence : ModelAtomics {
  static void Fence(std::memory_order /*order*/) {}
};

// A ring that shows a slot before it has filled it.
template <typename T, typename Atomics>
class HastyRing {
 public:
  explicit HastyRing(size_t /*capacity*/) {}
  bool TryPush(T& value) {
    const uint64_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_.load(std::memory_order_acquire) == slots_.size()) return false;
    tail_.store(tail + 1, std::memory_order_release);
    slots_[tail % slots_.size()] = value;
    return true;
  }
  size_t PopBatch(std::vector<T>* out, size_t /*count_max*/) {
    const uint64_t head = head_.load(std::memory_order_relaxed);
    if (tail_.load(std::memory_order_acquire) == head) return 0;
    out->push_back(slots_[head % slots_.size()]);
    head_.store(head + 1, std::memory_order_release);
    return 1;
  }

 private:
  std::array<T, 2> slots_;
  typename Atomics::template Atomic<uint64_t> tail_{0};
  typename Atomics::template Atomic<uint64_t> head_{0};
};

// A ring that believes it has one slot more than it has.
template <typename T, typename Atomics>
class OneTooMany {
 public:
  explicit OneTooMany(size_t /*capacity*/) {}
  bool TryPush(T& value) {
    const uint64_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_.load(std::memory_order_acquire) > slots_.size()) return false;
    slots_[tail % slots_.size()] = value;
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }
  size_t PopBatch(std::vector<T>* out, size_t /*count_max*/) {
    const uint64_t head = head_.load(std::memory_order_relaxed);
    if (tail_.load(std::memory_order_acquire) == head) return 0;
    out->push_back(slots_[head % slots_.size()]);
    head_.store(head + 1, std::memory_order_release);
    return 1;
  }

 private:
  std::array<T, 2> slots_;
  typename Atomics::template Atomic<uint64_t> tail_{0};
  typename Atomics::template Atomic<uint64_t> head_{0};
};

bool Taken(bool answer) {
  return answer;
}
bool Taken(PushResult answer) {
  return answer == PushResult::kOk;
}

// One producer with so many tries, one by one; a consumer with so many polls; then what is left.
template <template <typename, typename> class Ring, typename Atomics>
Program OneByOne(size_t producers, size_t tries, size_t polls) {
  struct State {
    Ring<Traced, Atomics> ring{2};
    std::array<uint64_t, model::kThreadsMax> taken{};
    std::vector<Traced> out;
  };
  auto state = std::make_shared<State>();
  state->out.reserve(64);
  Program program;
  for (size_t producer = 0; producer < producers; ++producer) {
    program.threads.push_back([state, producer, tries] {
      for (size_t i = 0; i < tries; ++i) {
        Traced value(producer << 8 | state->taken[producer]);
        if (Taken(state->ring.TryPush(value))) ++state->taken[producer];
      }
    });
  }
  program.threads.push_back([state, polls] {
    for (size_t i = 0; i < polls; ++i) state->ring.PopBatch(&state->out, 2);
  });
  program.after = [state, producers] {
    while (state->ring.PopBatch(&state->out, 2) > 0) {
    }
    std::array<uint64_t, model::kThreadsMax> next{};
    for (const Traced& value : state->out) {
      const uint64_t producer = value.Read() >> 8;
      Require(producer < producers, "a value that nobody pushed");
      Require((value.Read() & 0xFF) == next[producer]++, "a producer's values out of order, twice or not at all");
    }
    Require(next == state->taken, "what was taken and what came out differ in number");
  };
  return program;
}

// Batches that go round the end, and pushes behind them.
template <template <typename, typename> class Ring, typename Atomics>
Program Batches(size_t producers, size_t batches, size_t polls) {
  struct State {
    Ring<Traced, Atomics> ring{2};
    std::array<std::vector<Traced>, model::kThreadsMax> in;
    std::array<uint64_t, model::kThreadsMax> taken{};
    std::vector<Traced> out;
  };
  auto state = std::make_shared<State>();
  state->out.reserve(64);
  for (auto& in : state->in) in.reserve(4);
  Program program;
  for (size_t producer = 0; producer < producers; ++producer) {
    program.threads.push_back([state, producer, batches] {
      for (size_t i = 0; i < batches; ++i) {
        std::vector<Traced>& in = state->in[producer];
        in.clear();
        for (uint64_t j = 0; j < 2; ++j) in.emplace_back(producer << 8 | (state->taken[producer] + j));
        state->taken[producer] += state->ring.PushBatch(in);
      }
    });
  }
  program.threads.push_back([state, polls] {
    for (size_t i = 0; i < polls; ++i) state->ring.PopBatch(&state->out, i % 2 == 0 ? 1 : 2);
  });
  program.after = [state] {
    while (state->ring.PopBatch(&state->out, 2) > 0) {
    }
    std::array<uint64_t, model::kThreadsMax> next{};
    for (const Traced& value : state->out) {
      Require((value.Read() & 0xFF) == next[value.Read() >> 8]++, "values out of order, twice or not at all");
    }
    Require(next == state->taken, "what was taken and what came out differ in number");
  };
  return program;
}

// A ring that is closed while producers push and the consumer looks whether it is drained.
template <typename Atomics>
Program Closing() {
  struct State {
    MpscRing<Traced, Atomics> ring{2};
    size_t taken = 0;
    bool drained = false;
    size_t at_drained = 0;
    std::vector<Traced> out;
  };
  auto state = std::make_shared<State>();
  state->out.reserve(16);
  Program program;
  program.threads = {[state] {
                       for (uint64_t i = 0; i < 2; ++i) {
                         Traced value(i);
                         if (Taken(state->ring.TryPush(value))) ++state->taken;
                       }
                     },
                     [state] { state->ring.Close(); },
                     [state] {
                       for (size_t i = 0; i < 3 && !state->drained; ++i) {
                         state->ring.PopBatch(&state->out, 2);
                         state->drained = state->ring.IsDrained();
                       }
                       state->at_drained = state->out.size();
                     }};
  program.after = [state] {
    Traced late(9);
    Require(state->ring.TryPush(late) == PushResult::kClosed, "a closed ring took a value");
    while (state->ring.PopBatch(&state->out, 2) > 0) {
    }
    Require(state->out.size() == state->taken, "what was taken and what came out differ in number");
    Require(!state->drained || state->at_drained == state->taken, "drained, and then there was more");
    Require(state->ring.IsDrained(), "closed and empty, but not drained");
  };
  return program;
}

// A consumer that sleeps when there is nothing, and a producer that wakes it: nobody may sleep for ever.
template <typename Atomics, typename ParkerAtomics>
Program Parking() {
  struct State {
    SpscRing<Traced, Atomics> ring{2};
    BasicParker<ParkerAtomics> parker;
    std::vector<Traced> out;
  };
  auto state = std::make_shared<State>();
  state->out.reserve(16);
  Program program;
  program.threads = {[state] {
                       for (uint64_t i = 0; i < 2; ++i) {
                         Traced value(i);
                         Require(state->ring.TryPush(value), "a ring of two refused the second value");
                         state->parker.Notify();
                       }
                     },
                     [state] {
                       while (state->out.size() < 2) {
                         if (state->ring.PopBatch(&state->out, 2) > 0) continue;
                         state->parker.Prepare();
                         if (state->ring.HasNext()) {
                           state->parker.Cancel();
                         } else {
                           state->parker.Wait();
                         }
                       }
                     }};
  program.after = [state] { Require(state->out.size() == 2, "not everything arrived"); };
  return program;
}

void ExpectHolds(const char* name, const std::function<Program()>& make, const model::Limits& limits = {}) {
  const Verdict verdict = Explore(make, limits);
  fmt::print("{}: {} states in {} runs, {} reads of old values\n", name, verdict.states, verdict.runs,
             verdict.stale_reads);
  EXPECT_FALSE(verdict.failed) << name << ": " << verdict.what;
  EXPECT_TRUE(verdict.failed || verdict.complete) << name << ": not all was tried";
  EXPECT_GT(verdict.stale_reads, 0U) << name;
}

void ExpectCaught(const char* name, const std::function<Program()>& make, const char* reason) {
  const Verdict verdict = Explore(make);
  EXPECT_TRUE(verdict.failed) << name << ": nothing found in " << verdict.states << " states";
  EXPECT_NE(verdict.what.find(reason), std::string::npos) << name << ": " << verdict.what;
}

TEST(RingModel, SpscHoldsInEveryInterleaving) {
  ExpectHolds("spsc, one by one", [] { return OneByOne<SpscRing, ModelAtomics>(1, 4, 4); });
  ExpectHolds("spsc, batches", [] { return Batches<SpscRing, ModelAtomics>(1, 3, 4); });
}

TEST(RingModel, MpscHoldsInEveryInterleaving) {
  ExpectHolds("mpsc, one producer", [] { return OneByOne<MpscRing, ModelAtomics>(1, 3, 3); });
  ExpectHolds("mpsc, two producers", [] { return OneByOne<MpscRing, ModelAtomics>(2, 1, 2); });
  ExpectHolds("mpsc, two producers that fill it", [] { return OneByOne<MpscRing, ModelAtomics>(2, 2, 2); },
              {.stale_reads_max = 1});
  ExpectHolds("mpsc, batches of two producers", [] { return Batches<MpscRing, ModelAtomics>(2, 1, 2); });
  ExpectHolds("mpsc, closing", [] { return Closing<ModelAtomics>(); }, {.stale_reads_max = 2});
}

TEST(RingModel, NobodySleepsForEver) {
  ExpectHolds("parker", [] { return Parking<ModelAtomics, ModelAtomics>(); });
}

TEST(RingModel, ABrokenSpscRingIsCaught) {
  ExpectCaught("no release", [] { return OneByOne<SpscRing, NoRelease>(1, 3, 3); }, "slot");
  ExpectCaught("no acquire", [] { return OneByOne<SpscRing, NoAcquire>(1, 3, 3); }, "slot");
  ExpectCaught("batches without release", [] { return Batches<SpscRing, NoRelease>(1, 2, 2); }, "slot");
  ExpectCaught("shows before it fills", [] { return OneByOne<HastyRing, ModelAtomics>(1, 3, 3); }, "slot");
  ExpectCaught("one slot too many", [] { return OneByOne<OneTooMany, ModelAtomics>(1, 3, 3); }, "");
}

TEST(RingModel, ABrokenMpscRingIsCaught) {
  ExpectCaught("no release", [] { return OneByOne<MpscRing, NoRelease>(1, 3, 3); }, "slot");
  ExpectCaught("no acquire", [] { return OneByOne<MpscRing, NoAcquire>(1, 3, 3); }, "slot");
  ExpectCaught("a swap that is not one", [] { return OneByOne<MpscRing, TornSwap>(2, 1, 2); }, "");
  ExpectCaught("batches, a swap that is not one", [] { return Batches<MpscRing, TornSwap>(2, 1, 2); }, "");
}

TEST(RingModel, AParkerWithoutFencesIsCaught) {
  ExpectCaught("no fence", [] { return Parking<ModelAtomics, NoFence>(); }, "nobody wakes it");
}

// The checker itself: of two threads that each write one thing and read the other's, both may read nothing, unless a
// fence stands in between. A machine shows that rarely, and one interleaving after the other never does.
template <typename Fences>
Verdict StoreBuffering(bool* both_saw_nothing) {
  return Explore([both_saw_nothing] {
    struct State {
      model::Atomic<uint64_t> x{0};
      model::Atomic<uint64_t> y{0};
      uint64_t saw_x = 0;
      uint64_t saw_y = 0;
    };
    auto state = std::make_shared<State>();
    return Program{{[state] {
                      state->x.store(1, std::memory_order_release);
                      Fences::Fence(std::memory_order_seq_cst);
                      state->saw_y = state->y.load(std::memory_order_acquire);
                    },
                    [state] {
                      state->y.store(1, std::memory_order_release);
                      Fences::Fence(std::memory_order_seq_cst);
                      state->saw_x = state->x.load(std::memory_order_acquire);
                    }},
                   [state, both_saw_nothing] { *both_saw_nothing |= state->saw_x == 0 && state->saw_y == 0; }};
  });
}

TEST(Checker, LoadsMayPassStoresUnlessAFenceStandsBetween) {
  bool without = false;
  EXPECT_TRUE(StoreBuffering<NoFence>(&without).complete);
  EXPECT_TRUE(without);
  bool with = false;
  EXPECT_TRUE(StoreBuffering<ModelAtomics>(&with).complete);
  EXPECT_FALSE(with);
}

// Who reads a release store with acquire sees what was stored before it; who reads it relaxed may not.
Verdict MessagePassing(std::memory_order order, bool* saw_flag_alone) {
  return Explore([order, saw_flag_alone] {
    struct State {
      model::Atomic<uint64_t> data{0};
      model::Atomic<uint64_t> flag{0};
      uint64_t saw_flag = 0;
      uint64_t saw_data = 0;
    };
    auto state = std::make_shared<State>();
    return Program{{[state] {
                      state->data.store(1, std::memory_order_relaxed);
                      state->flag.store(1, std::memory_order_release);
                    },
                    [state, order] {
                      state->saw_flag = state->flag.load(order);
                      state->saw_data = state->data.load(std::memory_order_relaxed);
                    }},
                   [state, saw_flag_alone] { *saw_flag_alone |= state->saw_flag == 1 && state->saw_data == 0; }};
  });
}

TEST(Checker, AcquireSeesWhatReleasePublishedAndRelaxedMayNot) {
  bool relaxed = false;
  EXPECT_TRUE(MessagePassing(std::memory_order_relaxed, &relaxed).complete);
  EXPECT_TRUE(relaxed);
  bool acquire = false;
  EXPECT_TRUE(MessagePassing(std::memory_order_acquire, &acquire).complete);
  EXPECT_FALSE(acquire);
}

}  // namespace
}  // namespace millstream::queue

// StdAtomics: the atomics that the rings use, as a parameter, so that a test can put others in their place which try
// every interleaving (tests/cpp/queue/model).
#pragma once

#include <atomic>

namespace millstream::queue {

struct StdAtomics {
  template <typename U>
  using Atomic = std::atomic<U>;

  static void Fence(std::memory_order order) { std::atomic_thread_fence(order); }
};

}  // namespace millstream::queue

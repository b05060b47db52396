// Random: the only source of randomness in the engine.
//
// Threads     SystemRandom from any thread; a SeededRandom belongs to one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace millstream::env {

class Random {
 public:
  virtual ~Random() = default;

  virtual void Fill(std::span<std::byte> out) = 0;

  // 64 uniformly random bits.
  uint64_t Next64();

  // Uniform in [0, bound); `bound` must be positive.
  uint64_t Below(uint64_t bound);
};

// The same seed gives the same sequence, on every machine. Not for secrets.
//
// Source      xoshiro256** by Blackman and Vigna, its state filled by SplitMix64.
class SeededRandom final : public Random {
 public:
  explicit SeededRandom(uint64_t seed);
  void Fill(std::span<std::byte> out) override;

 private:
  uint64_t Step();

  std::array<uint64_t, 4> state_{};
};

}  // namespace millstream::env

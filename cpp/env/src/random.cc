#include "millstream/env/random.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "millstream/base/check.h"

namespace millstream::env {

uint64_t Random::Next64() {
  uint64_t value = 0;
  Fill(std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

uint64_t Random::Below(uint64_t bound) {
  MS_CHECK(bound > 0);
  // Values below `rejected` would make the small remainders likelier; their share is less than one half.
  const uint64_t rejected = (0 - bound) % bound;
  uint64_t value = Next64();
  while (value < rejected) value = Next64();
  return value % bound;
}

SeededRandom::SeededRandom(uint64_t seed) {
  for (uint64_t& word : state_) {
    seed += 0x9E3779B97F4A7C15;
    uint64_t mixed = seed;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB;
    word = mixed ^ (mixed >> 31);
  }
}

uint64_t SeededRandom::Step() {
  const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  const uint64_t shifted = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

void SeededRandom::Fill(std::span<std::byte> out) {
  while (!out.empty()) {
    const uint64_t word = Step();
    const size_t part = std::min(out.size(), sizeof(word));
    std::memcpy(out.data(), &word, part);
    out = out.subspan(part);
  }
}

}  // namespace millstream::env

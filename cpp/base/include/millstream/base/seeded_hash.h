// A hash of 128 bits with a seed, for sets in memory that tell keys apart by their hash alone: whoever chooses the keys
// must not know the seed.
//
// Threads     Pure.
// Source      xxHash (XXH3).
#pragma once

#include <cstdint>
#include <string_view>

namespace millstream {

struct Hash128 {
  uint64_t low = 0;
  uint64_t high = 0;
  friend bool operator==(const Hash128&, const Hash128&) = default;
};
Hash128 SeededHash128(std::string_view bytes, uint64_t seed);

}  // namespace millstream

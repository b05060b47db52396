#include "millstream/base/seeded_hash.h"

#include <xxhash.h>

namespace millstream {

Hash128 SeededHash128(std::string_view bytes, uint64_t seed) {
  const XXH128_hash_t hash = XXH3_128bits_withSeed(bytes.data(), bytes.size(), seed);
  return {.low = hash.low64, .high = hash.high64};
}

}  // namespace millstream

// Routes: where a value goes, as a hash of its topic and key.
//
// Threads     Pure functions. Stable across machines and releases.
#pragma once

#include <cstdint>
#include <string_view>

#include "millstream/base/hash.h"

namespace millstream::queue {

// Of numbers, or hashes: every bit of each decides about every bit of the route.
// Source: the finalizer of MurmurHash3 (Austin Appleby).
constexpr uint64_t RouteOf(uint64_t topic, uint64_t key) {
  uint64_t route = topic * 0x9E3779B97F4A7C15 + key;
  route = (route ^ route >> 33) * 0xFF51AFD7ED558CCD;
  route = (route ^ route >> 33) * 0xC4CEB9FE1A85EC53;
  return route ^ route >> 33;
}

inline uint64_t RouteOf(std::string_view topic, std::string_view key) {
  return RouteOf(Hash64(topic), Hash64(key));
}

}  // namespace millstream::queue

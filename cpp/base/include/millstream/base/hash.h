// Hashes of bytes: stable across machines and releases, so they may be stored and sent.
//
// Source      xxHash (XXH64 and XXH3), seed 0.
#pragma once

#include <cstdint>
#include <string_view>

namespace millstream {

// XXH3, for tables in memory and for routing.
uint64_t Hash64(std::string_view bytes);

// XXH64, for what Prometheus defines over it (limit_ratio).
uint64_t XxHash64(std::string_view bytes);

}  // namespace millstream

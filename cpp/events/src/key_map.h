// KeyMap: the newest offset of each of many keys, in a memory that does not grow.
//
// Keys are told apart by 128 bits of a hash with a seed that nobody knows, so no two that are met in practice are taken
// for one another: among 2^32 keys the chance is 2^-65.
//
// Threads     One at a time.
// Cost        24 bytes a slot, three quarters of which are used at most. O(1).
// Errors      None: a key for which there is no room is refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "millstream/base/seeded_hash.h"

namespace millstream::events {

class KeyMap {
 public:
  // Room for `keys`, as far as `bytes_max` goes.
  KeyMap(uint64_t keys, uint64_t bytes_max, uint64_t seed);

  // `offset` is not below any that was put before. False: there is no room for another key.
  bool Put(std::string_view key, uint64_t offset);
  std::optional<uint64_t> Find(std::string_view key) const;
  size_t size() const { return size_; }

 private:
  struct Slot {
    Hash128 hash;
    uint64_t offset_plus_one = 0;  // 0: free
  };
  size_t Place(const Hash128& hash) const;

  const uint64_t seed_;
  std::vector<Slot> slots_;  // a power of two of them
  size_t size_ = 0;
};

}  // namespace millstream::events

#include "key_map.h"

#include <algorithm>
#include <bit>

namespace millstream::events {

KeyMap::KeyMap(uint64_t bytes_max, uint64_t seed)
    : seed_(seed), slots_(std::bit_floor(std::max<size_t>(8, bytes_max / sizeof(Slot)))) {}

size_t KeyMap::Place(const Hash128& hash) const {
  const size_t mask = slots_.size() - 1;
  size_t at = hash.low & mask;
  // A quarter is free, so it ends.
  while (slots_[at].offset_plus_one != 0 && slots_[at].hash != hash) at = (at + 1) & mask;
  return at;
}

bool KeyMap::Put(std::string_view key, uint64_t offset) {
  const Hash128 hash = SeededHash128(key, seed_);
  Slot& slot = slots_[Place(hash)];
  if (slot.offset_plus_one == 0) {
    if (size_ >= slots_.size() / 4 * 3) return false;
    ++size_;
  }
  slot = {.hash = hash, .offset_plus_one = offset + 1};
  return true;
}

std::optional<uint64_t> KeyMap::Find(std::string_view key) const {
  const Slot& slot = slots_[Place(SeededHash128(key, seed_))];
  if (slot.offset_plus_one == 0) return std::nullopt;
  return slot.offset_plus_one - 1;
}

void KeyMap::Clear() {
  std::ranges::fill(slots_, Slot());
  size_ = 0;
}

}  // namespace millstream::events

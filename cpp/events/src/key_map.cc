#include "key_map.h"

#include <algorithm>
#include <bit>

namespace millstream::events {
namespace {

constexpr uint64_t kSlotsMin = 8;

}  // namespace

KeyMap::KeyMap(uint64_t keys, uint64_t bytes_max, uint64_t seed) : seed_(seed) {
  const uint64_t slots_max = std::bit_floor(std::max<uint64_t>(kSlotsMin, bytes_max / sizeof(Slot)));
  // A quarter stays free.
  const uint64_t wanted = std::bit_ceil(std::max<uint64_t>(kSlotsMin, std::min(keys, slots_max) / 3 * 4 + 4));
  slots_.resize(std::min(wanted, slots_max));
}

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

}  // namespace millstream::events

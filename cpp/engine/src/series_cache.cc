#include "series_cache.h"

#include "millstream/base/hash.h"

namespace millstream::engine {

SeriesKey SeriesKey::Make(TenantId tenant, wire::LabelEncoding encoding, std::string_view raw_labels) {
  constexpr uint64_t kMix = 0x9E3779B97F4A7C15;  // 2^64 over the golden ratio: spreads small integers over all bits
  const uint64_t salt = (uint64_t{tenant.value()} << 8 | static_cast<uint64_t>(encoding)) * kMix;
  return {tenant, encoding, raw_labels, Hash64(raw_labels) ^ salt};
}

std::optional<SeriesPlace> SeriesCache::Find(const SeriesKey& key) const {
  const Shard& shard = ShardOf(key.hash);
  ReaderLock lock(shard.mutex);
  const auto found = shard.entries.find(key.hash);
  if (found == shard.entries.end()) return std::nullopt;
  const Entry& entry = found->second;
  if (entry.tenant != key.tenant || entry.encoding != key.encoding || entry.raw_labels != key.raw_labels) {
    return std::nullopt;
  }
  return entry.place;
}

void SeriesCache::Put(const SeriesKey& key, SeriesPlace place) {
  Shard& shard = ShardOf(key.hash);
  WriterLock lock(shard.mutex);
  if (shard.entries.size() >= kSeriesCacheEntriesMax / kShards) shard.entries.clear();
  shard.entries.insert_or_assign(key.hash, Entry{key.tenant, key.encoding, std::string(key.raw_labels), place});
}

void SeriesCache::Forget(const SeriesKey& key) {
  Shard& shard = ShardOf(key.hash);
  WriterLock lock(shard.mutex);
  shard.entries.erase(key.hash);
}

size_t SeriesCache::size() const {
  size_t total = 0;
  for (const Shard& shard : shards_) {
    ReaderLock lock(shard.mutex);
    total += shard.entries.size();
  }
  return total;
}

}  // namespace millstream::engine

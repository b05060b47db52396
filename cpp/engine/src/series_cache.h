// SeriesCache: from a series' label bytes as they came on the wire to where the series lives.
//
// A hit spares parsing, sorting and validating the labels. Entries may be dropped at any time, and may name a ref that
// its partition no longer knows: whoever uses one is told by the partition, and forgets it here.
// Threads     Any; sharded, so that writers seldom meet.
// Limits      At most kSeriesCacheEntriesMax entries; a shard that is full is emptied.
// Cost        One hash of the bytes, one lookup.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "millstream/base/mutex.h"
#include "millstream/base/strong_int.h"
#include "millstream/wire/decoded_write.h"

namespace millstream::engine {

inline constexpr size_t kSeriesCacheEntriesMax = 4 << 20;

struct SeriesPlace {
  PartitionId partition;
  SeriesRef ref;
};

// Tenant, encoding and bytes together identify a series' spelling.
struct SeriesKey {
  TenantId tenant;
  wire::LabelEncoding encoding;
  std::string_view raw_labels;
  uint64_t hash;

  static SeriesKey Make(TenantId tenant, wire::LabelEncoding encoding, std::string_view raw_labels);
};

class SeriesCache {
 public:
  std::optional<SeriesPlace> Find(const SeriesKey& key) const;
  void Put(const SeriesKey& key, SeriesPlace place);
  void Forget(const SeriesKey& key);
  size_t size() const;

 private:
  struct Entry {
    TenantId tenant;
    wire::LabelEncoding encoding;
    std::string raw_labels;
    SeriesPlace place;
  };
  static constexpr size_t kShards = 64;
  // Two spellings with one hash displace each other: that costs a parse, never a wrong answer.
  struct Shard {
    mutable SharedMutex mutex;
    std::unordered_map<uint64_t, Entry> entries GUARDED_BY(mutex);
  };
  const Shard& ShardOf(uint64_t hash) const { return shards_[hash % kShards]; }
  Shard& ShardOf(uint64_t hash) { return shards_[hash % kShards]; }

  std::array<Shard, kShards> shards_;
};

}  // namespace millstream::engine

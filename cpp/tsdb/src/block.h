// Block: an immutable part of a partition's samples on disk, open for reading.
//
// A tenant's index is read when it is first asked for, and kept. Chunks are read one by one.
// Threads     Safe from any thread. A block that was dropped stays readable for those who hold it.
// Errors      kDataLoss, naming file and byte, from whatever touches a corrupt page; all else stays readable.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "block_format.h"
#include "label_index.h"
#include "millstream/base/mutex.h"
#include "millstream/base/result.h"
#include "millstream/env/file_system.h"
#include "page_file.h"

namespace millstream::tsdb {

// What the index file says of one tenant.
struct TenantBlock {
  std::vector<BlockSeries> series;  // ascending by labels; the place is the id
  LabelIndex index;

  // Null when there is none.
  const BlockSeries* Find(const model::Labels& labels) const;
};

class Block {
 public:
  // Opens the block in `folder`, named `name`. Corrupt files do not fail here but where they are needed; `meta` then
  // has what the name says.
  static Result<std::shared_ptr<const Block>> Open(env::FileSystem& files, std::string folder, const BlockMeta& named);

  const BlockMeta& meta() const { return meta_; }
  const std::string& folder() const { return folder_; }
  // What is wrong with the meta file.
  const Status& broken() const { return broken_; }
  uint64_t bytes() const { return meta_.chunks_bytes + meta_.index_bytes; }
  bool Overlaps(storage::TimeRange range) const { return meta_.min_time <= range.max && meta_.max_time >= range.min; }

  // Null when the block has nothing of the tenant.
  Result<std::shared_ptr<const TenantBlock>> Tenant(TenantId tenant) const EXCLUDES(mutex_);
  Result<std::vector<TenantId>> Tenants() const;
  Result<std::shared_ptr<const Chunk>> ReadChunk(const BlockChunk& chunk) const;

 private:
  Block(std::string folder, const BlockMeta& named) : folder_(std::move(folder)), meta_(named) {}
  Status ReadMeta(env::FileSystem& files);
  Result<std::shared_ptr<const TenantBlock>> Load(const TenantEntry& entry) const;

  const std::string folder_;
  BlockMeta meta_;
  Status broken_;
  std::unique_ptr<PageReader> chunks_;
  std::unique_ptr<PageReader> index_;
  std::vector<TenantEntry> directory_;

  mutable Mutex mutex_;
  mutable std::map<uint32_t, std::shared_ptr<const TenantBlock>> loaded_ GUARDED_BY(mutex_);
};

// The blocks of a partition at one moment, in order of creation.
struct BlockSet {
  uint64_t generation = 0;
  std::vector<std::shared_ptr<const Block>> blocks;
};

}  // namespace millstream::tsdb

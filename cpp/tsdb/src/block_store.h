// BlockStore: the blocks of a partition: which there are, how they come and go.
//
// Threads     "Checkpointer" functions from whoever checkpoints the partition; Blocks() from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "block.h"
#include "block_writer.h"
#include "millstream/base/mutex.h"
#include "millstream/env/file_system.h"
#include "millstream/model/labels.h"

namespace millstream::tsdb {

class BlockStore {
 public:
  BlockStore(env::FileSystem& files, std::string folder) : files_(files), folder_(std::move(folder)) {}

  // Checkpointer. Removes what a crash left unfinished and opens all blocks.
  Status Open() EXCLUDES(mutex_);

  std::shared_ptr<const BlockSet> Blocks() const EXCLUDES(mutex_);

  // Checkpointer. A number no block has had yet.
  uint64_t TakeSequence() { return next_sequence_++; }
  void ReserveSequences(uint64_t next) { next_sequence_ = std::max(next_sequence_, next); }
  uint64_t next_sequence() const { return next_sequence_; }

  // Checkpointer. Makes `add` readable and forgets `remove`, in one step. Their files stay.
  void Exchange(const std::vector<std::shared_ptr<const Block>>& add, const std::vector<uint64_t>& remove)
      EXCLUDES(mutex_);
  // Checkpointer. Takes a block's folder away; a crash leaves all of it or nothing that counts.
  Status RemoveFolder(const Block& block);
  Result<std::shared_ptr<const Block>> OpenBlock(const std::string& path);

 private:
  env::FileSystem& files_;
  const std::string folder_;
  uint64_t next_sequence_ = 1;

  mutable Mutex mutex_;
  std::shared_ptr<const BlockSet> blocks_ GUARDED_BY(mutex_) = std::make_shared<const BlockSet>();
};

}  // namespace millstream::tsdb

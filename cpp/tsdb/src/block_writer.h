// BlockWriter: writes one block into a temporary folder and renames it into place when it is whole and on the disk.
//
// Threads     One at a time.
// Ownership   Borrows the file system. A writer that goes without Finish removes its temporary folder; what a crash
//             leaves of it is removed when the partition is opened.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "block_format.h"
#include "millstream/env/file_system.h"

namespace millstream::tsdb {

// "block-0000000012_-500_1000": the times are there so that a block with a broken meta file says what it hides.
std::string BlockFolderName(uint64_t sequence, TimestampMs min_time, TimestampMs max_time);
// False when `name` is no such name.
bool ParseBlockFolderName(std::string_view name, BlockMeta* meta);

inline constexpr std::string_view kBlockPrefix = "block-";
inline constexpr std::string_view kTemporaryPrefix = "tmp-";

class BlockWriter {
 public:
  static Result<std::unique_ptr<BlockWriter>> Create(env::FileSystem& files, std::string partition_folder,
                                                     uint64_t sequence);
  ~BlockWriter();

  // In ascending order of tenant, then labels, each once; at least one chunk, in the order in which the first one
  // holding a timestamp wins.
  Status AddSeries(TenantId tenant, const model::Labels& labels, std::span<const std::shared_ptr<const Chunk>> chunks);

  // Makes the block durable under its name and returns its folder. At least one series must have been added.
  Result<std::string> Finish(std::vector<uint64_t> replaces);

 private:
  BlockWriter(env::FileSystem& files, std::string partition_folder, std::string temporary_folder, uint64_t sequence)
      : files_(files), partition_folder_(std::move(partition_folder)), folder_(std::move(temporary_folder)) {
    meta_.sequence = sequence;
  }
  Status FinishTenant();

  env::FileSystem& files_;
  const std::string partition_folder_;
  const std::string folder_;
  std::unique_ptr<PageWriter> chunks_;
  std::unique_ptr<PageWriter> index_;
  bool renamed_ = false;
  BlockMeta meta_;
  std::vector<TenantEntry> directory_;
  std::optional<TenantId> tenant_;
  std::vector<BlockSeries> series_;  // of the tenant
};

}  // namespace millstream::tsdb

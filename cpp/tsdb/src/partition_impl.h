// PartitionImpl: the parts of a partition and how they share it.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "block_store.h"
#include "millstream/base/mutex.h"
#include "millstream/tsdb/partition.h"
#include "record.h"
#include "series.h"
#include "snapshot.h"
#include "tenant_head.h"

namespace millstream::tsdb {

// Threads     Functions marked "writer" belong to the writer thread, as do the members that no comment gives away.
//             Those marked "checkpointer" belong to whoever runs RunCheckpoint and DropExpiredBlocks, beside the
//             writer; it hands over to the writer and back by whatever orders those calls.
class PartitionImpl {
 public:
  PartitionImpl(PartitionOptions options, env::FileSystem* files, env::Clock* clock, std::string folder,
                storage::Log* log);

  // Writer.
  Result<std::optional<Offset>> Write(storage::WriteBatch& batch, storage::WriteOutcome* outcome);
  Status ApplyRecord(std::string_view record, Offset offset);
  // Writer, before anything else: reads what is on the disk.
  Status Recover();
  Status Checkpoint();
  void BeginCheckpoint();
  // Checkpointer.
  Status RunCheckpoint();
  Status DropExpiredBlocks();
  // The oldest time that is kept; the least time when all is.
  TimestampMs RetentionBound() const;

  // Any thread. Never null.
  std::shared_ptr<const BlockSet> Blocks() const;
  // Any thread. Null when the tenant has no head.
  const TenantHead* FindTenant(TenantId tenant) const EXCLUDES(tenants_mutex_);
  std::vector<const TenantHead*> Tenants() const EXCLUDES(tenants_mutex_);
  std::optional<Offset> applied_offset() const;
  PartitionStats Stats() const;

  const PartitionOptions& options() const { return options_; }
  const ChunkLimits& limits() const { return limits_; }

 private:
  friend class BatchStager;

  // The chunks of one series that are to leave the head.
  struct SeriesCut {
    TenantId tenant;
    SeriesPtr series;
    std::vector<std::shared_ptr<const Chunk>> chunks;
  };

  // Those of the batch's exemplars that are new and acceptable.
  std::vector<model::SeriesExemplars> StageExemplars(const TenantHead& tenant, const storage::WriteBatch& batch,
                                                     storage::WriteOutcome* outcome) const;
  void AddExemplars(TenantHead& tenant, const std::vector<model::SeriesExemplars>& exemplars);
  TenantHead& TenantFor(TenantId tenant) EXCLUDES(tenants_mutex_);
  std::vector<TenantHead*> TenantsOfWriter() EXCLUDES(tenants_mutex_);

  Result<SnapshotHeader> LoadSnapshot(const std::string& path);
  // Applies the log from `next_offset` on, where the snapshot, named for errors, ends. `damage` is why it is not the
  // newest.
  Status ReplayBehind(const std::string& snapshot, uint64_t next_offset, const Status& damage);
  // Writer: takes what the last checkpoint found silent, and is so still, out of the head.
  void RemoveSilent();

  // Checkpointer, down to RemoveOtherSnapshots. Before which samples leave the head.
  TimestampMs CutLimit();
  std::vector<SeriesCut> CollectCuts(TimestampMs limit);
  Result<std::vector<std::shared_ptr<const Block>>> WriteBlocks(const std::vector<SeriesCut>& cuts);
  Status WriteSnapshot(uint64_t generation);
  // Merges small blocks of windows that are over before `limit`. What fails is tried again by the next checkpoint.
  void Compact(TimestampMs limit);
  Status MergeBlocks(const std::vector<std::shared_ptr<const Block>>& blocks);
  void DropFromHead(const std::vector<SeriesCut>& cuts);
  void FindSilent(TimestampMs limit);
  void RemoveOtherSnapshots(uint64_t newest, uint64_t before);

  // What a series that is new to the head has in blocks.
  std::optional<TimestampMs> MaxTimeInBlocks(TenantId tenant, const model::Labels& labels) const;
  std::optional<SampleValue> FindInBlocks(TenantId tenant, const model::Labels& labels, TimestampMs timestamp) const;

  const PartitionOptions options_;
  const ChunkLimits limits_;
  env::FileSystem* const files_;  // null in memory, as clock_ and, without a log, log_
  env::Clock* const clock_;
  const std::string folder_;
  storage::Log* const log_;

  std::unique_ptr<BlockStore> store_;  // null in memory
  // The last chunk that FindInBlocks read: resent samples ask for the same one again and again.
  mutable uint64_t cached_block_ = 0;
  mutable uint64_t cached_position_ = 0;
  mutable std::shared_ptr<const Chunk> cached_chunk_;

  struct SnapshotPlace {
    uint64_t generation = 0;  // 0: none
    uint64_t next_offset = 0;
  };
  // A series without samples, and since when it must have been so.
  struct Silent {
    TenantHead* tenant;
    SeriesPtr series;
    TimestampMs since;
  };

  // Of the checkpointer.
  std::set<uint64_t> uncompactable_;  // blocks with corrupt pages
  uint64_t next_snapshot_ = 1;
  SnapshotPlace newest_snapshot_;
  std::vector<Silent> silent_;
  // Where the writer was when the checkpoint began: the snapshot has everything before, and the log everything behind.
  uint64_t begun_offset_ = 0;
  uint64_t begun_ref_ = 1;

  uint64_t next_ref_ = 1;
  uint64_t stage_epoch_ = 0;

  // The next offset to apply, 0 before the first. The writer writes it after the record's samples are readable.
  std::atomic<uint64_t> next_offset_{0};

  // Written by the writer, read by anyone; each counts for itself, so relaxed order suffices.
  std::atomic<int64_t> sample_bytes_{0};
  std::atomic<uint64_t> samples_appended_{0};
  std::atomic<uint64_t> samples_out_of_order_{0};
  std::atomic<uint64_t> samples_duplicate_{0};
  std::atomic<uint64_t> samples_rejected_{0};
  std::atomic<uint64_t> exemplars_appended_{0};

  mutable SharedMutex tenants_mutex_;
  std::map<uint32_t, std::unique_ptr<TenantHead>> tenants_ GUARDED_BY(tenants_mutex_);
};

}  // namespace millstream::tsdb

// PartitionImpl: the parts of a partition and how they share it.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/mutex.h"
#include "millstream/tsdb/partition.h"
#include "record.h"
#include "series.h"
#include "tenant_head.h"

namespace millstream::tsdb {

// Threads     Functions marked "writer" belong to the writer thread, as do the members that no comment gives away.
class PartitionImpl {
 public:
  PartitionImpl(PartitionOptions options, env::FileSystem* files, env::Clock* clock, std::string folder,
                storage::Log* log);

  // Writer.
  Result<std::optional<Offset>> Write(storage::WriteBatch& batch, storage::WriteOutcome* outcome);
  Status ApplyRecord(std::string_view record, Offset offset);

  // Any thread. Null when the tenant has no head.
  const TenantHead* FindTenant(TenantId tenant) const EXCLUDES(tenants_mutex_);
  std::vector<const TenantHead*> Tenants() const EXCLUDES(tenants_mutex_);
  std::optional<Offset> applied_offset() const;
  PartitionStats Stats() const;

  const PartitionOptions& options() const { return options_; }
  const ChunkLimits& limits() const { return limits_; }

 private:
  friend class BatchStager;

  TenantHead& TenantFor(TenantId tenant) EXCLUDES(tenants_mutex_);
  // What a series that is new to the head has in blocks.
  std::optional<TimestampMs> MaxTimeInBlocks(TenantId tenant, const model::Labels& labels) const;
  std::optional<SampleValue> FindInBlocks(TenantId tenant, const model::Labels& labels, TimestampMs timestamp) const;

  const PartitionOptions options_;
  const ChunkLimits limits_;
  env::FileSystem* const files_;  // null in memory, as clock_ and, without a log, log_
  env::Clock* const clock_;
  const std::string folder_;
  storage::Log* const log_;

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

  mutable SharedMutex tenants_mutex_;
  std::map<uint32_t, std::unique_ptr<TenantHead>> tenants_ GUARDED_BY(tenants_mutex_);
};

}  // namespace millstream::tsdb

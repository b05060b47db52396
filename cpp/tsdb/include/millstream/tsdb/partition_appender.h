// PartitionAppender: storage::Appender over one partition, for scripts and tests.
//
// Threads     The partition's writer thread.
// Ownership   Borrows the partition.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "millstream/storage/appender.h"
#include "millstream/storage/write_batch.h"
#include "millstream/tsdb/partition.h"

namespace millstream::tsdb {

// Options of a store for scripts: nothing out of order, chunks of a day.
PartitionOptions ScriptPartitionOptions();

class PartitionAppender final : public storage::Appender {
 public:
  explicit PartitionAppender(Partition& partition, TenantId tenant = TenantId(0));

  Status Append(const model::Labels& labels, TimestampMs timestamp, double value, TimestampMs start) override;
  Status AppendHistogram(const model::Labels& labels, TimestampMs timestamp, const model::Histogram& histogram,
                         TimestampMs start) override;
  // kResourceExhausted when more than storage::kBatchSamplesMax samples were buffered.
  Status Commit() override;

 private:
  uint32_t IndexOf(const model::Labels& labels);
  void Clear();

  Partition& partition_;
  const TenantId tenant_;
  storage::WriteBatch batch_;
  std::unordered_map<model::Labels, uint32_t> index_;
  uint32_t items_ = 0;
};

}  // namespace millstream::tsdb

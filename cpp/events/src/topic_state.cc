#include "topic_state.h"

#include <algorithm>

namespace millstream::events {

Partition& Topic::PartitionAt(uint32_t index, const std::function<std::unique_ptr<Partition>()>& make) {
  {
    const ReaderLock lock(mutex_);
    if (index < partitions_.size() && partitions_[index] != nullptr) return *partitions_[index];
  }
  const WriterLock lock(mutex_);
  if (partitions_.size() <= index) partitions_.resize(index + 1);
  if (partitions_[index] == nullptr) partitions_[index] = make();
  return *partitions_[index];
}

std::vector<Partition*> Topic::UsedPartitions() const {
  std::vector<Partition*> used;
  const ReaderLock lock(mutex_);
  for (const auto& partition : partitions_) {
    if (partition != nullptr) used.push_back(partition.get());
  }
  return used;
}

bool Topic::is_held() const {
  // Not under the topic's lock: writers ask for its options while they hold a partition's.
  return std::ranges::any_of(UsedPartitions(), [](const Partition* partition) { return partition->is_held(); });
}

}  // namespace millstream::events

// Topic: a topic that exists, with its partitions as far as anybody has used them.
//
// Threads     Any.
// Ownership   Owns its partitions; whoever uses one holds the topic.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "millstream/base/mutex.h"
#include "millstream/events/topic.h"
#include "partition.h"

namespace millstream::events {

class Topic {
 public:
  explicit Topic(TopicInfo info)
      : name_(std::move(info.name)),
        tenant_(info.tenant),
        number_(info.number),
        created_ms_(info.created_ms),
        is_ephemeral_(info.options.durability == TopicDurability::kEphemeral),
        options_(info.options) {}

  const std::string& name() const { return name_; }
  TenantId tenant() const { return tenant_; }
  uint32_t number() const { return number_; }

  bool is_ephemeral() const { return is_ephemeral_; }  // never changes

  TopicOptions options() const EXCLUDES(mutex_) {
    const ReaderLock lock(mutex_);
    return options_;
  }
  void set_options(const TopicOptions& options) EXCLUDES(mutex_) {
    const WriterLock lock(mutex_);
    options_ = options;
  }
  TopicInfo info() const { return {name_, tenant_, number_, created_ms_, options()}; }

  bool deleted() const { return deleted_.load(); }
  void set_deleted() { deleted_.store(true); }

  // The partition of this index, which must exist; made with `make`, which must not use the topic, when it is used for
  // the first time.
  Partition& PartitionAt(uint32_t index, const std::function<std::unique_ptr<Partition>()>& make) EXCLUDES(mutex_);
  // Those that have been used.
  std::vector<Partition*> UsedPartitions() const EXCLUDES(mutex_);
  // Whether readers hold one of them that is in memory.
  bool is_held() const EXCLUDES(mutex_);

  // For events without a key: a number that counts up.
  uint64_t NextTurn() { return turn_.fetch_add(1, std::memory_order_relaxed); }  // orders nothing

 private:
  const std::string name_;
  const TenantId tenant_;
  const uint32_t number_;
  const TimestampMs created_ms_;
  const bool is_ephemeral_;
  std::atomic<bool> deleted_{false};  // whoever deletes the topic writes it, once
  std::atomic<uint64_t> turn_{0};     // any publisher writes it
  mutable SharedMutex mutex_;
  TopicOptions options_ GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Partition>> partitions_ GUARDED_BY(mutex_);  // null until used
};

using TopicPtr = std::shared_ptr<Topic>;

}  // namespace millstream::events

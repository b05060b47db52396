// What Broker is made of. Its functions are spread over broker.cc (life, topics, reads), publish.cc and
// broker_groups.cc; what members of groups call is in group_calls.cc.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "compaction.h"
#include "group_coordinator.h"
#include "meta_store.h"
#include "millstream/base/mutex.h"
#include "millstream/events/broker.h"
#include "partition_writer.h"
#include "topic_state.h"

namespace millstream::events {

// A topic and one of its partitions; the topic keeps the partition alive.
struct PartitionRef {
  TopicPtr topic;
  Partition* partition = nullptr;
};

// Is told of topics that are new, or have more partitions.
class TopicListener {
 public:
  virtual ~TopicListener() = default;
  // On the thread of the meta store; must be short.
  virtual void OnTopic(const TopicPtr& topic) = 0;
  // The broker is closed: whoever waits should look.
  virtual void OnClose() = 0;
};

class Broker::Impl {
 public:
  Impl(const env::Env& env, std::string folder, const BrokerOptions& options)
      : env_(env), folder_(std::move(folder)), options_(options) {}
  ~Impl();

  Status Start();
  void Close();
  Status CheckSelectors(const std::vector<std::string>& selectors) const;
  Status CheckOpen() const { return closed_.load() ? Unavailable("the database is closed") : Status::Ok(); }

  Result<TopicPtr> FindTopic(TenantId tenant, const std::string& name) const;
  // kInvalidArgument when the topic has no such partition.
  Result<PartitionRef> FindPartition(TenantId tenant, const std::string& topic, uint32_t partition);
  Partition& PartitionOf(const TopicPtr& topic, uint32_t index);

  void CompactAll(bool all);
  // What is not known yet of clients' ids in logs that are open: some of it.
  void NoteOldIds();

  void AddTopicListener(TopicListener* listener) EXCLUDES(listeners_mutex_);
  void TellOfTopic(const TopicPtr& topic) EXCLUDES(listeners_mutex_);
  void RemoveTopicListener(TopicListener* listener) EXCLUDES(listeners_mutex_);

  const env::Env env_;
  const std::string folder_;
  const BrokerOptions options_;
  std::atomic<bool> closed_{false};            // Close writes it
  std::atomic<uint64_t> tail_bytes_total_{0};  // the partitions write it

  std::atomic<size_t> held_publishers_{0};  // publishers write it
  std::atomic<bool> compacting_{false};     // whoever compacts writes it
  CompactionStats compaction_stats_;

  Mutex listeners_mutex_;
  std::vector<TopicListener*> listeners_ GUARDED_BY(listeners_mutex_);

  std::vector<std::unique_ptr<PartitionWriter>> writers_;
  std::unique_ptr<MetaStore> meta_;
  std::unique_ptr<GroupCoordinator> groups_;
};

}  // namespace millstream::events

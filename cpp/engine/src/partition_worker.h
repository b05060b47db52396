// PartitionWorker: the one thread that writes a partition, and the bounded queue before it.
//
// Threads     Submit from any thread; Maintain from one at a time, and no longer when Stop is called, once. The
//             worker's thread is the only caller of the partition's writer functions, and after it has ended Stop is.
// Invariants  (1) Tasks of one submitter are applied in the order of submission. (2) Every submitted task is answered,
//             also when the worker stops.
// Limits      At most kQueuedTasksMax tasks wait; one more is refused, which is the engine's back-pressure.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "millstream/base/mutex.h"
#include "millstream/base/result.h"
#include "millstream/env/executor.h"
#include "millstream/queue/worker.h"
#include "millstream/storage/write_batch.h"
#include "millstream/tsdb/partition.h"

namespace millstream::engine {

inline constexpr size_t kQueuedTasksMax = 1024;

// Counts the tasks of one request down to the last.
class TaskGroup {
 public:
  void Add() EXCLUDES(mutex_);
  void Done() EXCLUDES(mutex_);
  void Wait() EXCLUDES(mutex_);

 private:
  Mutex mutex_;
  CondVar done_;
  int open_ GUARDED_BY(mutex_) = 0;
};

// One batch on its way into a partition. The submitter owns it and keeps it until its group is done.
struct WriteTask {
  storage::WriteBatch* batch = nullptr;  // null: begin a checkpoint
  TaskGroup* group = nullptr;
  // Set by the worker before the group is done.
  storage::WriteOutcome outcome;
  Status status;
  std::optional<Offset> offset;
};

class PartitionWorker {
 public:
  static Result<std::unique_ptr<PartitionWorker>> Start(const std::string& name, std::optional<int> cpu,
                                                        tsdb::Partition& partition, env::Executor& executor);

  // kResourceExhausted when the queue is full, kUnavailable after Stop; the task's group is then not told.
  Status Submit(WriteTask* task);

  // A checkpoint, and the dropping of what is too old, on the caller's thread: the writer only begins it, between two
  // writes, and goes on. When the queue is full there is none this time.
  void Maintain();

  // Finishes what was submitted, ends the thread and writes a last checkpoint, whose outcome it returns.
  Status Stop();

  size_t queued() const { return worker_->queued(); }
  uint64_t checkpoints() const { return checkpoints_.load(); }
  uint64_t checkpoint_failures() const { return checkpoint_failures_.load(); }

 private:
  explicit PartitionWorker(tsdb::Partition& partition) : partition_(partition) {}

  void Handle(WriteTask* task);
  // Drops what is too old after a checkpoint that went well, and counts how it all went.
  Status FinishMaintenance(Status status);

  tsdb::Partition& partition_;
  // Both are written by whoever maintains: the caller of Maintain, then Stop.
  std::atomic<uint64_t> checkpoints_{0};
  std::atomic<uint64_t> checkpoint_failures_{0};
  // Last, so that its thread has ended before anything that it uses goes.
  std::unique_ptr<queue::Worker<WriteTask*>> worker_;
};

}  // namespace millstream::engine

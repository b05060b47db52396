#include "partition_worker.h"

#include <utility>

namespace millstream::engine {

void TaskGroup::Add() {
  MutexLock lock(mutex_);
  ++open_;
}

void TaskGroup::Done() {
  // Notifies under the lock: the waiter destroys the group as soon as it can take it.
  MutexLock lock(mutex_);
  if (--open_ == 0) done_.NotifyAll();
}

void TaskGroup::Wait() {
  MutexLock lock(mutex_);
  while (open_ > 0) done_.Wait(mutex_);
}

Result<std::unique_ptr<PartitionWorker>> PartitionWorker::Start(const std::string& name, std::optional<int> cpu,
                                                                tsdb::Partition& partition, env::Executor& executor) {
  std::unique_ptr<PartitionWorker> worker(new PartitionWorker(partition));
  MS_ASSIGN_OR_RETURN(worker->worker_, queue::Worker<WriteTask*>::Start(
                                           executor, {.name = name, .cpu = cpu, .queue_capacity = kQueuedTasksMax},
                                           [raw = worker.get()](std::span<WriteTask*> tasks) {
                                             for (WriteTask* task : tasks) raw->Handle(task);
                                           }));
  return worker;
}

Status PartitionWorker::Submit(WriteTask* task) {
  task->group->Add();
  Status status = worker_->Submit(task);
  if (!status.ok()) task->group->Done();
  return status;
}

void PartitionWorker::Maintain() {
  TaskGroup group;
  WriteTask begin;
  begin.group = &group;
  if (!Submit(&begin).ok()) return;
  group.Wait();
  // Should it fail, that is counted, and the next one tries again.
  (void)FinishMaintenance(partition_.RunCheckpoint()).ok();
}

Status PartitionWorker::Stop() {
  worker_->Stop();
  return FinishMaintenance(partition_.Checkpoint());
}

void PartitionWorker::Handle(WriteTask* task) {
  if (task->batch == nullptr) {
    partition_.BeginCheckpoint();
    task->group->Done();
    return;
  }
  Result<std::optional<Offset>> written = partition_.Write(*task->batch, &task->outcome);
  if (written.ok()) {
    task->offset = *written;
  } else {
    task->status = std::move(written).status();
  }
  task->group->Done();
}

Status PartitionWorker::FinishMaintenance(Status status) {
  if (status.ok()) status = partition_.DropExpiredBlocks();
  ++checkpoints_;
  if (!status.ok()) ++checkpoint_failures_;
  return status;
}

}  // namespace millstream::engine

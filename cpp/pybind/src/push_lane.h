// PushLane: groups of writes into the engine, by threads that never need the interpreter.
//
// A thread of Python's takes the interpreter from the event loop before it stores a group, and again after. Where both
// have a processor of their own, handing it over costs as much as storing does.
//
// Threads     Everything but the lane's own work is for whoever holds the GIL. `fd` becomes readable when Collect has
//             something to give.
// Limits      kLaneGroupsMax groups that were not collected yet; Submit refuses one more.
// Ownership   Keeps the engine, and the bodies until their group is collected. Closing finishes what was submitted.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "millstream/base/mutex.h"
#include "millstream/base/result.h"
#include "millstream/engine/database.h"

namespace millstream::pybind {

inline constexpr size_t kLaneGroupsMax = 1024;

// Format, body, default timestamp, options, tenant, most series of that tenant, most new ones per second.
using PushItem = std::tuple<std::string, pybind11::bytes, std::optional<int64_t>, engine::WriteOptions, uint32_t,
                            uint64_t, uint64_t>;

// What the engine takes, valid as long as the items are.
std::vector<engine::TenantWrite> WritesOf(const std::vector<PushItem>& items, TimestampMs now);

// (Item or line, code, reason) of what was refused, as far as the engine keeps that.
pybind11::list ErrorsOf(const engine::PushOutcome& outcome);

// All fields of an outcome at once, in the order of the gateway's PushOutcome.
pybind11::tuple FieldsOf(const engine::PushOutcome& outcome);

class PushLane {
 public:
  PushLane(pybind11::object engine, size_t threads);
  ~PushLane();
  PushLane(const PushLane&) = delete;
  PushLane& operator=(const PushLane&) = delete;

  int fd() const { return fd_; }

  // The number by which Collect names this group.
  uint64_t Submit(std::vector<PushItem> items);

  // (number, what became of each: its fields or an error) of every group that is done.
  pybind11::list Collect();

  // Ends the threads when all that was submitted is done. Calling it again changes nothing.
  void Close();

 private:
  struct Group {
    uint64_t number;
    std::vector<PushItem> items;
    std::vector<engine::TenantWrite> writes;
    std::vector<Result<engine::PushOutcome>> outcomes;
  };

  void Serve();
  std::unique_ptr<Group> Next() EXCLUDES(mutex_);

  const pybind11::object owner_;
  engine::Database& engine_;
  int fd_ = -1;
  uint64_t submitted_ = 0;
  size_t on_their_way_ = 0;
  std::vector<std::thread> threads_;

  Mutex mutex_;
  CondVar changed_;
  bool closed_ GUARDED_BY(mutex_) = false;
  std::deque<std::unique_ptr<Group>> waiting_ GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Group>> done_ GUARDED_BY(mutex_);
};

void RegisterPushLane(pybind11::module_& module);

}  // namespace millstream::pybind

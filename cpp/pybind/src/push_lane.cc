#include "push_lane.h"

#include <pybind11/stl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

#include "convert.h"
#include "errors.h"

namespace millstream::pybind {

namespace py = pybind11;
using engine::Database;
using engine::PushOutcome;

py::list ErrorsOf(const PushOutcome& outcome) {
  py::list out;
  for (const engine::ItemRefusal& refusal : outcome.refusals) {
    out.append(
        py::make_tuple(refusal.item, Text(StatusCodeName(refusal.reason.code())), Text(refusal.reason.message())));
  }
  return out;
}

std::vector<engine::TenantWrite> WritesOf(const std::vector<PushItem>& items, TimestampMs now) {
  std::vector<engine::TenantWrite> writes;
  writes.reserve(items.size());
  for (const auto& [format, body, default_timestamp, write_options, tenant, series_max, new_per_second] : items) {
    writes.push_back({TenantId(tenant),
                      {.format = format,
                       .body = BytesView(body),
                       .default_timestamp = default_timestamp.value_or(now),
                       .options = write_options,
                       .series = {series_max, new_per_second}}});
  }
  return writes;
}

py::tuple FieldsOf(const PushOutcome& outcome) {
  return py::make_tuple(outcome.samples, outcome.histograms, outcome.exemplars, outcome.metadata, outcome.rejected,
                        ErrorsOf(outcome), outcome.offset_token);
}

PushLane::PushLane(py::object engine, size_t threads)
    : owner_(std::move(engine)), engine_(owner_.cast<Database&>()), fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (fd_ < 0) throw StatusError(ResourceExhausted("no descriptor is left to tell of writes that are done"));
  for (size_t i = 0; i < threads; ++i) threads_.emplace_back(&PushLane::Serve, this);
}

PushLane::~PushLane() {
  Close();
  ::close(fd_);
}

uint64_t PushLane::Submit(std::vector<PushItem> items) {
  if (threads_.empty()) throw StatusError(Unavailable("the engine is not open"));
  if (on_their_way_ >= kLaneGroupsMax) {
    throw StatusError(ResourceExhausted("{} groups of writes are on their way", on_their_way_));
  }
  auto group = std::make_unique<Group>();
  group->number = submitted_++;
  group->items = std::move(items);
  group->writes = WritesOf(group->items, engine_.Now());
  const uint64_t number = group->number;
  ++on_their_way_;
  {
    const MutexLock lock(mutex_);
    waiting_.push_back(std::move(group));
  }
  changed_.NotifyOne();
  return number;
}

py::list PushLane::Collect() {
  eventfd_t times = 0;
  // Fails when it was collected already: then there is just nothing to give.
  eventfd_read(fd_, &times);
  std::vector<std::unique_ptr<Group>> done;
  {
    const MutexLock lock(mutex_);
    done.swap(done_);
  }
  on_their_way_ -= done.size();
  py::list out;
  for (const std::unique_ptr<Group>& group : done) {
    py::list outcomes;
    for (const Result<PushOutcome>& outcome : group->outcomes) {
      if (outcome.ok()) {
        outcomes.append(FieldsOf(*outcome));
      } else {
        outcomes.append(ExceptionOf(outcome.status()));
      }
    }
    out.append(py::make_tuple(group->number, std::move(outcomes)));
  }
  return out;
}

void PushLane::Close() {
  {
    const MutexLock lock(mutex_);
    closed_ = true;
  }
  changed_.NotifyAll();
  // Whoever has the GIL while this one waits finds no threads: it is refused, and joins none a second time.
  std::vector<std::thread> threads = std::exchange(threads_, {});
  const py::gil_scoped_release released;
  for (std::thread& thread : threads) thread.join();
}

void PushLane::Serve() {
  while (std::unique_ptr<Group> group = Next()) {
    group->outcomes = engine_.PushAll(group->writes);
    bool is_first = false;
    {
      const MutexLock lock(mutex_);
      is_first = done_.empty();
      done_.push_back(std::move(group));
    }
    // Cannot fail: the counter never comes near its end.
    if (is_first) eventfd_write(fd_, 1);
  }
}

std::unique_ptr<PushLane::Group> PushLane::Next() {
  const MutexLock lock(mutex_);
  while (waiting_.empty() && !closed_) changed_.Wait(mutex_);
  if (waiting_.empty()) return nullptr;
  std::unique_ptr<Group> group = std::move(waiting_.front());
  waiting_.pop_front();
  return group;
}

void RegisterPushLane(py::module_& module) {
  py::class_<PushLane>(module, "PushLane", "Stores groups of writes without the interpreter.")
      .def(py::init<py::object, size_t>(), py::arg("engine"), py::arg("threads"))
      .def("fileno", &PushLane::fd, "Readable when `collect` has something to give.")
      .def("submit", &PushLane::Submit, py::arg("items"),
           "Items as of `Engine.push_all`; returns the number by which `collect` names them.")
      .def("collect", &PushLane::Collect,
           "(number, what became of each: the fields of its PushResult, or an error) of every group that is done.")
      .def("close", &PushLane::Close, "Ends the threads when all that was submitted is done.");
}

}  // namespace millstream::pybind

#include "checker.h"

#include <fmt/format.h>
#include <ucontext.h>

#include <algorithm>
#include <memory>
#include <unordered_set>

#include "millstream/base/check.h"

namespace millstream::queue::model {
namespace {

constexpr size_t kStackBytes = 128 << 10;

uint64_t Mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15;
  return hash ^ hash >> 29;
}

// What is known: of each location the newest store, of each thread how far it came.
struct View {
  std::array<uint16_t, kLocationsMax> stores{};
  std::array<uint16_t, kThreadsMax> clock{};

  void Join(const View& other) {
    for (size_t i = 0; i < kLocationsMax; ++i) stores[i] = std::max(stores[i], other.stores[i]);
    for (size_t i = 0; i < kThreadsMax; ++i) clock[i] = std::max(clock[i], other.clock[i]);
  }
  uint64_t Hash(uint64_t hash) const {
    for (const uint16_t store : stores) hash = Mix(hash, store);
    for (const uint16_t step : clock) hash = Mix(hash, step);
    return hash;
  }
};

struct Message {
  uint64_t value = 0;
  View view;
};

struct Cell {
  uint64_t value = 0;
  size_t writer = kThreadsMax;  // nobody
  uint16_t written = 0;         // the writer's clock
  std::array<uint16_t, kThreadsMax> read{};
};

enum class Phase { kIdle, kSetup, kRunning, kAfter };

struct Fiber {
  ucontext_t context{};
  std::unique_ptr<char[]> stack;
  bool finished = false;
  size_t waits_for = kLocationsMax;  // a location, or none
  View current;
  View acquired;  // what an acquire fence would add
  View released;  // what relaxed stores leave
  uint64_t steps = 0;
  uint64_t observed = 0;  // all that it read: with `steps` this says where in its code it is
};

struct Operation {
  const char* name;
  size_t thread;
  size_t location;
  uint64_t value;
};

struct Choice {
  uint32_t taken;
  uint32_t count;
};

bool IsAcquire(std::memory_order order) {
  return order == std::memory_order_acquire || order == std::memory_order_acq_rel;
}
bool IsRelease(std::memory_order order) {
  return order == std::memory_order_release || order == std::memory_order_acq_rel;
}

class Explorer {
 public:
  Verdict Run(const std::function<Program()>& make, const Limits& limits) {
    limits_ = limits;
    do {
      ++verdict_.runs;
      RunOnce(make);
      if (verdict_.failed) return verdict_;
      if (seen_.size() >= limits_.states_max) return verdict_;
    } while (Backtrack());
    verdict_.complete = true;
    verdict_.states = seen_.size();
    return verdict_;
  }

  void Fail(const std::string& what) {
    if (!verdict_.failed) {
      verdict_.failed = true;
      verdict_.what = what;
      for (const Operation& operation : trace_) {
        verdict_.what += fmt::format("\n  thread {}: {} #{} {}", operation.thread, operation.name, operation.location,
                                     operation.value);
      }
    }
    abandoned_ = true;
    if (phase_ == Phase::kRunning) SwitchOut();
  }

  size_t NewLocation(uint64_t value) {
    MS_CHECK(phase_ == Phase::kSetup);
    MS_CHECK(messages_.size() < kLocationsMax);
    messages_.push_back({{value, {}}});
    return messages_.size() - 1;
  }

  uint64_t Load(size_t location, std::memory_order order) {
    std::vector<Message>& messages = messages_[location];
    if (phase_ != Phase::kRunning) return messages.back().value;
    Point();
    Fiber& fiber = fibers_[running_];
    const size_t newest = messages.size() - 1;
    size_t options = 1;
    if (stale_reads_ < limits_.stale_reads_max) options += newest - fiber.current.stores[location];
    const size_t back = Choose(options);
    if (back > 0) {
      ++stale_reads_;
      ++verdict_.stale_reads;
    }
    const Message& message = messages[newest - back];
    Receive(location, newest - back, order);
    Observe("load", location, message.value);
    return message.value;
  }

  void Store(size_t location, uint64_t value, std::memory_order order) {
    std::vector<Message>& messages = messages_[location];
    if (phase_ != Phase::kRunning) {
      messages = {{value, {}}};
      return;
    }
    Point();
    Append(location, value, order, nullptr);
    Observe("store", location, value);
  }

  uint64_t ReadModifyWrite(size_t location, const uint64_t* expected, const std::function<uint64_t(uint64_t)>& change,
                           std::memory_order order) {
    std::vector<Message>& messages = messages_[location];
    if (phase_ != Phase::kRunning) {
      const uint64_t old = messages.back().value;
      if (expected == nullptr || old == *expected) messages = {{change(old), {}}};
      return old;
    }
    Point();
    const uint64_t old = messages.back().value;
    Receive(location, messages.size() - 1, order);
    if (expected == nullptr || old == *expected) {
      const View carried = messages.back().view;  // a release sequence goes on through it
      Append(location, change(old), order, &carried);
      Observe("change", location, messages.back().value);
    } else {
      Observe("refused change", location, old);
    }
    return old;
  }

  void Fence(std::memory_order order) {
    if (phase_ != Phase::kRunning) return;
    Point();
    Fiber& fiber = fibers_[running_];
    const bool total = order == std::memory_order_seq_cst;
    if (total || IsAcquire(order)) fiber.current.Join(fiber.acquired);
    if (total) {
      fiber.current.Join(fences_);
      fences_ = fiber.current;
      fiber.acquired.Join(fiber.current);
    }
    if (total || IsRelease(order)) fiber.released = fiber.current;
    ++fiber.current.clock[running_];
    Observe("fence", 0, 0);
  }

  void WaitWhile(size_t location, uint64_t value) {
    MS_CHECK(phase_ == Phase::kRunning);
    Point();
    Receive(location, messages_[location].size() - 1, std::memory_order_acquire);
    const uint64_t now = messages_[location].back().value;
    Observe("wait", location, now);
    if (now != value) return;
    fibers_[running_].waits_for = location;
    SwitchOut();
  }

  void NotifyOne(size_t location) {
    if (phase_ != Phase::kRunning) return;
    Point();
    Observe("notify", location, 0);
    for (Fiber& fiber : fibers_) {
      if (fiber.waits_for != location) continue;
      fiber.waits_for = kLocationsMax;
      return;
    }
  }

  size_t NewCell() {
    if (phase_ != Phase::kSetup) return kNoCell;
    MS_CHECK(cells_.size() < kCellsMax);
    cells_.emplace_back();
    return cells_.size() - 1;
  }

  void CellRead(size_t index, uint64_t value) {
    if (phase_ != Phase::kRunning) return;
    Fiber& fiber = fibers_[running_];
    fiber.observed = Mix(fiber.observed, value);
    if (index == kNoCell) return;
    Cell& cell = cells_[index];
    if (cell.writer != kThreadsMax && fiber.current.clock[cell.writer] < cell.written) {
      Fail(fmt::format("thread {} reads slot {} while thread {} writes it", running_, index, cell.writer));
    }
    cell.read[running_] = fiber.current.clock[running_];
  }

  void CellWrite(size_t index, uint64_t value) {
    if (phase_ != Phase::kRunning || index == kNoCell) return;
    Fiber& fiber = fibers_[running_];
    Cell& cell = cells_[index];
    if (cell.writer != kThreadsMax && fiber.current.clock[cell.writer] < cell.written) {
      Fail(fmt::format("threads {} and {} write slot {} at once", running_, cell.writer, index));
    }
    for (size_t other = 0; other < kThreadsMax; ++other) {
      if (fiber.current.clock[other] < cell.read[other]) {
        Fail(fmt::format("thread {} writes slot {} while thread {} reads it", running_, index, other));
      }
    }
    cell.value = value;
    cell.writer = running_;
    cell.written = fiber.current.clock[running_];
    cell.read = {};
  }

 private:
  void RunOnce(const std::function<Program()>& make) {
    messages_.clear();
    cells_.clear();
    fences_ = {};
    depth_ = 0;
    stale_reads_ = 0;
    operations_ = 0;
    abandoned_ = false;
    trace_.clear();
    phase_ = Phase::kSetup;
    program_ = make();
    const size_t count = program_.threads.size();
    MS_CHECK(count > 0 && count <= kThreadsMax);
    fibers_.resize(count);
    for (size_t i = 0; i < count; ++i) {
      Fiber& fiber = fibers_[i];
      if (fiber.stack == nullptr) fiber.stack = std::make_unique<char[]>(kStackBytes);
      fiber.finished = false;
      fiber.waits_for = kLocationsMax;
      fiber.current = fiber.acquired = fiber.released = View{};
      fiber.current.clock[i] = 1;  // so that what it does before its first store is newer than nothing
      fiber.steps = 0;
      fiber.observed = 1;
      MS_CHECK(getcontext(&fiber.context) == 0);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStackBytes;
      fiber.context.uc_link = &scheduler_;
      makecontext(&fiber.context, &Explorer::Enter, 0);
    }
    phase_ = Phase::kRunning;
    running_ = 0;
    Schedule();
    if (!abandoned_) {
      phase_ = Phase::kAfter;
      program_.after();
    }
    phase_ = Phase::kIdle;
  }

  void Schedule() {
    while (!abandoned_) {
      // The one that ran goes first: so the first run is the one without a switch.
      std::array<size_t, kThreadsMax> ready{};
      size_t count = 0;
      bool finished = true;
      for (size_t i = 0; i < fibers_.size(); ++i) {
        const size_t index = (running_ + i) % fibers_.size();
        const Fiber& fiber = fibers_[index];
        finished &= fiber.finished;
        if (!fiber.finished && fiber.waits_for == kLocationsMax) ready[count++] = index;
      }
      if (finished) return;
      if (count == 0) {
        phase_ = Phase::kAfter;
        Fail("every thread that is left waits, and nobody wakes it");
        return;
      }
      // Beyond the choices that are repeated: a state from which all has been tried already needs no second time.
      if (depth_ >= path_.size() && !seen_.insert(StateHash()).second) {
        abandoned_ = true;
        return;
      }
      running_ = ready[Choose(count)];
      MS_CHECK(swapcontext(&scheduler_, &fibers_[running_].context) == 0);
    }
  }

  static void Enter();
  void Body() {
    program_.threads[running_]();
    fibers_[running_].finished = true;
  }

  void SwitchOut() { MS_CHECK(swapcontext(&fibers_[running_].context, &scheduler_) == 0); }

  // Before each operation: another thread may come first.
  void Point() {
    if (++operations_ > limits_.operations_max) Fail("a loop without an end");
    ++fibers_[running_].steps;
    SwitchOut();
  }

  size_t Choose(size_t count) {
    if (depth_ == path_.size()) path_.push_back({0, static_cast<uint32_t>(count)});
    MS_CHECK(path_[depth_].count == count);  // else the program is not the same in each run
    return path_[depth_++].taken;
  }

  bool Backtrack() {
    while (!path_.empty() && path_.back().taken + 1 == path_.back().count) path_.pop_back();
    if (path_.empty()) return false;
    ++path_.back().taken;
    return true;
  }

  void Receive(size_t location, size_t index, std::memory_order order) {
    MS_CHECK(order != std::memory_order_seq_cst);  // fences are what this model knows of it
    Fiber& fiber = fibers_[running_];
    const auto store = static_cast<uint16_t>(index);
    fiber.current.stores[location] = std::max(fiber.current.stores[location], store);
    const View& view = messages_[location][index].view;
    fiber.acquired.Join(view);
    if (IsAcquire(order)) fiber.current.Join(view);
  }

  void Append(size_t location, uint64_t value, std::memory_order order, const View* carried) {
    MS_CHECK(order != std::memory_order_seq_cst);
    Fiber& fiber = fibers_[running_];
    const auto index = static_cast<uint16_t>(messages_[location].size());
    fiber.current.stores[location] = index;
    Message message{value, IsRelease(order) ? fiber.current : fiber.released};
    message.view.stores[location] = index;
    if (carried != nullptr) message.view.Join(*carried);
    messages_[location].push_back(message);
    ++fiber.current.clock[running_];  // what comes from here on is not in the message
  }

  void Observe(const char* operation, size_t location, uint64_t value) {
    fibers_[running_].observed = Mix(fibers_[running_].observed, value);
    trace_.push_back({operation, running_, location, value});
  }

  uint64_t StateHash() const {
    uint64_t hash = stale_reads_;
    for (const Fiber& fiber : fibers_) {
      hash = Mix(hash, fiber.finished ? 1 : 2);
      hash = Mix(hash, fiber.waits_for);
      hash = Mix(Mix(hash, fiber.steps), fiber.observed);
      hash = fiber.released.Hash(fiber.acquired.Hash(fiber.current.Hash(hash)));
    }
    for (const std::vector<Message>& messages : messages_) {
      hash = Mix(hash, messages.size());
      for (const Message& message : messages) hash = message.view.Hash(Mix(hash, message.value));
    }
    for (const Cell& cell : cells_) {
      hash = Mix(Mix(Mix(hash, cell.value), cell.writer), cell.written);
      for (const uint16_t read : cell.read) hash = Mix(hash, read);
    }
    return fences_.Hash(hash);
  }

  Limits limits_;
  Verdict verdict_;
  Program program_;
  Phase phase_ = Phase::kIdle;
  ucontext_t scheduler_{};
  std::vector<Fiber> fibers_;
  size_t running_ = 0;
  std::vector<std::vector<Message>> messages_;  // of each location, in the order of their stores
  std::vector<Cell> cells_;
  View fences_;
  std::vector<Choice> path_;
  size_t depth_ = 0;
  uint32_t stale_reads_ = 0;
  uint32_t operations_ = 0;
  bool abandoned_ = false;
  std::vector<Operation> trace_;
  std::unordered_set<uint64_t> seen_;
};

Explorer* explorer = nullptr;

void Explorer::Enter() {
  explorer->Body();
}

}  // namespace

Verdict Explore(const std::function<Program()>& make, const Limits& limits) {
  MS_CHECK(explorer == nullptr);
  Explorer here;
  explorer = &here;
  Verdict verdict = here.Run(make, limits);
  explorer = nullptr;
  return verdict;
}

void Require(bool condition, const char* reason) {
  if (!condition) explorer->Fail(reason);
}
size_t NewLocation(uint64_t value) {
  return explorer->NewLocation(value);
}
uint64_t Load(size_t location, std::memory_order order) {
  return explorer->Load(location, order);
}
void Store(size_t location, uint64_t value, std::memory_order order) {
  explorer->Store(location, value, order);
}
uint64_t ReadModifyWrite(size_t location, const uint64_t* expected, const std::function<uint64_t(uint64_t)>& change,
                         std::memory_order order) {
  return explorer->ReadModifyWrite(location, expected, change, order);
}
void Fence(std::memory_order order) {
  explorer->Fence(order);
}
void WaitWhile(size_t location, uint64_t value) {
  explorer->WaitWhile(location, value);
}
void NotifyOne(size_t location) {
  explorer->NotifyOne(location);
}
size_t NewCell() {
  return explorer->NewCell();
}
void CellRead(size_t cell, uint64_t value) {
  explorer->CellRead(cell, value);
}
void CellWrite(size_t cell, uint64_t value) {
  explorer->CellWrite(cell, value);
}

}  // namespace millstream::queue::model

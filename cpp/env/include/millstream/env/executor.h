// Executor: starts named threads.
//
// Threads     Start may be called from any thread. A Thread is destroyed by one thread, which waits for its end.
// Errors      kResourceExhausted when the system has no thread left; kInvalidArgument for an absent CPU.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "millstream/base/result.h"

namespace millstream::env {

struct ThreadOptions {
  // What tools such as top show; the system keeps the first 15 bytes.
  std::string name;
  // The CPU, counted from 0, on which alone the thread runs; none leaves the choice to the system.
  std::optional<int> cpu;
};

class Thread {
 public:
  // Waits for the body to return. Whoever owns the thread tells its body to stop first.
  virtual ~Thread() = default;
};

class Executor {
 public:
  virtual ~Executor() = default;

  virtual Result<std::unique_ptr<Thread>> Start(ThreadOptions options, std::function<void()> body) = 0;

  // How many CPUs this process may use; at least 1.
  virtual int cpu_count() const = 0;
};

}  // namespace millstream::env

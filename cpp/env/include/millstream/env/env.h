// Env: the outside world, as one value that is handed down to whatever needs it.
//
// The engine reaches clock, randomness, disk and threads only through it, so a test can exchange each of them.
// Ownership   Borrows: what it points to outlives whoever holds it.
#pragma once

#include "millstream/env/clock.h"
#include "millstream/env/executor.h"
#include "millstream/env/file_system.h"
#include "millstream/env/random.h"

namespace millstream::env {

struct Env {
  Clock* clock;
  Random* random;
  FileSystem* files;
  Executor* executor;
};

// The machine's own: POSIX files and threads, the system's clocks and random numbers. Lives as long as the process.
const Env& SystemEnv();

}  // namespace millstream::env

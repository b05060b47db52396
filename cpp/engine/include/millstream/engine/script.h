// Runs Prometheus's test scripts against the engine's own storage.
//
// Threads     Any; each run has stores of its own.
// Errors      In the report; see promqltest.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "millstream/base/result.h"
#include "millstream/promqltest/promqltest.h"

namespace millstream::engine {

// Stores of one partition in memory, as scripts expect them.
promqltest::StoreFactory ScriptStores();

}  // namespace millstream::engine

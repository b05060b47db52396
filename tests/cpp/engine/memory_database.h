// A database in memory, and a tenant besides the default one.
#pragma once

#include <memory>
#include <string>

#include "millstream/engine/database.h"

namespace millstream::engine {

inline constexpr TenantId kOther{7};

inline std::unique_ptr<Database> Memory() {
  DatabaseOptions options;
  options.partitions = 4;
  return Database::Open(std::string(kMemoryPath), options).value();
}

}  // namespace millstream::engine

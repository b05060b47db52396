// A database in memory, a tenant besides the default one, and samples as text.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "millstream/engine/database.h"

namespace millstream::engine {

inline constexpr TenantId kOther{7};

inline std::unique_ptr<Database> Memory() {
  DatabaseOptions options;
  options.partitions = 4;
  return Database::Open(std::string(kMemoryPath), options).value();
}

inline Result<PushOutcome> PushText(Database& db, std::string_view text, TimestampMs default_timestamp = 0) {
  return db.Push(kDefaultTenant, {.format = "text", .body = text, .default_timestamp = default_timestamp});
}

}  // namespace millstream::engine

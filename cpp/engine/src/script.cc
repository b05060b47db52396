#include "millstream/engine/script.h"

#include <utility>

#include "millstream/tsdb/partition.h"
#include "millstream/tsdb/partition_appender.h"

namespace millstream::engine {
namespace {

class ScriptStore final : public promqltest::Store {
 public:
  Result<std::unique_ptr<storage::Appender>> MakeAppender() override {
    return std::unique_ptr<storage::Appender>(std::make_unique<tsdb::PartitionAppender>(*partition_));
  }
  Result<std::unique_ptr<storage::Querier>> MakeQuerier() override { return partition_->MakeQuerier(TenantId(0)); }

 private:
  std::unique_ptr<tsdb::Partition> partition_ = tsdb::Partition::MakeInMemory(tsdb::ScriptPartitionOptions());
};

}  // namespace

promqltest::StoreFactory ScriptStores() {
  return []() -> Result<std::unique_ptr<promqltest::Store>> {
    return std::unique_ptr<promqltest::Store>(std::make_unique<ScriptStore>());
  };
}

}  // namespace millstream::engine

// MergeQueryable: many stores as one, each series living in exactly one of them: the partitions of a node.
//
// Threads     Safe from any thread.
// Ownership   Borrows the stores; they outlive it and its queriers.
// Cost        A merge by labels: O(series · log stores).
#pragma once

#include <memory>
#include <vector>

#include "millstream/storage/queryable.h"

namespace millstream::tsdb {

class MergeQueryable final : public storage::Queryable {
 public:
  explicit MergeQueryable(std::vector<const storage::Queryable*> stores) : stores_(std::move(stores)) {}

  Result<std::unique_ptr<storage::Querier>> MakeQuerier(TenantId tenant) const override;

 private:
  std::vector<const storage::Queryable*> stores_;
};

}  // namespace millstream::tsdb

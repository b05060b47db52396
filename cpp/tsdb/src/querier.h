// PartitionQuerier: storage::Querier over one partition's head and blocks.
//
// A series is selected from the head first and from the blocks after it, and read in that order too: samples leave the
// head only once a block has them, so nothing is missed while the writer moves them; what is seen twice is merged.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "millstream/storage/queryable.h"
#include "partition_impl.h"

namespace millstream::tsdb {

class PartitionQuerier final : public storage::Querier {
 public:
  PartitionQuerier(const PartitionImpl& partition, TenantId tenant) : partition_(partition), tenant_(tenant) {}

  Result<std::vector<std::unique_ptr<storage::SelectedSeries>>> Select(storage::TimeRange range,
                                                                       std::span<const model::Matcher> matchers,
                                                                       const storage::SelectHints& hints,
                                                                       storage::QueryControl& control) const override;
  Result<std::vector<std::string>> LabelNames(storage::TimeRange range, std::span<const model::Matcher> matchers,
                                              size_t limit, storage::QueryControl& control) const override;
  Result<std::vector<std::string>> LabelValues(std::string_view name, storage::TimeRange range,
                                               std::span<const model::Matcher> matchers, size_t limit,
                                               storage::QueryControl& control) const override;

 private:
  const PartitionImpl& partition_;
  const TenantId tenant_;
};

}  // namespace millstream::tsdb

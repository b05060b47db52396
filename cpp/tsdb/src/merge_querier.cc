#include "millstream/tsdb/merge_querier.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <string>
#include <utility>

namespace millstream::tsdb {
namespace {

using SelectedList = std::vector<std::unique_ptr<storage::SelectedSeries>>;

class MergeQuerier final : public storage::Querier {
 public:
  explicit MergeQuerier(std::vector<std::unique_ptr<storage::Querier>> queriers) : queriers_(std::move(queriers)) {}

  Result<SelectedList> Select(storage::TimeRange range, std::span<const model::Matcher> matchers,
                              const storage::SelectHints& hints, storage::QueryControl& control) const override {
    SelectedList all;
    for (const auto& querier : queriers_) {
      MS_ASSIGN_OR_RETURN(SelectedList part, querier->Select(range, matchers, hints, control));
      SelectedList merged;
      merged.reserve(all.size() + part.size());
      std::merge(std::make_move_iterator(all.begin()), std::make_move_iterator(all.end()),
                 std::make_move_iterator(part.begin()), std::make_move_iterator(part.end()), std::back_inserter(merged),
                 [](const auto& a, const auto& b) { return a->labels() < b->labels(); });
      all = std::move(merged);
    }
    return all;
  }

  Result<std::vector<std::string>> LabelNames(storage::TimeRange range, std::span<const model::Matcher> matchers,
                                              size_t limit, storage::QueryControl& control) const override {
    return Union(limit,
                 [&](const storage::Querier& querier) { return querier.LabelNames(range, matchers, limit, control); });
  }

  Result<std::vector<std::string>> LabelValues(std::string_view name, storage::TimeRange range,
                                               std::span<const model::Matcher> matchers, size_t limit,
                                               storage::QueryControl& control) const override {
    return Union(limit, [&](const storage::Querier& querier) {
      return querier.LabelValues(name, range, matchers, limit, control);
    });
  }

 private:
  template <typename F>
  Result<std::vector<std::string>> Union(size_t limit, F&& of) const {
    std::set<std::string> merged;
    for (const auto& querier : queriers_) {
      MS_ASSIGN_OR_RETURN(std::vector<std::string> part, of(*querier));
      for (std::string& item : part) merged.insert(std::move(item));
    }
    std::vector<std::string> result(merged.begin(), merged.end());
    if (limit != 0 && result.size() > limit + 1) result.resize(limit + 1);
    return result;
  }

  const std::vector<std::unique_ptr<storage::Querier>> queriers_;
};

}  // namespace

Result<std::unique_ptr<storage::Querier>> MergeQueryable::MakeQuerier(TenantId tenant) const {
  std::vector<std::unique_ptr<storage::Querier>> queriers;
  for (const storage::Queryable* store : stores_) {
    MS_ASSIGN_OR_RETURN(auto querier, store->MakeQuerier(tenant));
    queriers.push_back(std::move(querier));
  }
  return std::make_unique<MergeQuerier>(std::move(queriers));
}

}  // namespace millstream::tsdb

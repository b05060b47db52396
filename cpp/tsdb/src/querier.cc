#include "querier.h"

#include <algorithm>
#include <set>
#include <utility>

#include "sample_merge.h"

namespace millstream::tsdb {
namespace {

constexpr size_t kCheckEvery = 1024;

class HeadSeries final : public storage::SelectedSeries {
 public:
  explicit HeadSeries(SeriesPtr series) : series_(std::move(series)) {}

  const model::Labels& labels() const override { return series_->labels; }

  Status Read(storage::TimeRange range, storage::SampleColumns* out) const override {
    out->Clear();
    SampleSources sources;
    {
      MutexLock lock(series_->mutex);
      series_->data.Collect(range, &sources);
    }
    return MergeSamples(range, sources, out);
  }

 private:
  const SeriesPtr series_;
};

void Truncate(size_t limit, std::vector<std::string>* values) {
  if (limit != 0 && values->size() > limit + 1) values->resize(limit + 1);
}

}  // namespace

Result<std::vector<std::unique_ptr<storage::SelectedSeries>>> PartitionQuerier::Select(
    storage::TimeRange range, std::span<const model::Matcher> matchers, const storage::SelectHints&,
    storage::QueryControl& control) const {
  MS_RETURN_IF_ERROR(control.Check());
  std::vector<SeriesPtr> found;
  if (const TenantHead* head = partition_.FindTenant(tenant_); head != nullptr) {
    MS_ASSIGN_OR_RETURN(found, head->Select(matchers, control));
  }
  size_t seen = 0;
  std::vector<SeriesPtr> in_range;
  for (SeriesPtr& series : found) {
    if (++seen % kCheckEvery == 0) MS_RETURN_IF_ERROR(control.Check());
    bool overlaps = false;
    {
      MutexLock lock(series->mutex);
      overlaps = series->data.Overlaps(range);
    }
    if (overlaps) in_range.push_back(std::move(series));
  }
  MS_RETURN_IF_ERROR(control.AddBytes(static_cast<int64_t>(in_range.size() * sizeof(HeadSeries))));
  std::sort(in_range.begin(), in_range.end(),
            [](const SeriesPtr& a, const SeriesPtr& b) { return a->labels < b->labels; });
  std::vector<std::unique_ptr<storage::SelectedSeries>> selected;
  selected.reserve(in_range.size());
  for (SeriesPtr& series : in_range) selected.push_back(std::make_unique<HeadSeries>(std::move(series)));
  return selected;
}

Result<std::vector<std::string>> PartitionQuerier::LabelNames(storage::TimeRange range,
                                                              std::span<const model::Matcher> matchers, size_t limit,
                                                              storage::QueryControl& control) const {
  std::set<std::string, std::less<>> names;
  if (matchers.empty()) {
    if (const TenantHead* head = partition_.FindTenant(tenant_); head != nullptr) {
      for (std::string& name : head->LabelNames(limit)) names.insert(std::move(name));
    }
  } else {
    MS_ASSIGN_OR_RETURN(const auto selected, Select(range, matchers, {}, control));
    for (const auto& series : selected) {
      for (const model::Label label : series->labels()) {
        if (!names.contains(label.name)) names.emplace(label.name);
      }
    }
  }
  std::vector<std::string> result(names.begin(), names.end());
  Truncate(limit, &result);
  return result;
}

Result<std::vector<std::string>> PartitionQuerier::LabelValues(std::string_view name, storage::TimeRange range,
                                                               std::span<const model::Matcher> matchers, size_t limit,
                                                               storage::QueryControl& control) const {
  std::set<std::string, std::less<>> values;
  if (matchers.empty()) {
    if (const TenantHead* head = partition_.FindTenant(tenant_); head != nullptr) {
      for (std::string& value : head->LabelValues(name, limit)) values.insert(std::move(value));
    }
  } else {
    MS_ASSIGN_OR_RETURN(const auto selected, Select(range, matchers, {}, control));
    for (const auto& series : selected) {
      const std::string_view value = series->labels().Get(name);
      if (!value.empty() && !values.contains(value)) values.emplace(value);
    }
  }
  std::vector<std::string> result(values.begin(), values.end());
  Truncate(limit, &result);
  return result;
}

}  // namespace millstream::tsdb

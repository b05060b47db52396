#include "querier.h"

#include <algorithm>
#include <set>
#include <utility>

#include "sample_merge.h"

namespace millstream::tsdb {
namespace {

constexpr size_t kCheckEverySeries = 1024;

// A series of one block. Ids are those of the block's index.
struct PlaceInBlock {
  const Block* block;  // held by the block set
  std::shared_ptr<const TenantBlock> tenant;
  const BlockSeries* series;
};

class MergedSeries final : public storage::SelectedSeries {
 public:
  MergedSeries(const PartitionImpl& partition, TenantId tenant, SeriesPtr head, std::shared_ptr<const BlockSet> set,
               std::vector<PlaceInBlock> places)
      : partition_(partition),
        tenant_(tenant),
        head_(std::move(head)),
        set_(std::move(set)),
        places_(std::move(places)),
        labels_(head_ != nullptr ? head_->labels : places_.front().series->labels) {}

  const model::Labels& labels() const override { return labels_; }

  Status Read(storage::TimeRange range, storage::SampleColumns* out) const override {
    out->Clear();
    SampleSources head;
    if (head_ != nullptr) {
      MutexLock lock(head_->mutex);
      head_->data.Collect(range, &head);
    }
    // Whatever left the head before this moment is in a block by now.
    SampleSources sources;
    const auto set = partition_.Blocks();
    if (set->generation == set_->generation) {
      for (const PlaceInBlock& place : places_)
        MS_RETURN_IF_ERROR(Collect(*place.block, *place.series, range, &sources));
    } else {
      for (const auto& block : set->blocks) {
        if (!block->Overlaps(range)) continue;
        MS_ASSIGN_OR_RETURN(const auto tenant, block->Tenant(tenant_));
        const BlockSeries* series = tenant == nullptr ? nullptr : tenant->Find(labels_);
        if (series != nullptr) MS_RETURN_IF_ERROR(Collect(*block, *series, range, &sources));
      }
    }
    std::move(head.chunks.begin(), head.chunks.end(), std::back_inserter(sources.chunks));
    sources.columns = std::move(head.columns);
    return MergeSamples(range, sources, out);
  }

 private:
  static Status Collect(const Block& block, const BlockSeries& series, storage::TimeRange range,
                        SampleSources* sources) {
    for (const BlockChunk& place : series.chunks) {
      if (!place.Overlaps(range)) continue;
      MS_ASSIGN_OR_RETURN(auto chunk, block.ReadChunk(place));
      sources->chunks.push_back(std::move(chunk));
    }
    return Status::Ok();
  }

  const PartitionImpl& partition_;
  const TenantId tenant_;
  const SeriesPtr head_;  // null: in blocks only
  const std::shared_ptr<const BlockSet> set_;
  const std::vector<PlaceInBlock> places_;
  const model::Labels& labels_;
};

// One series of one source, before those of the same labels are put together.
struct Found {
  const model::Labels* labels;
  SeriesPtr head;
  PlaceInBlock place;
};

void Truncate(size_t limit, std::vector<std::string>* values) {
  if (limit != 0 && values->size() > limit + 1) values->resize(limit + 1);
}

Status SelectInHead(const TenantHead& head, storage::TimeRange range, std::span<const model::Matcher> matchers,
                    storage::QueryControl& control, std::vector<Found>* found) {
  MS_ASSIGN_OR_RETURN(std::vector<SeriesPtr> selected, head.Select(matchers, control));
  size_t seen = 0;
  for (SeriesPtr& series : selected) {
    if (++seen % kCheckEverySeries == 0) MS_RETURN_IF_ERROR(control.Check());
    bool overlaps = false;
    {
      MutexLock lock(series->mutex);
      overlaps = series->data.Overlaps(range);
    }
    if (!overlaps) continue;
    const model::Labels* labels = &series->labels;
    found->push_back({labels, std::move(series), {}});
  }
  return Status::Ok();
}

Status SelectInBlock(const Block& block, TenantId tenant, storage::TimeRange range,
                     std::span<const model::Matcher> matchers, storage::QueryControl& control,
                     std::vector<Found>* found) {
  MS_ASSIGN_OR_RETURN(const auto index, block.Tenant(tenant));
  if (index == nullptr) return Status::Ok();
  MS_ASSIGN_OR_RETURN(
      const SeriesIds ids,
      index->index.Select(
          matchers, [&](uint32_t id) -> const model::Labels& { return index->series[id].labels; }, control));
  size_t seen = 0;
  for (const uint32_t id : ids) {
    if (++seen % kCheckEverySeries == 0) MS_RETURN_IF_ERROR(control.Check());
    const BlockSeries& series = index->series[id];
    if (std::any_of(series.chunks.begin(), series.chunks.end(), [&](const auto& c) { return c.Overlaps(range); })) {
      found->push_back({&series.labels, nullptr, {&block, index, &series}});
    }
  }
  return Status::Ok();
}

}  // namespace

Result<std::vector<std::unique_ptr<storage::SelectedSeries>>> PartitionQuerier::Select(
    storage::TimeRange range, std::span<const model::Matcher> matchers, const storage::SelectHints&,
    storage::QueryControl& control) const {
  MS_RETURN_IF_ERROR(control.Check());
  std::vector<Found> found;
  if (const TenantHead* head = partition_.FindTenant(tenant_); head != nullptr) {
    MS_RETURN_IF_ERROR(SelectInHead(*head, range, matchers, control, &found));
  }
  const auto set = partition_.Blocks();
  for (const auto& block : set->blocks) {
    if (block->Overlaps(range)) MS_RETURN_IF_ERROR(SelectInBlock(*block, tenant_, range, matchers, control, &found));
  }
  MS_RETURN_IF_ERROR(control.AddBytes(static_cast<int64_t>(found.size() * sizeof(MergedSeries))));
  // Of one label set the blocks in their order: who comes first wins where samples collide.
  std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) {
    if (const auto order = *a.labels <=> *b.labels; order != 0) return order < 0;
    const uint64_t a_sequence = a.place.block == nullptr ? 0 : a.place.block->meta().sequence;
    return a_sequence < (b.place.block == nullptr ? 0 : b.place.block->meta().sequence);
  });
  std::vector<std::unique_ptr<storage::SelectedSeries>> selected;
  for (size_t begin = 0; begin < found.size();) {
    SeriesPtr head;
    std::vector<PlaceInBlock> places;
    size_t end = begin;
    for (; end < found.size() && *found[end].labels == *found[begin].labels; ++end) {
      if (found[end].head != nullptr) {
        head = found[end].head;
      } else {
        places.push_back(found[end].place);
      }
    }
    begin = end;
    selected.push_back(std::make_unique<MergedSeries>(partition_, tenant_, std::move(head), set, std::move(places)));
  }
  return selected;
}

Result<std::vector<std::string>> PartitionQuerier::LabelNames(storage::TimeRange range,
                                                              std::span<const model::Matcher> matchers, size_t limit,
                                                              storage::QueryControl& control) const {
  std::set<std::string, std::less<>> names;
  const auto add = [&names](std::string_view name) {
    if (!names.contains(name)) names.emplace(name);
  };
  if (matchers.empty()) {
    if (const TenantHead* head = partition_.FindTenant(tenant_); head != nullptr) {
      for (const std::string& name : head->LabelNames(limit)) add(name);
    }
    const std::shared_ptr<const BlockSet> set = partition_.Blocks();
    for (const auto& block : set->blocks) {
      if (!block->Overlaps(range)) continue;
      MS_RETURN_IF_ERROR(control.Check());
      MS_ASSIGN_OR_RETURN(const auto index, block->Tenant(tenant_));
      if (index == nullptr) continue;
      for (const auto& [name, values] : index->index.names()) add(name);
    }
  } else {
    MS_ASSIGN_OR_RETURN(const auto selected, Select(range, matchers, {}, control));
    for (const auto& series : selected) {
      for (const model::Label label : series->labels()) add(label.name);
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
  const auto add = [&values](std::string_view value) {
    if (!value.empty() && !values.contains(value)) values.emplace(value);
  };
  if (matchers.empty()) {
    if (const TenantHead* head = partition_.FindTenant(tenant_); head != nullptr) {
      for (const std::string& value : head->LabelValues(name, limit)) add(value);
    }
    const std::shared_ptr<const BlockSet> set = partition_.Blocks();
    for (const auto& block : set->blocks) {
      if (!block->Overlaps(range)) continue;
      MS_RETURN_IF_ERROR(control.Check());
      MS_ASSIGN_OR_RETURN(const auto index, block->Tenant(tenant_));
      const LabelIndex::Values* of_name = index == nullptr ? nullptr : index->index.values(name);
      if (of_name == nullptr) continue;
      for (const auto& [value, ids] : *of_name) add(value);
    }
  } else {
    MS_ASSIGN_OR_RETURN(const auto selected, Select(range, matchers, {}, control));
    for (const auto& series : selected) add(series->labels().Get(name));
  }
  std::vector<std::string> result(values.begin(), values.end());
  Truncate(limit, &result);
  return result;
}

}  // namespace millstream::tsdb

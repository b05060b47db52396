#include "tenant_head.h"

#include <algorithm>

#include "millstream/base/check.h"

namespace millstream::tsdb {
namespace {

// A series itself, its control block, its place in the tables.
constexpr int64_t kSeriesBytes = sizeof(MemSeries) + 16 + 64 + 16 + 8;

// The greatest `limit` counts, descending, then by name.
std::vector<NamedCount> Top(std::vector<NamedCount> counts, size_t limit) {
  const auto before = [](const NamedCount& a, const NamedCount& b) {
    return a.count != b.count ? a.count > b.count : a.name < b.name;
  };
  const size_t keep = std::min(limit, counts.size());
  std::partial_sort(counts.begin(), counts.begin() + static_cast<ptrdiff_t>(keep), counts.end(), before);
  counts.resize(keep);
  return counts;
}

}  // namespace

MemSeries* TenantHead::FindByRef(SeriesRef ref) const {
  const uint64_t page = ref.value() / kPageRefs;
  if (page >= by_ref_.size() || by_ref_[page] == nullptr) return nullptr;
  return by_ref_[page]->series[ref.value() % kPageRefs];
}

MemSeries* TenantHead::FindByLabels(const model::Labels& labels) const {
  const auto found = by_labels_.find(labels.encoded());
  return found == by_labels_.end() ? nullptr : found->second;
}

SeriesPtr TenantHead::Find(const model::Labels& labels) const {
  ReaderLock lock(mutex_);
  const MemSeries* found = FindByLabels(labels);
  return found == nullptr ? nullptr : by_slot_[found->slot];
}

void TenantHead::SetRef(SeriesRef ref, MemSeries* series) {
  const uint64_t page = ref.value() / kPageRefs;
  if (page >= by_ref_.size()) by_ref_.resize(page + 1);
  if (by_ref_[page] == nullptr) by_ref_[page] = std::make_unique<Page>();
  MemSeries*& place = by_ref_[page]->series[ref.value() % kPageRefs];
  by_ref_[page]->used += (series != nullptr ? 1 : 0);
  by_ref_[page]->used -= (place != nullptr ? 1 : 0);
  place = series;
  if (by_ref_[page]->used == 0) by_ref_[page].reset();
}

TenantHead::Place TenantHead::ReservePlace(const storage::SeriesLimits& limits, std::chrono::nanoseconds now) {
  // Relaxed: the numbers themselves are all that is told.
  uint64_t count = count_->series.load(std::memory_order_relaxed);
  do {
    if (limits.most != 0 && count >= limits.most) return Place::kFull;
  } while (!count_->series.compare_exchange_weak(count, count + 1, std::memory_order_relaxed));
  if (limits.new_per_second != 0) {
    // A second's worth may be ahead of its turn.
    constexpr int64_t kSecondNs = 1'000'000'000;
    const int64_t interval =
        std::max<int64_t>(1, kSecondNs / static_cast<int64_t>(std::min<uint64_t>(limits.new_per_second, kSecondNs)));
    int64_t next = count_->next_new_ns.load(std::memory_order_relaxed);
    int64_t due = 0;
    do {
      due = std::max(next, static_cast<int64_t>(now.count()));
      if (due - now.count() > kSecondNs - interval) {
        count_->series.fetch_sub(1, std::memory_order_relaxed);
        return Place::kTooFast;
      }
    } while (!count_->next_new_ns.compare_exchange_weak(next, due + interval, std::memory_order_relaxed));
  }
  ++places_;
  return Place::kKept;
}

void TenantHead::ReleasePlaces() {
  count_->series.fetch_sub(places_, std::memory_order_relaxed);
  places_ = 0;
}

std::vector<MemSeries*> TenantHead::Create(std::vector<NewSeries> series) {
  const uint64_t placed = std::min<uint64_t>(places_, series.size());
  places_ -= placed;
  count_->series.fetch_add(series.size() - placed, std::memory_order_relaxed);
  std::vector<MemSeries*> created;
  created.reserve(series.size());
  WriterLock lock(mutex_);
  for (NewSeries& item : series) {
    uint32_t slot = 0;
    if (free_slots_.empty()) {
      slot = static_cast<uint32_t>(by_slot_.size());
      by_slot_.emplace_back();
    } else {
      slot = free_slots_.back();
      free_slots_.pop_back();
    }
    auto pointer = std::make_shared<MemSeries>(item.ref, slot, std::move(item.labels));
    MemSeries* raw = pointer.get();
    MS_CHECK(by_labels_.emplace(raw->labels.encoded(), raw).second);
    MS_CHECK(FindByRef(item.ref) == nullptr);
    SetRef(item.ref, raw);
    index_.Add(slot, raw->labels);
    series_bytes_ += kSeriesBytes + static_cast<int64_t>(raw->labels.encoded().size());
    by_slot_[slot] = std::move(pointer);
    created.push_back(raw);
  }
  return created;
}

void TenantHead::Rename(MemSeries* series, SeriesRef ref) {
  older_refs_.emplace(series, series->ref.value());
  series->ref = ref;
  SetRef(ref, series);
}

void TenantHead::Remove(std::span<MemSeries* const> series) {
  count_->series.fetch_sub(series.size(), std::memory_order_relaxed);
  WriterLock lock(mutex_);
  for (MemSeries* item : series) {
    const auto [begin, end] = older_refs_.equal_range(item);
    for (auto at = begin; at != end; ++at) SetRef(SeriesRef(at->second), nullptr);
    older_refs_.erase(item);
    SetRef(item->ref, nullptr);
    by_labels_.erase(item->labels.encoded());
    index_.Remove(item->slot, item->labels);
    series_bytes_ -= kSeriesBytes + static_cast<int64_t>(item->labels.encoded().size());
    free_slots_.push_back(item->slot);
    // The last step: it may destroy *item.
    by_slot_[item->slot].reset();
  }
}

std::vector<SeriesPtr> TenantHead::AllSeries() const {
  std::vector<SeriesPtr> all;
  {
    ReaderLock lock(mutex_);
    for (const SeriesPtr& series : by_slot_) {
      if (series != nullptr) all.push_back(series);
    }
  }
  std::sort(all.begin(), all.end(), [](const SeriesPtr& a, const SeriesPtr& b) { return a->ref < b->ref; });
  return all;
}

Result<std::vector<SeriesPtr>> TenantHead::Select(std::span<const model::Matcher> matchers,
                                                  storage::QueryControl& control) const {
  std::vector<SeriesPtr> selected;
  ReaderLock lock(mutex_);
  const SeriesPtr* const by_slot = by_slot_.data();
  MS_ASSIGN_OR_RETURN(
      const SeriesIds ids,
      index_.Select(matchers, [by_slot](uint32_t id) -> const model::Labels& { return by_slot[id]->labels; }, control));
  selected.reserve(ids.cardinality());
  for (const uint32_t id : ids) selected.push_back(by_slot_[id]);
  return selected;
}

std::vector<std::string> TenantHead::LabelNames(size_t limit) const {
  std::vector<std::string> names;
  ReaderLock lock(mutex_);
  for (const auto& [name, values] : index_.names()) {
    if (limit != 0 && names.size() > limit) break;
    names.push_back(name);
  }
  return names;
}

std::vector<std::string> TenantHead::LabelValues(std::string_view name, size_t limit) const {
  std::vector<std::string> values;
  ReaderLock lock(mutex_);
  const LabelIndex::Values* of_name = index_.values(name);
  if (of_name == nullptr) return values;
  for (const auto& [value, ids] : *of_name) {
    if (limit != 0 && values.size() > limit) break;
    values.push_back(value);
  }
  return values;
}

bool TenantHead::WouldChange(const model::MetricMetadata& metadata) const {
  MutexLock lock(metadata_mutex_);
  const auto found = metadata_.find(metadata.metric);
  if (found == metadata_.end()) return metadata_.size() < kMetadataMetricsMax;
  return found->second != metadata;
}

void TenantHead::SetMetadata(const model::MetricMetadata& metadata) {
  MutexLock lock(metadata_mutex_);
  metadata_[metadata.metric] = metadata;
}

std::vector<model::MetricMetadata> TenantHead::Metadata(std::string_view metric, size_t limit) const {
  std::vector<model::MetricMetadata> result;
  MutexLock lock(metadata_mutex_);
  for (auto at = metric.empty() ? metadata_.begin() : metadata_.find(metric); at != metadata_.end(); ++at) {
    if (limit != 0 && result.size() >= limit) break;
    result.push_back(at->second);
    if (!metric.empty()) break;
  }
  return result;
}

TenantStatus TenantHead::Status(size_t limit) const {
  TenantStatus status;
  std::vector<SeriesPtr> all;
  {
    ReaderLock lock(mutex_);
    all = by_slot_;
    status.label_pairs = index_.pairs();
    std::vector<NamedCount> by_metric;
    std::vector<NamedCount> values_by_name;
    std::vector<NamedCount> bytes_by_name;
    std::vector<NamedCount> by_pair;
    for (const auto& [name, values] : index_.names()) {
      uint64_t bytes = 0;
      for (const auto& [value, ids] : values) {
        const uint64_t series = ids.cardinality();
        bytes += value.size() * series;
        by_pair.push_back({name + "=" + value, series});
        if (name == model::kMetricName) by_metric.push_back({value, series});
      }
      values_by_name.push_back({name, values.size()});
      bytes_by_name.push_back({name, bytes});
    }
    status.series_count_by_metric_name = Top(std::move(by_metric), limit);
    status.label_value_count_by_label_name = Top(std::move(values_by_name), limit);
    status.memory_bytes_by_label_name = Top(std::move(bytes_by_name), limit);
    status.series_count_by_label_pair = Top(std::move(by_pair), limit);
  }
  bool any = false;
  for (const SeriesPtr& series : all) {
    if (series == nullptr) continue;
    ++status.series;
    MutexLock lock(series->mutex);
    status.chunks += series->data.chunks();
    if (series->data.empty()) continue;
    const storage::TimeRange span = series->data.TimeSpan();
    status.min_time = any ? std::min(status.min_time, span.min) : span.min;
    status.max_time = any ? std::max(status.max_time, span.max) : span.max;
    any = true;
  }
  return status;
}

int64_t TenantHead::index_bytes() const {
  ReaderLock lock(mutex_);
  return index_.memory_bytes() + series_bytes_;
}

uint64_t TenantHead::series_in_index() const {
  ReaderLock lock(mutex_);
  return index_.all().cardinality();
}

}  // namespace millstream::tsdb

#include "millstream/tsdb/partition.h"

#include <utility>

#include "partition_impl.h"
#include "querier.h"

namespace millstream::tsdb {

Partition::Partition(std::unique_ptr<PartitionImpl> impl) : impl_(std::move(impl)) {}
Partition::~Partition() = default;

std::unique_ptr<Partition> Partition::MakeInMemory(PartitionOptions options) {
  return std::unique_ptr<Partition>(
      new Partition(std::make_unique<PartitionImpl>(options, nullptr, nullptr, std::string(), nullptr)));
}

Result<std::optional<Offset>> Partition::Write(storage::WriteBatch& batch, storage::WriteOutcome* outcome) {
  return impl_->Write(batch, outcome);
}

Status Partition::ApplyRecord(std::string_view record, Offset offset) {
  return impl_->ApplyRecord(record, offset);
}

Result<std::unique_ptr<Partition>> Partition::Open(PartitionOptions options, env::FileSystem& files, env::Clock& clock,
                                                   std::string folder, storage::Log* log) {
  auto impl = std::make_unique<PartitionImpl>(options, &files, &clock, std::move(folder), log);
  MS_RETURN_IF_ERROR(impl->Recover());
  return std::unique_ptr<Partition>(new Partition(std::move(impl)));
}

Status Partition::Checkpoint() {
  return impl_->Checkpoint();
}

void Partition::BeginCheckpoint() {
  impl_->BeginCheckpoint();
}

Status Partition::RunCheckpoint() {
  return impl_->RunCheckpoint();
}

Status Partition::DropExpiredBlocks() {
  return impl_->DropExpiredBlocks();
}

std::optional<Offset> Partition::applied_offset() const {
  return impl_->applied_offset();
}

Result<std::unique_ptr<storage::Querier>> Partition::MakeQuerier(TenantId tenant) const {
  return std::make_unique<PartitionQuerier>(*impl_, tenant);
}

std::optional<LastSample> Partition::Last(TenantId tenant, const model::Labels& labels) const {
  const TenantHead* head = impl_->FindTenant(tenant);
  const SeriesPtr series = head == nullptr ? nullptr : head->Find(labels);
  if (series == nullptr) return std::nullopt;
  SampleSources sources;
  storage::TimeRange newest{};
  {
    MutexLock lock(series->mutex);
    const std::optional<TimestampMs> time = series->data.max_time();
    if (!time) return std::nullopt;
    newest = {*time, *time};
    series->data.Collect(newest, &sources);
  }
  storage::SampleColumns found;
  if (!MergeSamples(newest, sources, &found).ok() || found.size() != 1) return std::nullopt;
  const auto first = [](const std::vector<TimestampMs>& column) { return column.empty() ? 0 : column[0]; };
  LastSample last{.timestamp = newest.max, .histogram = nullptr};
  if (found.histograms.empty()) {
    last.value = found.values[0];
    last.start = first(found.start_timestamps);
  } else {
    last.histogram = found.histograms[0];
    last.start = first(found.histogram_start_timestamps);
  }
  return last;
}

std::vector<model::MetricMetadata> Partition::Metadata(TenantId tenant, std::string_view metric, size_t limit) const {
  const TenantHead* head = impl_->FindTenant(tenant);
  return head == nullptr ? std::vector<model::MetricMetadata>() : head->Metadata(metric, limit);
}

std::vector<model::SeriesExemplars> Partition::Exemplars(TenantId tenant, storage::TimeRange range,
                                                         std::span<const std::vector<model::Matcher>> selectors) const {
  const TenantHead* head = impl_->FindTenant(tenant);
  return head == nullptr ? std::vector<model::SeriesExemplars>() : head->exemplars().Select(range, selectors);
}

TenantStatus Partition::StatusOf(TenantId tenant, size_t limit) const {
  const TenantHead* head = impl_->FindTenant(tenant);
  return head == nullptr ? TenantStatus() : head->Status(limit);
}

PartitionStats Partition::Stats() const {
  return impl_->Stats();
}

}  // namespace millstream::tsdb

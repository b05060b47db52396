#include "partition_impl.h"

#include <algorithm>
#include <span>
#include <utility>

#include "batch_stager.h"
#include "millstream/base/check.h"
#include "millstream/storage/log.h"

namespace millstream::tsdb {
namespace {

PartitionOptions Bounded(PartitionOptions options) {
  if (options.series_counts == nullptr) options.series_counts = std::make_shared<SeriesCounts>();
  options.block_range_ms = std::max<int64_t>(options.block_range_ms, 1);
  options.out_of_order_window_ms = std::max<int64_t>(options.out_of_order_window_ms, 0);
  options.float_chunk_samples_max =
      std::clamp<uint32_t>(options.float_chunk_samples_max, 1, static_cast<uint32_t>(kChunkSamplesMax));
  options.histogram_chunk_samples_max =
      std::clamp<uint32_t>(options.histogram_chunk_samples_max, 1, static_cast<uint32_t>(kChunkSamplesMax));
  return options;
}

}  // namespace

PartitionImpl::PartitionImpl(PartitionOptions options, env::FileSystem* files, env::Clock* clock, std::string folder,
                             storage::Log* log)
    : options_(Bounded(options)),
      limits_{options_.block_range_ms, options_.float_chunk_samples_max, options_.histogram_chunk_samples_max},
      files_(files),
      clock_(clock),
      folder_(std::move(folder)),
      log_(log) {
  if (files_ != nullptr) store_ = std::make_unique<BlockStore>(*files_, folder_);
}

TenantHead& PartitionImpl::TenantFor(TenantId tenant) {
  WriterLock lock(tenants_mutex_);
  auto& head = tenants_[tenant.value()];
  if (head == nullptr) {
    head = std::make_unique<TenantHead>(tenant, options_.exemplar_bytes_max, options_.series_counts->Of(tenant));
  }
  return *head;
}

const TenantHead* PartitionImpl::FindTenant(TenantId tenant) const {
  ReaderLock lock(tenants_mutex_);
  const auto found = tenants_.find(tenant.value());
  return found == tenants_.end() ? nullptr : found->second.get();
}

std::vector<const TenantHead*> PartitionImpl::Tenants() const {
  std::vector<const TenantHead*> heads;
  ReaderLock lock(tenants_mutex_);
  for (const auto& [id, head] : tenants_) heads.push_back(head.get());
  return heads;
}

std::vector<TenantHead*> PartitionImpl::TenantsOfWriter() {
  std::vector<TenantHead*> heads;
  ReaderLock lock(tenants_mutex_);
  for (const auto& [id, head] : tenants_) heads.push_back(head.get());
  return heads;
}

std::shared_ptr<const BlockSet> PartitionImpl::Blocks() const {
  static const std::shared_ptr<const BlockSet> kNone = std::make_shared<const BlockSet>();
  return store_ == nullptr ? kNone : store_->Blocks();
}

std::optional<Offset> PartitionImpl::applied_offset() const {
  // Acquire: who sees the offset sees the samples of its record.
  const uint64_t next = next_offset_.load(std::memory_order_acquire);
  if (next == 0) return std::nullopt;
  return Offset(next - 1);
}

std::vector<model::SeriesExemplars> PartitionImpl::StageExemplars(const TenantHead& tenant,
                                                                  const storage::WriteBatch& batch,
                                                                  storage::WriteOutcome* outcome) const {
  std::vector<model::SeriesExemplars> staged;
  const auto refuse = [outcome](uint32_t item, Status reason) {
    ++outcome->rejected;
    if (outcome->rejections.size() < storage::kRejectionsReportedMax) {
      outcome->rejections.push_back({item, std::move(reason)});
    }
  };
  for (const storage::BatchExemplar& item : batch.exemplars) {
    Status refusal;
    if (!batch.future.Admits(item.exemplar.timestamp)) {
      refuse(item.item, batch.future.Refusal("exemplar", item.exemplar.timestamp));
      continue;
    }
    switch (tenant.exemplars().Judge(item.series, item.exemplar, options_.out_of_order_window_ms)) {
      case ExemplarStore::Verdict::kNew:
        if (staged.empty() || staged.back().series != item.series) staged.push_back({item.series, {}});
        staged.back().exemplars.push_back(item.exemplar);
        break;
      case ExemplarStore::Verdict::kKnown:
        break;
      case ExemplarStore::Verdict::kTooOld:
        refusal = OutOfRange("out of order exemplar: timestamp {} is too far behind the series' newest",
                             item.exemplar.timestamp);
        break;
      case ExemplarStore::Verdict::kTooLarge:
        refusal =
            ResourceExhausted("an exemplar does not fit into the {} bytes for exemplars", options_.exemplar_bytes_max);
        break;
    }
    if (refusal.ok()) {
      ++outcome->exemplars_written;
    } else {
      refuse(item.item, std::move(refusal));
    }
  }
  return staged;
}

void PartitionImpl::AddExemplars(TenantHead& tenant, const std::vector<model::SeriesExemplars>& exemplars) {
  for (const model::SeriesExemplars& of_series : exemplars) {
    for (const model::Exemplar& exemplar : of_series.exemplars) tenant.exemplars().Add(of_series.series, exemplar);
    exemplars_appended_.fetch_add(of_series.exemplars.size(), std::memory_order_relaxed);
  }
}

Result<std::optional<Offset>> PartitionImpl::Write(storage::WriteBatch& batch, storage::WriteOutcome* outcome) {
  TenantHead& tenant = TenantFor(batch.tenant);
  *outcome = {};
  BatchStager stager(*this, tenant, batch, outcome);
  MS_RETURN_IF_ERROR(stager.Stage());
  uint64_t next_ref = next_ref_;
  stager.Finish(&next_ref);

  std::vector<model::MetricMetadata> metadata;
  for (const model::MetricMetadata& entry : batch.metadata) {
    if (tenant.WouldChange(entry)) metadata.push_back(entry);
  }
  std::vector<model::SeriesExemplars> exemplars = StageExemplars(tenant, batch, outcome);

  std::optional<Offset> offset = log_ == nullptr ? std::nullopt : applied_offset();
  if (log_ != nullptr && (!stager.samples().empty() || !metadata.empty() || !exemplars.empty())) {
    Record record;
    record.tenant = batch.tenant;
    std::vector<uint32_t> index_of(stager.series().size());
    for (size_t i = 0; i < stager.series().size(); ++i) {
      const StagedSeries& staged = stager.series()[i];
      if (!staged.used) continue;
      index_of[i] = static_cast<uint32_t>(record.refs.size());
      record.refs.push_back(staged.ref);
      if (staged.series == nullptr) record.new_series.push_back({staged.ref, *staged.labels});
    }
    record.samples.reserve(stager.samples().size());
    for (const StagedSample& sample : stager.samples()) {
      record.samples.push_back({index_of[sample.series], sample.sample});
    }
    record.metadata = metadata;
    record.exemplars = exemplars;
    const std::string payload = EncodeRecord(record);
    if (payload.size() > storage::kLogRecordBytesMax) {
      return ResourceExhausted("a write batch makes a log record of {} bytes, more than {}", payload.size(),
                               storage::kLogRecordBytesMax);
    }
    const std::string_view view = payload;
    MS_ASSIGN_OR_RETURN(offset, log_->Append(std::span(&view, 1)));
  }

  // Nothing fails from here on.
  next_ref_ = next_ref;
  stager.PublishRefs();
  std::vector<TenantHead::NewSeries> new_series;
  std::vector<size_t> new_index;
  std::vector<MemSeries*> targets(stager.series().size());
  for (size_t i = 0; i < targets.size(); ++i) {
    const StagedSeries& staged = stager.series()[i];
    targets[i] = staged.series;
    if (staged.series != nullptr || !staged.used) continue;
    new_series.push_back({staged.ref, *staged.labels});
    new_index.push_back(i);
  }
  if (!new_series.empty()) {
    const std::vector<MemSeries*> created = tenant.Create(std::move(new_series));
    for (size_t k = 0; k < created.size(); ++k) targets[new_index[k]] = created[k];
  }
  int64_t bytes = 0;
  const std::vector<StagedSample>& samples = stager.samples();
  for (size_t i = 0; i < samples.size();) {
    MemSeries* const series = targets[samples[i].series];
    MutexLock lock(series->mutex);
    SeriesData& data = series->data;
    bytes -= data.memory_bytes();
    const uint32_t run = samples[i].series;
    for (; i < samples.size() && samples[i].series == run; ++i) {
      if (samples[i].in_order) {
        data.Append(samples[i].sample, limits_);
      } else {
        data.AppendOutOfOrder(samples[i].sample, limits_);
      }
    }
    bytes += data.memory_bytes();
  }
  for (const model::MetricMetadata& entry : metadata) tenant.SetMetadata(entry);
  AddExemplars(tenant, exemplars);

  sample_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  samples_appended_.fetch_add(samples.size(), std::memory_order_relaxed);
  samples_out_of_order_.fetch_add(stager.out_of_order(), std::memory_order_relaxed);
  samples_duplicate_.fetch_add(stager.duplicates(), std::memory_order_relaxed);
  samples_rejected_.fetch_add(outcome->rejected, std::memory_order_relaxed);
  // Release: see applied_offset().
  if (offset.has_value()) next_offset_.store(offset->value() + 1, std::memory_order_release);
  return offset;
}

Status PartitionImpl::ApplyRecord(std::string_view bytes, Offset offset) {
  const uint64_t next = next_offset_.load(std::memory_order_relaxed);
  if (offset.value() < next) return Status::Ok();
  MS_ASSIGN_OR_RETURN(Record record, DecodeRecord(bytes));
  TenantHead& tenant = TenantFor(record.tenant);
  std::vector<TenantHead::NewSeries> new_series;
  std::vector<RecordSeries> renamed;
  std::unordered_map<uint64_t, const model::Labels*> defined;
  for (const RecordSeries& series : record.new_series) {
    if (series.labels.empty() || !defined.emplace(series.ref.value(), &series.labels).second) {
      return DataLoss("a record of samples defines series {} badly", series.ref.value());
    }
    const MemSeries* known = tenant.FindByRef(series.ref);
    if (known != nullptr && known->labels != series.labels) {
      return DataLoss("a record of samples defines series {} anew", series.ref.value());
    }
    if (known != nullptr) continue;
    // Refs are given in ascending order without gaps; any other would size tables by what a file says.
    if (series.ref.value() >= next_ref_ + record.new_series.size()) {
      return DataLoss("a record of samples defines series {} before {}", series.ref.value(), next_ref_);
    }
    // Labels that the head still knows by an older ref: the series had been dropped from the head before it was
    // written again, and a crash brought it back.
    if (tenant.FindByLabels(series.labels) != nullptr) {
      renamed.push_back(series);
    } else {
      new_series.push_back({series.ref, series.labels});
    }
  }
  std::unordered_map<std::string_view, uint64_t> by_labels;
  for (const auto& series : new_series) {
    if (!by_labels.emplace(series.labels.encoded(), series.ref.value()).second) {
      return DataLoss("a record of samples defines one series twice");
    }
  }
  for (const SeriesRef ref : record.refs) {
    if (tenant.FindByRef(ref) == nullptr && !defined.contains(ref.value())) {
      return DataLoss("a record of samples names the unknown series {}", ref.value());
    }
  }
  for (const RecordSample& sample : record.samples) {
    if (sample.sample.value.histogram == nullptr) continue;
    if (Status status = sample.sample.value.histogram->Validate(); !status.ok()) {
      return DataLoss("a record of samples has a bad histogram: {}", status.message());
    }
  }

  // Nothing fails from here on.
  for (const RecordSeries& series : record.new_series) next_ref_ = std::max(next_ref_, series.ref.value() + 1);
  for (const RecordSeries& series : renamed) {
    if (tenant.FindByRef(series.ref) == nullptr) tenant.Rename(tenant.FindByLabels(series.labels), series.ref);
  }
  for (MemSeries* series : tenant.Create(std::move(new_series))) {
    const auto max_time = MaxTimeInBlocks(tenant.id(), series->labels);
    MutexLock lock(series->mutex);
    if (max_time.has_value()) series->data.SetMaxTime(*max_time);
  }
  int64_t bytes_added = 0;
  for (const RecordSample& item : record.samples) {
    MemSeries* const series = tenant.FindByRef(record.refs[item.series]);
    MS_CHECK(series != nullptr);
    MutexLock lock(series->mutex);
    SeriesData& data = series->data;
    bytes_added -= data.memory_bytes();
    if (!data.max_time().has_value() || item.sample.timestamp > *data.max_time()) {
      data.Append(item.sample, limits_);
      samples_appended_.fetch_add(1, std::memory_order_relaxed);
    } else if (!data.Find(item.sample.timestamp).has_value() &&
               !FindInBlocks(tenant.id(), series->labels, item.sample.timestamp).has_value()) {
      data.AppendOutOfOrder(item.sample, limits_);
      samples_appended_.fetch_add(1, std::memory_order_relaxed);
      samples_out_of_order_.fetch_add(1, std::memory_order_relaxed);
    }
    bytes_added += data.memory_bytes();
  }
  for (const model::MetricMetadata& entry : record.metadata) {
    if (tenant.WouldChange(entry)) tenant.SetMetadata(entry);
  }
  AddExemplars(tenant, record.exemplars);
  sample_bytes_.fetch_add(bytes_added, std::memory_order_relaxed);
  // Release: see applied_offset().
  next_offset_.store(offset.value() + 1, std::memory_order_release);
  return Status::Ok();
}

PartitionStats PartitionImpl::Stats() const {
  PartitionStats stats;
  int64_t bytes = sample_bytes_.load(std::memory_order_relaxed);
  for (const TenantHead* tenant : Tenants()) {
    bytes += tenant->index_bytes();
    stats.exemplars += tenant->exemplars().count();
    stats.exemplar_bytes += tenant->exemplars().bytes();
  }
  bytes += static_cast<int64_t>(stats.exemplar_bytes);
  stats.head_bytes = static_cast<uint64_t>(std::max<int64_t>(bytes, 0));
  for (const TenantHead* tenant : Tenants()) stats.series += tenant->series_in_index();
  // Held: without a name the set would be gone before the loop begins, should a checkpoint exchange it meanwhile.
  const std::shared_ptr<const BlockSet> set = Blocks();
  for (const auto& block : set->blocks) {
    ++stats.blocks;
    stats.block_bytes += block->bytes();
  }
  stats.samples_appended = samples_appended_.load(std::memory_order_relaxed);
  stats.samples_out_of_order = samples_out_of_order_.load(std::memory_order_relaxed);
  stats.samples_duplicate = samples_duplicate_.load(std::memory_order_relaxed);
  stats.samples_rejected = samples_rejected_.load(std::memory_order_relaxed);
  stats.exemplars_appended = exemplars_appended_.load(std::memory_order_relaxed);
  return stats;
}

}  // namespace millstream::tsdb

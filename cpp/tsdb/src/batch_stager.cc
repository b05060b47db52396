#include "batch_stager.h"

#include <utility>

namespace millstream::tsdb {
namespace {

// The oldest timestamp that a window behind `newest` accepts.
TimestampMs WindowBound(TimestampMs newest, int64_t window_ms) {
  TimestampMs bound = 0;
  return __builtin_sub_overflow(newest, window_ms, &bound) ? INT64_MIN : bound;
}

uint32_t ItemOf(const std::vector<uint32_t>& items, size_t i) {
  return items.empty() ? static_cast<uint32_t>(i) : items[i];
}

}  // namespace

BatchStager::BatchStager(PartitionImpl& partition, TenantHead& tenant, storage::WriteBatch& batch,
                         storage::WriteOutcome* outcome)
    : partition_(partition),
      tenant_(tenant),
      batch_(batch),
      outcome_(outcome),
      retention_bound_(partition.RetentionBound()) {}

Status BatchStager::CheckShape() const {
  const auto column_fits = [](size_t rows, size_t column, bool may_be_empty) {
    return column == rows || (may_be_empty && column == 0);
  };
  const auto& floats = batch_.floats;
  const auto& histograms = batch_.histograms;
  const bool fits = column_fits(floats.series.size(), floats.timestamps.size(), false) &&
                    column_fits(floats.series.size(), floats.values.size(), false) &&
                    column_fits(floats.series.size(), floats.start_timestamps.size(), true) &&
                    column_fits(floats.series.size(), floats.item.size(), true) &&
                    column_fits(histograms.series.size(), histograms.timestamps.size(), false) &&
                    column_fits(histograms.series.size(), histograms.histograms.size(), false) &&
                    column_fits(histograms.series.size(), histograms.start_timestamps.size(), true) &&
                    column_fits(histograms.series.size(), histograms.item.size(), true);
  if (!fits) return InvalidArgument("the columns of a write batch differ in length");
  if (floats.series.size() + histograms.series.size() > storage::kBatchSamplesMax) {
    return ResourceExhausted("a write batch has {} samples, more than {}",
                             floats.series.size() + histograms.series.size(), storage::kBatchSamplesMax);
  }
  for (const auto* column : {&floats.series, &histograms.series}) {
    for (const uint32_t series : *column) {
      if (series >= batch_.series.size()) return InvalidArgument("a sample of a write batch names no series of it");
    }
  }
  return Status::Ok();
}

Status BatchStager::Stage() {
  MS_RETURN_IF_ERROR(CheckShape());
  ResolveSeries();
  const auto& floats = batch_.floats;
  const auto& histograms = batch_.histograms;
  samples_.reserve(floats.series.size() + histograms.series.size());
  // In the caller's order: a series may have floats and histograms by turns.
  size_t f = 0;
  size_t h = 0;
  while (f < floats.series.size() || h < histograms.series.size()) {
    bool take_float = h == histograms.series.size();
    if (f < floats.series.size() && h < histograms.series.size()) {
      const auto float_key = std::pair(ItemOf(floats.item, f), floats.timestamps[f]);
      take_float = float_key <= std::pair(ItemOf(histograms.item, h), histograms.timestamps[h]);
    }
    if (take_float) {
      StageFloat(f++);
    } else {
      StageHistogram(h++);
    }
  }
  return Status::Ok();
}

void BatchStager::ResolveSeries() {
  ++partition_.stage_epoch_;
  staged_of_.reserve(batch_.series.size());
  for (uint32_t i = 0; i < batch_.series.size(); ++i) {
    storage::BatchSeries& series = batch_.series[i];
    MemSeries* found = series.ref.value() == 0 ? nullptr : tenant_.FindByRef(series.ref);
    if (found == nullptr && !series.labels.empty()) found = tenant_.FindByLabels(series.labels);
    if (found != nullptr) {
      series.ref = found->ref;
      staged_of_.push_back(StageExisting(found));
    } else if (!series.labels.empty()) {
      staged_of_.push_back(StageNew(series.labels));
    } else if (series.ref.value() != 0) {
      outcome_->unknown_series.push_back(i);
      staged_of_.push_back(kUnknown);
    } else {
      staged_of_.push_back(kNoLabels);
    }
  }
}

uint32_t BatchStager::StageExisting(MemSeries* series) {
  if (series->staged_epoch == partition_.stage_epoch_) return series->staged_index;
  StagedSeries staged;
  staged.series = series;
  staged.labels = &series->labels;
  staged.ref = series->ref;
  {
    MutexLock lock(series->mutex);
    staged.max_time = series->data.max_time();
    staged.last = series->data.last();
  }
  series->staged_epoch = partition_.stage_epoch_;
  series->staged_index = static_cast<uint32_t>(series_.size());
  series_.push_back(std::move(staged));
  return series->staged_index;
}

uint32_t BatchStager::StageNew(const model::Labels& labels) {
  const auto index = static_cast<uint32_t>(series_.size());
  if (tenant_.series_count() + new_by_labels_.size() >= partition_.options_.series_max &&
      !new_by_labels_.contains(labels.encoded())) {
    return kTooMany;
  }
  if (const auto at = new_by_labels_.find(labels.encoded()); at != new_by_labels_.end()) return at->second;
  switch (tenant_.ReservePlace(batch_.tenant_series, batch_.now)) {
    case TenantHead::Place::kFull:
      return kTenantFull;
    case TenantHead::Place::kTooFast:
      return kTooFast;
    case TenantHead::Place::kKept:
      break;
  }
  new_by_labels_.emplace(labels.encoded(), index);
  StagedSeries staged;
  staged.labels = &labels;
  staged.max_time = partition_.MaxTimeInBlocks(tenant_.id(), labels);
  series_.push_back(std::move(staged));
  return index;
}

void BatchStager::StageFloat(size_t i) {
  const auto& floats = batch_.floats;
  TimedSample sample;
  sample.timestamp = floats.timestamps[i];
  sample.start = floats.start_timestamps.empty() ? 0 : floats.start_timestamps[i];
  sample.value.value = floats.values[i];
  StageSample(floats.series[i], ItemOf(floats.item, i), std::move(sample));
}

void BatchStager::StageHistogram(size_t i) {
  auto& histograms = batch_.histograms;
  const uint32_t item = ItemOf(histograms.item, i);
  if (Status status = histograms.histograms[i].Validate(); !status.ok()) {
    Reject(item, std::move(status));
    return;
  }
  TimedSample sample;
  sample.timestamp = histograms.timestamps[i];
  sample.start = histograms.start_timestamps.empty() ? 0 : histograms.start_timestamps[i];
  sample.value.histogram = std::make_shared<const model::Histogram>(histograms.histograms[i]);
  StageSample(histograms.series[i], item, std::move(sample));
}

void BatchStager::StageSample(uint32_t batch_series, uint32_t item, TimedSample sample) {
  const uint32_t index = staged_of_[batch_series];
  if (index == kUnknown) return;
  if (index == kNoLabels) return Reject(item, InvalidArgument("the series has no labels"));
  if (index == kTooMany) {
    return Reject(item, ResourceExhausted("the limit of {} series is reached", partition_.options_.series_max));
  }
  if (index == kTenantFull) {
    return Reject(item, ResourceExhausted("limits.max_series allows one tenant {} series and this one has as many: "
                                          "known series go on, new ones are refused; an administrator can raise it "
                                          "for all, or in tenants.NAME.limits",
                                          batch_.tenant_series.most));
  }
  if (index == kTooFast) {
    return Reject(item,
                  ResourceExhausted("limits.new_series_per_second allows one tenant {} new series a second: known "
                                    "series go on, try new ones again later; an administrator can raise it for "
                                    "all, or in tenants.NAME.limits",
                                    batch_.tenant_series.new_per_second));
  }
  if (sample.timestamp < retention_bound_) {
    return Reject(item, OutOfRange("too old sample: timestamp {} is before {}, where the retention begins",
                                   sample.timestamp, retention_bound_));
  }
  if (!batch_.future.Admits(sample.timestamp)) return Reject(item, batch_.future.Refusal("sample", sample.timestamp));
  const StagedSeries& staged = series_[index];
  if (!staged.max_time.has_value() || sample.timestamp > *staged.max_time) {
    return Accept(index, true, std::move(sample));
  }
  const TimestampMs newest = *staged.max_time;
  const int64_t window = partition_.options_.out_of_order_window_ms;
  if (sample.timestamp < newest) {
    if (window <= 0) {
      return Reject(item, OutOfRange("out of order sample: timestamp {} is before the series' newest, {}",
                                     sample.timestamp, newest));
    }
    const TimestampMs bound = WindowBound(newest, window);
    if (sample.timestamp < bound) {
      return Reject(item, OutOfRange("too old sample: timestamp {} is before {}, the oldest that is accepted",
                                     sample.timestamp, bound));
    }
  }
  std::optional<SampleValue> existing;
  if (sample.timestamp == newest && staged.last.has_value()) {
    existing = staged.last;
  } else {
    existing = FindExisting(index, sample.timestamp);
  }
  if (!existing.has_value()) return Accept(index, false, std::move(sample));
  if (existing->SameAs(sample.value)) {
    ++duplicates_;
    if (sample.value.histogram == nullptr) {
      ++outcome_->floats_written;
    } else {
      ++outcome_->histograms_written;
    }
    return;
  }
  Reject(item, AlreadyExists("duplicate sample for timestamp {}: another value is stored", sample.timestamp));
}

void BatchStager::Accept(uint32_t series, bool in_order, TimedSample sample) {
  StagedSeries& staged = series_[series];
  staged.used = true;
  if (in_order) {
    staged.max_time = sample.timestamp;
    staged.last = sample.value;
  } else {
    ++out_of_order_;
  }
  if (by_time_filled_) by_time_.emplace(SampleKey{series, sample.timestamp}, samples_.size());
  if (sample.value.histogram == nullptr) {
    ++outcome_->floats_written;
  } else {
    ++outcome_->histograms_written;
  }
  samples_.push_back({series, in_order, std::move(sample)});
}

std::optional<SampleValue> BatchStager::FindExisting(uint32_t series, TimestampMs timestamp) {
  if (!by_time_filled_) {
    for (size_t i = 0; i < samples_.size(); ++i) {
      by_time_.emplace(SampleKey{samples_[i].series, samples_[i].sample.timestamp}, i);
    }
    by_time_filled_ = true;
  }
  if (const auto at = by_time_.find(SampleKey{series, timestamp}); at != by_time_.end()) {
    return samples_[at->second].sample.value;
  }
  const StagedSeries& staged = series_[series];
  if (staged.series != nullptr) {
    MutexLock lock(staged.series->mutex);
    if (auto found = staged.series->data.Find(timestamp); found.has_value()) return found;
  }
  return partition_.FindInBlocks(tenant_.id(), *staged.labels, timestamp);
}

void BatchStager::Reject(uint32_t item, Status reason) {
  ++outcome_->rejected;
  if (batch_.lists_rejected) outcome_->rejected_items.push_back(item);
  if (outcome_->rejections.size() < storage::kRejectionsReportedMax) {
    outcome_->rejections.push_back({item, std::move(reason)});
  }
}

void BatchStager::Finish(uint64_t* next_ref) {
  for (StagedSeries& staged : series_) {
    if (staged.series == nullptr && staged.used) staged.ref = SeriesRef((*next_ref)++);
  }
}

void BatchStager::PublishRefs() {
  for (size_t i = 0; i < batch_.series.size(); ++i) {
    if (staged_of_[i] < series_.size()) batch_.series[i].ref = series_[staged_of_[i]].ref;
  }
}

}  // namespace millstream::tsdb

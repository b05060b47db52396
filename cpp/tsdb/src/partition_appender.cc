#include "millstream/tsdb/partition_appender.h"

namespace millstream::tsdb {

PartitionOptions ScriptPartitionOptions() {
  PartitionOptions options;
  options.out_of_order_window_ms = 0;
  options.block_range_ms = 24 * kHourMs;
  // Prometheus's: which histogram is the first of its chunk shows in its counter reset hint.
  options.float_chunk_samples_max = 120;
  options.histogram_chunk_samples_max = 120;
  return options;
}

PartitionAppender::PartitionAppender(Partition& partition, TenantId tenant) : partition_(partition), tenant_(tenant) {
  Clear();
}

uint32_t PartitionAppender::IndexOf(const model::Labels& labels) {
  const auto [at, is_new] = index_.emplace(labels, static_cast<uint32_t>(batch_.series.size()));
  if (is_new) batch_.series.push_back({SeriesRef(0), labels});
  return at->second;
}

void PartitionAppender::Clear() {
  batch_ = {};
  batch_.tenant = tenant_;
  index_.clear();
  items_ = 0;
}

Status PartitionAppender::Append(const model::Labels& labels, TimestampMs timestamp, double value, TimestampMs start) {
  batch_.floats.series.push_back(IndexOf(labels));
  batch_.floats.timestamps.push_back(timestamp);
  batch_.floats.values.push_back(value);
  batch_.floats.start_timestamps.push_back(start);
  batch_.floats.item.push_back(items_++);
  return Status::Ok();
}

Status PartitionAppender::AppendHistogram(const model::Labels& labels, TimestampMs timestamp,
                                          const model::Histogram& histogram, TimestampMs start) {
  batch_.histograms.series.push_back(IndexOf(labels));
  batch_.histograms.timestamps.push_back(timestamp);
  batch_.histograms.histograms.push_back(histogram);
  batch_.histograms.start_timestamps.push_back(start);
  batch_.histograms.item.push_back(items_++);
  return Status::Ok();
}

Status PartitionAppender::Commit() {
  storage::WriteOutcome outcome;
  auto written = partition_.Write(batch_, &outcome);
  Clear();
  if (!written.ok()) return std::move(written).status();
  if (!outcome.rejections.empty()) return outcome.rejections.front().reason;
  return Status::Ok();
}

}  // namespace millstream::tsdb

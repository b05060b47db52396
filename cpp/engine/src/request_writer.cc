#include "request_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace millstream::engine {
namespace {

constexpr uint32_t kNotResent = UINT32_MAX;

// Keeps the samples of those series that have a new slot, and gives them that slot. `values` is the column of *columns
// that holds the samples themselves.
template <typename Columns, typename Value>
void KeepSlots(std::span<const uint32_t> new_slots, Columns* columns, std::vector<Value>* values) {
  size_t kept = 0;
  for (size_t i = 0; i < columns->series.size(); ++i) {
    const uint32_t slot = new_slots[columns->series[i]];
    if (slot == kNotResent) continue;
    columns->series[kept] = slot;
    columns->timestamps[kept] = columns->timestamps[i];
    columns->item[kept] = columns->item[i];
    if (i < columns->start_timestamps.size()) columns->start_timestamps[kept] = columns->start_timestamps[i];
    if (kept != i) (*values)[kept] = std::move((*values)[i]);
    ++kept;
  }
  columns->series.resize(kept);
  columns->timestamps.resize(kept);
  columns->item.resize(kept);
  if (columns->start_timestamps.size() > kept) columns->start_timestamps.resize(kept);
  values->resize(kept);
}

// Says when the counting of the sample that was added last began. A column of starts is as long as the others or empty:
// the first start fills it up, and from then on each sample has one.
template <typename Columns>
void AddStart(std::span<const TimestampMs> starts, size_t i, Columns* columns) {
  const TimestampMs start = i < starts.size() ? starts[i] : 0;
  if (start == 0 && columns->start_timestamps.empty()) return;
  columns->start_timestamps.resize(columns->timestamps.size(), 0);
  columns->start_timestamps.back() = start;
}

}  // namespace

RequestWriter::RequestWriter(TenantId tenant, std::span<const PartitionDoor> doors, SeriesSource& source,
                             PushOutcome* outcome, const storage::SeriesLimits& series, std::chrono::nanoseconds now,
                             storage::FutureLimit future, MetricFeed* feed)
    : tenant_(tenant),
      series_(series),
      now_(now),
      future_(future),
      feed_(feed),
      wanted_(feed == nullptr ? nullptr : feed->Wanted(tenant)),
      doors_(doors),
      source_(source),
      outcome_(outcome),
      lanes_(MakeLanes()),
      offsets_(doors.size()) {}

RequestWriter::~RequestWriter() {
  if (flight_ != nullptr) flight_->group.Wait();
}

std::vector<RequestWriter::Lane> RequestWriter::MakeLanes() const {
  std::vector<Lane> lanes(doors_.size());
  for (Lane& lane : lanes) {
    lane.batch.tenant = tenant_;
    lane.batch.tenant_series = series_;
    lane.batch.now = now_;
    lane.batch.future = future_;
    lane.batch.lists_rejected = wanted_ != nullptr;
  }
  return lanes;
}

uint32_t RequestWriter::Slot(const Target& target) {
  Lane& lane = lanes_[target.place.partition.value()];
  if (!lane.origins.empty() && lane.origins.back() == target.origin) {
    return static_cast<uint32_t>(lane.origins.size() - 1);
  }
  storage::BatchSeries series{.ref = target.place.ref, .labels = {}};
  const bool known = target.place.ref != SeriesRef(0);
  if (!known) series.labels = *target.labels;
  lane.batch.series.push_back(std::move(series));
  lane.origins.push_back(target.origin);
  lane.asked.push_back(!known);
  return static_cast<uint32_t>(lane.origins.size() - 1);
}

Status RequestWriter::AddFloats(const Target& target, std::span<const TimestampMs> timestamps,
                                std::span<const double> values, std::span<const TimestampMs> starts) {
  size_t done = 0;
  while (done < timestamps.size()) {
    if (pending_ >= kRequestBatchSamples) MS_RETURN_IF_ERROR(Flush());
    const size_t take = std::min(timestamps.size() - done, kRequestBatchSamples - pending_);
    const uint32_t slot = Slot(target);
    storage::FloatColumns& floats = lanes_[target.place.partition.value()].batch.floats;
    for (size_t i = done; i < done + take; ++i) {
      floats.series.push_back(slot);
      floats.timestamps.push_back(timestamps[i]);
      floats.values.push_back(values[i]);
      floats.item.push_back(target.first_item + static_cast<uint32_t>(i) * target.item_step);
      AddStart(starts, i, &floats);
    }
    pending_ += take;
    done += take;
  }
  return Status::Ok();
}

Status RequestWriter::AddHistograms(const Target& target, std::span<const TimestampMs> timestamps,
                                    std::span<model::Histogram> histograms, std::span<const TimestampMs> starts) {
  for (size_t i = 0; i < timestamps.size(); ++i) {
    if (pending_ >= kRequestBatchSamples) MS_RETURN_IF_ERROR(Flush());
    const uint32_t slot = Slot(target);
    storage::HistogramColumns& columns = lanes_[target.place.partition.value()].batch.histograms;
    columns.series.push_back(slot);
    columns.timestamps.push_back(timestamps[i]);
    columns.histograms.push_back(std::move(histograms[i]));
    columns.item.push_back(target.first_item + static_cast<uint32_t>(i) * target.item_step);
    AddStart(starts, i, &columns);
    ++pending_;
  }
  return Status::Ok();
}

Status RequestWriter::AddExemplars(PartitionId partition, const model::Labels& series, uint32_t item,
                                   std::span<model::Exemplar> exemplars) {
  for (model::Exemplar& exemplar : exemplars) {
    if (pending_ >= kRequestBatchSamples) MS_RETURN_IF_ERROR(Flush());
    lanes_[partition.value()].batch.exemplars.push_back({series, std::move(exemplar), item});
    ++pending_;
  }
  return Status::Ok();
}

void RequestWriter::AddMetadata(PartitionId partition, model::MetricMetadata metadata) {
  lanes_[partition.value()].batch.metadata.push_back(std::move(metadata));
  ++outcome_->metadata;
}

void RequestWriter::Start() {
  flight_ = Send(std::exchange(lanes_, MakeLanes()));
  pending_ = 0;
}

Status RequestWriter::Flush() {
  if (flight_ == nullptr) Start();
  const std::unique_ptr<Flight> flight = std::move(flight_);
  MS_RETURN_IF_ERROR(Await(*flight));
  return Resend(flight->lanes);
}

std::unique_ptr<RequestWriter::Flight> RequestWriter::Send(std::vector<Lane> lanes) {
  auto flight = std::make_unique<Flight>(std::move(lanes));
  for (size_t p = 0; p < flight->lanes.size(); ++p) {
    Lane& lane = flight->lanes[p];
    if (lane.batch.series.empty() && lane.batch.metadata.empty() && lane.batch.exemplars.empty()) continue;
    lane.task.batch = &lane.batch;
    lane.task.group = &flight->group;
    if (Status status = doors_[p].worker->Submit(&lane.task); status.ok()) {
      flight->sent.push_back(p);
    } else if (flight->first_error.ok()) {
      flight->first_error = std::move(status);
    }
  }
  return flight;
}

Status RequestWriter::Await(Flight& flight) {
  flight.group.Wait();
  for (const size_t p : flight.sent) {
    Lane& lane = flight.lanes[p];
    if (!lane.task.status.ok()) {
      if (flight.first_error.ok()) flight.first_error = lane.task.status;
      continue;
    }
    Collect(lane.task);
    for (size_t i = 0; i < lane.origins.size(); ++i) {
      const SeriesRef ref = lane.batch.series[i].ref;
      if (lane.asked[i] && ref != SeriesRef(0)) {
        source_.Resolved(lane.origins[i], {PartitionId(static_cast<uint32_t>(p)), ref});
      }
    }
    if (wanted_ != nullptr) {
      const auto labels = [&](size_t series) { return source_.LabelsOfKnown(lane.origins[series]); };
      Status selected =
          feed_->Select(*wanted_, PartitionId(static_cast<uint32_t>(p)), lane.batch, lane.task.outcome, labels, &fed_);
      if (flight.first_error.ok()) flight.first_error = std::move(selected);
    }
    if (lane.task.offset) offsets_[p] = std::max(offsets_[p].value_or(Offset(0)), *lane.task.offset);
  }
  return flight.first_error;
}

void RequestWriter::Collect(const WriteTask& task) {
  outcome_->samples += task.outcome.floats_written;
  outcome_->histograms += task.outcome.histograms_written;
  outcome_->exemplars += task.outcome.exemplars_written;
  outcome_->rejected += task.outcome.rejected;
  for (const storage::Rejection& rejection : task.outcome.rejections) {
    outcome_->refusals.push_back({rejection.item, rejection.reason});
  }
}

Status RequestWriter::Resend(std::vector<Lane>& lanes) {
  std::vector<Lane> again = MakeLanes();
  bool any = false;
  for (size_t p = 0; p < lanes.size(); ++p) {
    Lane& lane = lanes[p];
    if (lane.task.outcome.unknown_series.empty()) continue;
    any = true;
    std::vector<uint32_t> new_slots(lane.origins.size(), kNotResent);
    for (const uint32_t unknown : lane.task.outcome.unknown_series) {
      MS_ASSIGN_OR_RETURN(model::Labels labels, source_.LabelsOf(lane.origins[unknown]));
      new_slots[unknown] = static_cast<uint32_t>(again[p].origins.size());
      again[p].batch.series.push_back({.ref = SeriesRef(0), .labels = std::move(labels)});
      again[p].origins.push_back(lane.origins[unknown]);
      again[p].asked.push_back(true);
    }
    // The partition is done with the lane's batch.
    again[p].batch.floats = std::move(lane.batch.floats);
    KeepSlots(new_slots, &again[p].batch.floats, &again[p].batch.floats.values);
    again[p].batch.histograms = std::move(lane.batch.histograms);
    KeepSlots(new_slots, &again[p].batch.histograms, &again[p].batch.histograms.histograms);
  }
  if (!any) return Status::Ok();
  const std::unique_ptr<Flight> flight = Send(std::move(again));
  MS_RETURN_IF_ERROR(Await(*flight));
  for (const Lane& lane : flight->lanes) {
    if (!lane.task.outcome.unknown_series.empty()) return Internal("a series sent by labels is still unknown");
  }
  return Status::Ok();
}

Status RequestWriter::Finish() {
  MS_RETURN_IF_ERROR(Flush());
  std::string token;
  for (size_t p = 0; p < doors_.size(); ++p) {
    if (!offsets_[p]) continue;
    if (doors_[p].log != nullptr) MS_RETURN_IF_ERROR(doors_[p].log->WaitDurable(*offsets_[p]));
    token += fmt::format("{}{}:{}", token.empty() ? "" : ",", p, offsets_[p]->value());
  }
  if (!fed_.empty()) {
    Status fed = feed_->Publish(tenant_, fed_);
    is_unfed_ = !fed.ok();
    MS_RETURN_IF_ERROR(std::move(fed));
  }
  outcome_->offset_token = std::move(token);
  std::sort(outcome_->refusals.begin(), outcome_->refusals.end(),
            [](const ItemRefusal& a, const ItemRefusal& b) { return a.item < b.item; });
  if (outcome_->refusals.size() > storage::kRejectionsReportedMax) {
    outcome_->refusals.resize(storage::kRejectionsReportedMax);
  }
  return Status::Ok();
}

}  // namespace millstream::engine

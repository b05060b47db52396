#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "database_impl.h"
#include "joined_writes.h"
#include "millstream/base/hash.h"
#include "millstream/wire/labels_decoder.h"
#include "write_formats.h"

namespace millstream::engine {
namespace {

constexpr size_t kHandlesMax = 50'000'000;

void Refuse(uint32_t item, uint64_t samples, Status reason, PushOutcome* outcome) {
  outcome->rejected += samples;
  if (outcome->refusals.size() < storage::kRejectionsReportedMax) {
    outcome->refusals.push_back({item, std::move(reason)});
  }
}

// What a column that may be short has from `begin` on.
std::span<const TimestampMs> From(const std::vector<TimestampMs>& column, size_t begin) {
  return std::span(column).subspan(std::min(begin, column.size()));
}

// The series of a decoded request: the cache is told where they were found.
class DecodedSource final : public SeriesSource {
 public:
  DecodedSource(TenantId tenant, const wire::DecodedWrite& decoded, SeriesCache& cache)
      : tenant_(tenant), decoded_(decoded), cache_(cache) {}

  Result<model::Labels> LabelsOf(uint32_t origin) override {
    cache_.Forget(KeyOf(origin));
    return LabelsOfKnown(origin);
  }
  Result<model::Labels> LabelsOfKnown(uint32_t origin) override {
    return wire::DecodeLabels(decoded_.encoding, decoded_.series[origin].raw_labels);
  }
  void Resolved(uint32_t origin, SeriesPlace place) override { cache_.Put(KeyOf(origin), place); }

 private:
  SeriesKey KeyOf(uint32_t origin) const {
    return SeriesKey::Make(tenant_, decoded_.encoding, decoded_.series[origin].raw_labels);
  }

  const TenantId tenant_;
  const wire::DecodedWrite& decoded_;
  SeriesCache& cache_;
};

// One series whose labels are at hand.
class SingleSource final : public SeriesSource {
 public:
  explicit SingleSource(const model::Labels& labels) : labels_(labels) {}
  Result<model::Labels> LabelsOf(uint32_t /*origin*/) override { return labels_; }
  void Resolved(uint32_t /*origin*/, SeriesPlace /*place*/) override {}

 private:
  const model::Labels& labels_;
};

Result<model::Labels> ValidLabels(std::span<const model::Label> pairs) {
  std::string raw;
  for (const model::Label& label : pairs) {
    wire::AppendPairString(label.name, &raw);
    wire::AppendPairString(label.value, &raw);
  }
  return wire::DecodeLabels(wire::LabelEncoding::kPairs, raw);
}

// What the series of one metric have behind its name, where its metadata has nothing.
constexpr std::string_view kMetricSuffixes[] = {"_bucket", "_count", "_created", "_gcount",
                                                "_gsum",   "_info",  "_sum",     "_total"};

// The metrics that a series which was let in is of: that of its name, and that of its name without a suffix when the
// writer might write the series under that name, too.
void AddMetrics(const storage::SeriesFilter& filter, const model::Labels& series, std::set<std::string>* metrics) {
  const std::string_view name = series.Get(model::kMetricName);
  metrics->emplace(name);
  for (const std::string_view suffix : kMetricSuffixes) {
    if (!name.ends_with(suffix)) continue;
    const std::string_view metric = name.substr(0, name.size() - suffix.size());
    if (filter.Admits(model::LabelsBuilder(series).Set(model::kMetricName, metric).Build())) metrics->emplace(metric);
  }
}

// Whether the writer may write whatever series of the name there is.
bool MayWriteAllOf(const storage::SeriesFilter& filter, const std::string& name) {
  Result<model::Matcher> matcher =
      model::Matcher::Make(model::MatchType::kEqual, std::string(model::kMetricName), name);
  return matcher.ok() && filter.AdmitsAllOf({std::move(matcher).value()});
}

// Takes out of a request what its writer may not write. Metadata is of all series of a metric, whoever wrote them: it
// stays when a series of the metric that came with it was let in, or when no list could keep one out.
void RefuseOthers(const storage::SeriesFilter& filter, wire::DecodedWrite* decoded) {
  std::set<std::string> described;
  std::erase_if(decoded->series, [&](const wire::DecodedSeries& series) {
    const Result<model::Labels> labels = wire::DecodeLabels(decoded->encoding, series.raw_labels);
    // What is no label set is refused where all of those are.
    if (!labels.ok()) return false;
    if (filter.Admits(*labels)) {
      if (!decoded->metadata.empty()) AddMetrics(filter, *labels, &described);
      return false;
    }
    const uint32_t samples = series.floats_end - series.floats_begin + series.histograms_end - series.histograms_begin;
    decoded->rejected += std::max<uint32_t>(samples, 1);
    if (decoded->errors.size() < wire::kItemErrorsMax) {
      decoded->errors.push_back({series.item, PermissionDenied("access lists do not let you write this series")});
    }
    return true;
  });
  std::erase_if(decoded->metadata, [&](const model::MetricMetadata& metadata) {
    return !described.contains(metadata.metric) && !MayWriteAllOf(filter, metadata.metric);
  });
}

}  // namespace

Status Database::Impl::PushSeries(TenantId tenant, uint32_t index, wire::DecodedWrite& decoded, RequestWriter& writer,
                                  PushOutcome* outcome) {
  const wire::DecodedSeries& series = decoded.series[index];
  const uint32_t floats = series.floats_end - series.floats_begin;
  const uint32_t histograms = series.histograms_end - series.histograms_begin;
  const uint32_t exemplars = series.exemplars_end - series.exemplars_begin;
  RequestWriter::Target target{
      .origin = index, .place = {}, .labels = nullptr, .first_item = series.item, .item_step = 0};
  model::Labels labels;
  if (const auto place =
          exemplars > 0 ? std::nullopt : cache_.Find(SeriesKey::Make(tenant, decoded.encoding, series.raw_labels))) {
    target.place = *place;
  } else {
    Result<model::Labels> parsed = wire::DecodeLabels(decoded.encoding, series.raw_labels);
    if (!parsed.ok()) {
      Refuse(series.item, std::max<uint64_t>(uint64_t{floats} + histograms + exemplars, 1), std::move(parsed).status(),
             outcome);
      return Status::Ok();
    }
    labels = std::move(parsed).value();
    target.place = {PartitionOf(tenant, labels), SeriesRef(0)};
    target.labels = &labels;
  }
  MS_RETURN_IF_ERROR(writer.AddFloats(target, std::span(decoded.timestamps).subspan(series.floats_begin, floats),
                                      std::span(decoded.values).subspan(series.floats_begin, floats),
                                      From(decoded.start_timestamps, series.floats_begin)));
  MS_RETURN_IF_ERROR(
      writer.AddHistograms(target, std::span(decoded.histogram_timestamps).subspan(series.histograms_begin, histograms),
                           std::span(decoded.histograms).subspan(series.histograms_begin, histograms),
                           From(decoded.histogram_start_timestamps, series.histograms_begin)));
  return writer.AddExemplars(target.place.partition, labels, series.item,
                             std::span(decoded.exemplars).subspan(series.exemplars_begin, exemplars));
}

std::optional<tsdb::LastSample> Database::Impl::LastOf(TenantId tenant, const wire::DecodedWrite& decoded,
                                                       const wire::DecodedSeries& series) const {
  const Result<model::Labels> labels = wire::DecodeLabels(decoded.encoding, series.raw_labels);
  if (!labels.ok()) return std::nullopt;
  return partitions_[PartitionOf(tenant, *labels).value()].partition->Last(tenant, *labels);
}

// A decoded request from its labels to its outcome. The database is open and held open as long as it lives.
class Database::Impl::PendingPush {
 public:
  PendingPush(Impl& database, TenantId tenant, wire::DecodedWrite decoded, const storage::SeriesLimits& series,
              MetricFeed* feed)
      : database_(database),
        tenant_(tenant),
        now_(database.env_.clock->WallNow()),
        future_(now_, database.options_.future_window_ms),
        decoded_(std::move(decoded)),
        source_(tenant, decoded_, database.cache_),
        writer_(tenant, database.doors_, source_, &outcome_, database.LimitsOf(series), database.MonotonicNow(),
                future_, feed) {}

  // Finds the series' places and sends their samples, without waiting.
  Status Start() {
    const auto stored = [this](const wire::DecodedSeries& series) {
      return database_.LastOf(tenant_, decoded_, series);
    };
    database_.deltas_.Apply(tenant_, now_, future_, stored, &decoded_);
    outcome_.rejected = decoded_.rejected;
    for (wire::ItemError& error : decoded_.errors) {
      outcome_.refusals.push_back({error.item, std::move(error.reason)});
    }
    for (uint32_t i = 0; i < decoded_.series.size(); ++i) {
      MS_RETURN_IF_ERROR(database_.PushSeries(tenant_, i, decoded_, writer_, &outcome_));
    }
    for (model::MetricMetadata& metadata : decoded_.metadata) {
      const PartitionId partition(static_cast<uint32_t>(Hash64(metadata.metric) % database_.doors_.size()));
      writer_.AddMetadata(partition, std::move(metadata));
    }
    writer_.Start();
    return Status::Ok();
  }

  Result<PushOutcome> Finish() {
    MS_RETURN_IF_ERROR(writer_.Finish());
    if (decoded_.items > 0) CountByItem(decoded_.items, &outcome_);
    return std::move(outcome_);
  }
  bool is_unfed() const { return writer_.is_unfed(); }

 private:
  Impl& database_;
  const TenantId tenant_;
  const TimestampMs now_;
  const storage::FutureLimit future_;
  wire::DecodedWrite decoded_;
  PushOutcome outcome_;
  DecodedSource source_;
  RequestWriter writer_;
};

std::vector<Result<PushOutcome>> Database::Impl::Push(std::vector<Incoming> incoming, std::vector<bool>* unfed) {
  const ReaderLock open(open_mutex_);
  Status ready = CheckOpen();
  if (ready.ok()) ready = CheckMemory();
  std::vector<std::unique_ptr<PendingPush>> pending(incoming.size());
  std::vector<Status> refused(incoming.size());
  for (size_t i = 0; i < incoming.size(); ++i) {
    Incoming& one = incoming[i];
    refused[i] = ready.ok() ? one.decoded.status() : ready;
    if (!refused[i].ok()) continue;
    pending[i] = std::make_unique<PendingPush>(*this, one.tenant, std::move(one.decoded).value(), one.series,
                                               one.is_of_events ? nullptr : feed_.get());
    refused[i] = pending[i]->Start();
  }
  std::vector<Result<PushOutcome>> outcomes;
  outcomes.reserve(incoming.size());
  for (size_t i = 0; i < incoming.size(); ++i) {
    outcomes.push_back(refused[i].ok() ? pending[i]->Finish() : Result<PushOutcome>(refused[i]));
    if (unfed != nullptr) unfed->push_back(refused[i].ok() && pending[i]->is_unfed());
  }
  return outcomes;
}

Result<uint64_t> Database::Impl::WriteTransformed(TenantId tenant, uint64_t series_max,
                                                  std::span<const TransformSample> samples) {
  wire::DecodedWrite decoded;
  decoded.encoding = wire::LabelEncoding::kPairs;
  for (const TransformSample& sample : samples) {
    const auto at = static_cast<uint32_t>(decoded.timestamps.size());
    decoded.series.push_back({.raw_labels = sample.labels, .item = at, .floats_begin = at, .floats_end = at + 1});
    decoded.timestamps.push_back(sample.timestamp);
    decoded.values.push_back(sample.value);
  }
  std::vector<Incoming> incoming;
  incoming.push_back({tenant, std::move(decoded), {.most = series_max, .new_per_second = 0}, true});
  MS_ASSIGN_OR_RETURN(const PushOutcome outcome, std::move(Push(std::move(incoming)).front()));
  return outcome.rejected;
}

std::optional<TimestampMs> Database::Impl::NewestOf(TenantId tenant, std::string_view pairs) const {
  const ReaderLock open(open_mutex_);
  if (!CheckOpen().ok()) return std::nullopt;
  const Result<model::Labels> labels = wire::DecodeLabels(wire::LabelEncoding::kPairs, pairs);
  if (!labels.ok()) return std::nullopt;
  const auto last = partitions_[PartitionOf(tenant, *labels).value()].partition->Last(tenant, *labels);
  return last.has_value() ? std::optional<TimestampMs>(last->timestamp) : std::nullopt;
}

Result<uint64_t> CountForbidden(const WriteRequest& request) {
  MS_ASSIGN_OR_RETURN(wire::DecodedWrite decoded, Decode(request));
  const size_t before = decoded.series.size();
  RefuseOthers(request.filter, &decoded);
  return before - decoded.series.size();
}

Result<PushOutcome> Database::Push(TenantId tenant, const WriteRequest& request) {
  const TenantWrite write{tenant, request};
  return std::move(PushAll(std::span(&write, 1)).front());
}

std::vector<Result<PushOutcome>> Database::PushAll(std::span<const TenantWrite> writes) {
  // Requests that go by themselves, and behind them those that are several in one.
  std::vector<Impl::Incoming> incoming;
  std::vector<size_t> apart;
  std::vector<JoinedWrites> joined;
  for (size_t i = 0; i < writes.size(); ++i) {
    const TenantId tenant = writes[i].tenant;
    const WriteRequest& request = writes[i].request;
    Result<wire::DecodedWrite> decoded = Decode(request);
    if (decoded.ok() && !request.filter.admits_everything()) RefuseOthers(request.filter, &*decoded);
    if (writes.size() > 1 && decoded.ok()) {
      const auto known = std::ranges::find_if(joined, [&](const JoinedWrites& group) {
        return group.tenant() == tenant && group.series() == request.series;
      });
      JoinedWrites& group = known == joined.end() ? joined.emplace_back(tenant, request.series) : *known;
      if (group.TryAdd(i, &*decoded)) continue;
    }
    incoming.push_back({tenant, std::move(decoded), request.series});
    apart.push_back(i);
  }
  for (JoinedWrites& group : joined) incoming.push_back({group.tenant(), group.Take(), group.series()});

  std::vector<bool> unfed;
  std::vector<Result<PushOutcome>> pushed = impl_->Push(std::move(incoming), &unfed);
  std::vector<Result<PushOutcome>> outcomes(writes.size(), Result<PushOutcome>(PushOutcome()));
  for (size_t i = 0; i < apart.size(); ++i) outcomes[apart[i]] = std::move(pushed[i]);
  for (size_t j = 0; j < joined.size(); ++j) {
    const size_t at = apart.size() + j;
    // A topic that cannot take the events of one must not fail the others.
    const bool is_apart = unfed[at] && joined[j].requests() > 1;
    std::vector<Result<PushOutcome>> parts;
    if (!is_apart) parts = joined[j].Split(pushed[at]);
    for (size_t part = 0; part < joined[j].requests(); ++part) {
      const size_t i = joined[j].index(part);
      // Nobody can tell whose they were: each is sent again and answered for itself.
      outcomes[i] = parts.empty() ? Push(writes[i].tenant, writes[i].request) : std::move(parts[part]);
    }
  }
  return outcomes;
}

Result<PushOutcome> Database::Write(TenantId tenant, std::span<const model::Label> labels,
                                    std::span<const TimestampMs> timestamps, std::span<const double> values) {
  const ReaderLock open(impl_->open_mutex_);
  MS_RETURN_IF_ERROR(impl_->CheckOpen());
  MS_RETURN_IF_ERROR(impl_->CheckMemory());
  if (timestamps.size() != values.size()) {
    return InvalidArgument("{} timestamps, but {} values", timestamps.size(), values.size());
  }
  MS_ASSIGN_OR_RETURN(const model::Labels valid, ValidLabels(labels));
  PushOutcome outcome;
  SingleSource source(valid);
  RequestWriter writer(tenant, impl_->doors_, source, &outcome, impl_->LimitsOf({}), impl_->MonotonicNow(),
                       impl_->Future(), impl_->feed_.get());
  const RequestWriter::Target target{.origin = 0,
                                     .place = {impl_->PartitionOf(tenant, valid), SeriesRef(0)},
                                     .labels = &valid,
                                     .first_item = 0,
                                     .item_step = 1};
  MS_RETURN_IF_ERROR(writer.AddFloats(target, timestamps, values));
  MS_RETURN_IF_ERROR(writer.Finish());
  return outcome;
}

Result<std::vector<uint64_t>> Database::SeriesHandles(TenantId tenant,
                                                      std::span<const std::vector<model::Label>> label_sets) {
  const ReaderLock open(impl_->open_mutex_);
  MS_RETURN_IF_ERROR(impl_->CheckOpen());
  std::vector<Impl::HandleKey> keys;
  keys.reserve(label_sets.size());
  for (size_t i = 0; i < label_sets.size(); ++i) {
    Result<model::Labels> labels = ValidLabels(label_sets[i]);
    if (!labels.ok()) return labels.status().WithContext(fmt::format("label set {}", i));
    keys.push_back({tenant, std::move(labels).value()});
  }
  std::vector<uint64_t> handles;
  handles.reserve(keys.size());
  WriterLock lock(impl_->handles_mutex_);
  for (Impl::HandleKey& key : keys) {
    const auto [found, inserted] = impl_->handle_of_.try_emplace(key, impl_->handles_.size() + 1);
    if (inserted) {
      if (impl_->handles_.size() >= kHandlesMax) {
        impl_->handle_of_.erase(found);
        return ResourceExhausted("more than {} series handles", kHandlesMax);
      }
      const PartitionId partition = impl_->PartitionOf(tenant, key.labels);
      impl_->handles_.push_back({tenant, std::move(key.labels), {partition, SeriesRef(0)}});
    }
    handles.push_back(found->second);
  }
  return handles;
}

namespace {

// Rows of Append in order of their series, so that each series is looked up once.
std::vector<uint32_t> RowsBySeries(std::span<const uint64_t> handles) {
  std::vector<uint32_t> rows(handles.size());
  for (uint32_t i = 0; i < rows.size(); ++i) rows[i] = i;
  if (!std::is_sorted(handles.begin(), handles.end())) {
    std::sort(rows.begin(), rows.end(),
              [&](uint32_t a, uint32_t b) { return handles[a] != handles[b] ? handles[a] < handles[b] : a < b; });
  }
  return rows;
}

}  // namespace

Result<PushOutcome> Database::Append(TenantId tenant, std::span<const uint64_t> handles,
                                     std::span<const TimestampMs> timestamps, std::span<const double> values) {
  const ReaderLock open(impl_->open_mutex_);
  MS_RETURN_IF_ERROR(impl_->CheckOpen());
  MS_RETURN_IF_ERROR(impl_->CheckMemory());
  if (handles.size() != timestamps.size() || handles.size() != values.size()) {
    return InvalidArgument("columns differ in length: {} refs, {} timestamps, {} values", handles.size(),
                           timestamps.size(), values.size());
  }
  if (handles.size() > UINT32_MAX) return InvalidArgument("more than {} rows at once", UINT32_MAX);

  // Copies what the rows need of the handles, so that no lock is held while the partitions work.
  struct Entry {
    uint64_t handle;
    Impl::HandleEntry series;
  };
  const std::vector<uint32_t> rows = RowsBySeries(handles);
  std::vector<Entry> entries;
  {
    ReaderLock lock(impl_->handles_mutex_);
    for (const uint32_t row : rows) {
      const uint64_t handle = handles[row];
      if (!entries.empty() && entries.back().handle == handle) continue;
      if (handle == 0 || handle > impl_->handles_.size()) {
        return InvalidArgument("row {}: {} is no series ref of this database", row, handle);
      }
      const Impl::HandleEntry& known = impl_->handles_[handle - 1];
      if (known.tenant != tenant) return InvalidArgument("row {}: ref {} is another tenant's", row, handle);
      const bool resolved = known.place.ref != SeriesRef(0);
      entries.push_back({handle, {tenant, resolved ? model::Labels() : known.labels, known.place}});
    }
  }

  class HandleSource final : public SeriesSource {
   public:
    HandleSource(Impl& impl, const std::vector<Entry>& source_entries) : impl_(impl), entries_(source_entries) {}
    Result<model::Labels> LabelsOf(uint32_t origin) override {
      ReaderLock lock(impl_.handles_mutex_);
      return impl_.handles_[entries_[origin].handle - 1].labels;
    }
    void Resolved(uint32_t origin, SeriesPlace place) override {
      WriterLock lock(impl_.handles_mutex_);
      impl_.handles_[entries_[origin].handle - 1].place = place;
    }

   private:
    Impl& impl_;
    const std::vector<Entry>& entries_;
  };

  PushOutcome outcome;
  HandleSource source(*impl_, entries);
  RequestWriter writer(tenant, impl_->doors_, source, &outcome, impl_->LimitsOf({}), impl_->MonotonicNow(),
                       impl_->Future(), impl_->feed_.get());
  size_t at = 0;
  for (uint32_t origin = 0; origin < entries.size(); ++origin) {
    const Impl::HandleEntry& series = entries[origin].series;
    for (; at < rows.size() && handles[rows[at]] == entries[origin].handle; ++at) {
      const uint32_t row = rows[at];
      const RequestWriter::Target target{
          .origin = origin, .place = series.place, .labels = &series.labels, .first_item = row, .item_step = 0};
      MS_RETURN_IF_ERROR(writer.AddFloats(target, timestamps.subspan(row, 1), values.subspan(row, 1)));
    }
  }
  MS_RETURN_IF_ERROR(writer.Finish());
  return outcome;
}

}  // namespace millstream::engine

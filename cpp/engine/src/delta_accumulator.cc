#include "delta_accumulator.h"

#include <algorithm>
#include <utility>

#include "millstream/model/histogram_math.h"
#include "millstream/model/value.h"

namespace millstream::engine {
namespace {

// How often a tenant that is at its limit is looked through for series that can go.
constexpr int64_t kSweepIntervalMs = 10'000;

TimestampMs At(const std::vector<TimestampMs>& column, size_t i) {
  return i < column.size() ? column[i] : 0;
}

void Put(TimestampMs value, size_t i, std::vector<TimestampMs>* column) {
  if (i >= column->size()) column->resize(i + 1, 0);
  (*column)[i] = value;
}

// What was added up is on its way to be read again: hints of the parts say nothing about the whole.
model::Histogram Stored(const model::Histogram& total) {
  model::Histogram out = total;
  out.counter_reset_hint = model::CounterResetHint::kUnknown;
  return out;
}

}  // namespace

void DeltaAccumulator::Apply(TenantId tenant, TimestampMs now, const Newest& newest, wire::DecodedWrite* decoded) {
  if (std::ranges::none_of(decoded->series, &wire::DecodedSeries::delta)) return;
  Tenant* totals = nullptr;
  {
    MutexLock lock(mutex_);
    std::unique_ptr<Tenant>& found = tenants_[tenant];
    if (found == nullptr) found = std::make_unique<Tenant>();
    totals = found.get();
  }
  MutexLock lock(totals->mutex);
  if (now - totals->swept > decoded->delta_limits.stale_ms) Sweep(*totals, now, decoded->delta_limits.stale_ms);
  for (uint32_t i = 0; i < decoded->series.size(); ++i) {
    wire::DecodedSeries& series = decoded->series[i];
    if (!series.delta) continue;
    Status added = Add(*totals, now, newest, i, decoded);
    if (added.ok()) continue;
    decoded->Reject(series.item, std::move(added));
    series.floats_begin = series.floats_end;
    series.histograms_begin = series.histograms_end;
    series.exemplars_begin = series.exemplars_end;
  }
}

bool DeltaAccumulator::GoOn(const std::optional<tsdb::LastSample>& stored, Total* total) {
  // A series that was said to have ended begins anew.
  if (!stored || model::IsStaleNan(stored->histogram != nullptr ? stored->histogram->sum : stored->value)) return false;
  total->start = stored->start;
  total->last_end = stored->timestamp;
  total->value = stored->value;
  if (stored->histogram != nullptr) total->histogram = std::make_unique<model::Histogram>(*stored->histogram);
  return true;
}

Status DeltaAccumulator::Add(Tenant& tenant, TimestampMs now, const Newest& newest, uint32_t index,
                             wire::DecodedWrite* decoded) {
  const wire::DecodedSeries& series = decoded->series[index];
  const wire::DeltaLimits& limits = decoded->delta_limits;
  const bool is_float = series.floats_begin < series.floats_end;
  const uint32_t at = is_float ? series.floats_begin : series.histograms_begin;
  std::vector<TimestampMs>& starts = is_float ? decoded->start_timestamps : decoded->histogram_start_timestamps;
  const TimestampMs start = At(starts, at);
  const TimestampMs end = is_float ? decoded->timestamps[at] : decoded->histogram_timestamps[at];

  auto found = tenant.totals.find(series.raw_labels);
  bool begins = found == tenant.totals.end();
  bool went_on = false;
  if (begins) {
    if (tenant.totals.size() >= limits.series_max && now - tenant.swept >= kSweepIntervalMs) {
      Sweep(tenant, now, limits.stale_ms);
    }
    if (tenant.totals.size() >= limits.series_max) {
      return ResourceExhausted("{} series of delta temporality are being added up; the limit is otlp.delta_series",
                               tenant.totals.size());
    }
    if (series_.load(std::memory_order_relaxed) >= kDeltaSeriesMax) {
      return ResourceExhausted("all tenants together have {} series of delta temporality", kDeltaSeriesMax);
    }
    found = tenant.totals.try_emplace(std::string(series.raw_labels)).first;
    series_.fetch_add(1, std::memory_order_relaxed);
    went_on = GoOn(newest(series), &found->second);
    begins = !went_on;
  }
  Total& total = found->second;
  total.touched = now;
  // Which interval a stored sample came from is not known; one that ends with it is that one.
  if (went_on && end == total.last_end) total.last_start = start;
  const bool repeated = !begins && end == total.last_end && start == total.last_start;
  if (!repeated) {
    if (!begins && end <= total.last_end) {
      return InvalidArgument("the point of delta temporality ends at {} ms; all up to {} ms is added up already", end,
                             total.last_end);
    }
    begins =
        begins || is_float != (total.histogram == nullptr) || (start != 0 && start - total.last_end > limits.stale_ms);
    if (!begins && start != 0 && start < total.start) {
      return InvalidArgument("the point of delta temporality starts at {} ms, before what is added up, from {} ms on",
                             start, total.start);
    }
    if (begins) {
      total.start = start;
      total.value = 0;
      total.histogram.reset();
    }
    if (is_float) {
      total.value += decoded->values[at];
    } else if (total.histogram == nullptr) {
      total.histogram = std::make_unique<model::Histogram>(decoded->histograms[at]);
    } else if (const auto added = model::Add(total.histogram.get(), decoded->histograms[at]); !added.ok()) {
      // The layouts have nothing in common: what comes now counts from here on.
      *total.histogram = decoded->histograms[at];
      total.start = start;
    }
    total.last_start = start;
    total.last_end = end;
  }
  if (is_float) {
    decoded->values[at] = total.value;
  } else {
    decoded->histograms[at] = Stored(*total.histogram);
  }
  Put(total.start, at, &starts);
  return Status::Ok();
}

void DeltaAccumulator::Sweep(Tenant& tenant, TimestampMs now, int64_t stale_ms) {
  tenant.swept = now;
  const size_t dropped =
      std::erase_if(tenant.totals, [&](const auto& entry) { return now - entry.second.touched > stale_ms; });
  series_.fetch_sub(dropped, std::memory_order_relaxed);
}

}  // namespace millstream::engine

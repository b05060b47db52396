#include "exemplar_store.h"

#include <algorithm>
#include <bit>
#include <tuple>
#include <utility>

namespace millstream::tsdb {

bool ExemplarStore::Order::operator()(const model::Exemplar& a, const model::Exemplar& b) const {
  // Values by their bits: a NaN has to have a place, too.
  return std::tuple(a.timestamp, std::bit_cast<uint64_t>(a.value), a.labels.encoded()) <
         std::tuple(b.timestamp, std::bit_cast<uint64_t>(b.value), b.labels.encoded());
}

uint64_t ExemplarStore::Size(const model::Labels& series, const model::Exemplar& exemplar) const {
  return kExemplarSeriesBytes + series.encoded().size() + kExemplarBytes + exemplar.labels.encoded().size();
}

ExemplarStore::Verdict ExemplarStore::Judge(const model::Labels& series, const model::Exemplar& exemplar,
                                            int64_t window_ms) const {
  if (Size(series, exemplar) > bytes_max_) return Verdict::kTooLarge;
  MutexLock lock(mutex_);
  const auto found = series_.find(series.encoded());
  if (found == series_.end()) return Verdict::kNew;
  const Exemplars& known = found->second->exemplars;
  if (known.contains(exemplar)) return Verdict::kKnown;
  TimestampMs bound = 0;
  if (__builtin_sub_overflow(known.rbegin()->timestamp, window_ms, &bound)) bound = INT64_MIN;
  return exemplar.timestamp < bound ? Verdict::kTooOld : Verdict::kNew;
}

void ExemplarStore::Add(const model::Labels& series, const model::Exemplar& exemplar) {
  const uint64_t size = Size(series, exemplar);
  if (size > bytes_max_) return;
  MutexLock lock(mutex_);
  if (const auto found = series_.find(series.encoded());
      found != series_.end() && found->second->exemplars.contains(exemplar)) {
    return;
  }
  // As if the series were new: dropping may make it so.
  while (bytes_ + size > bytes_max_) DropOldest();
  auto found = series_.find(series.encoded());
  if (found == series_.end()) {
    auto owned = std::make_unique<Series>(Series{series, {}});
    const std::string_view key = owned->labels.encoded();
    found = series_.emplace(key, std::move(owned)).first;
    bytes_ += kExemplarSeriesBytes + key.size();
  }
  Series* const target = found->second.get();
  arrivals_.push_back({target, target->exemplars.insert(exemplar).first});
  bytes_ += kExemplarBytes + exemplar.labels.encoded().size();
}

void ExemplarStore::DropOldest() {
  const Arrival oldest = arrivals_.front();
  arrivals_.pop_front();
  bytes_ -= kExemplarBytes + oldest.exemplar->labels.encoded().size();
  oldest.series->exemplars.erase(oldest.exemplar);
  if (!oldest.series->exemplars.empty()) return;
  bytes_ -= kExemplarSeriesBytes + oldest.series->labels.encoded().size();
  // Found first: the key lives in what is erased.
  series_.erase(series_.find(oldest.series->labels.encoded()));
}

std::vector<model::SeriesExemplars> ExemplarStore::Select(
    storage::TimeRange range, std::span<const std::vector<model::Matcher>> selectors) const {
  std::vector<model::SeriesExemplars> selected;
  MutexLock lock(mutex_);
  for (const auto& [key, series] : series_) {
    const bool matches = std::any_of(selectors.begin(), selectors.end(), [&](const auto& matchers) {
      return std::all_of(matchers.begin(), matchers.end(), [&](const model::Matcher& matcher) {
        return matcher.Matches(series->labels.Get(matcher.name()));
      });
    });
    if (!matches) continue;
    model::SeriesExemplars out{series->labels, {}};
    for (const model::Exemplar& exemplar : series->exemplars) {
      if (exemplar.timestamp >= range.min && exemplar.timestamp <= range.max) out.exemplars.push_back(exemplar);
    }
    if (!out.exemplars.empty()) selected.push_back(std::move(out));
  }
  std::sort(selected.begin(), selected.end(), [](const auto& a, const auto& b) { return a.series < b.series; });
  return selected;
}

std::vector<model::SeriesExemplars> ExemplarStore::All() const {
  std::vector<model::SeriesExemplars> all;
  MutexLock lock(mutex_);
  all.reserve(arrivals_.size());
  for (const Arrival& arrival : arrivals_) all.push_back({arrival.series->labels, {*arrival.exemplar}});
  return all;
}

uint64_t ExemplarStore::bytes() const {
  MutexLock lock(mutex_);
  return bytes_;
}

uint64_t ExemplarStore::count() const {
  MutexLock lock(mutex_);
  return arrivals_.size();
}

}  // namespace millstream::tsdb

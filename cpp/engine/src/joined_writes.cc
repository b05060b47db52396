#include "joined_writes.h"

#include <algorithm>
#include <utility>

namespace millstream::engine {
namespace {

bool IsPlain(const wire::DecodedWrite& decoded) {
  return decoded.rejected == 0 && decoded.histograms.empty() && decoded.exemplars.empty() && decoded.metadata.empty() &&
         decoded.start_timestamps.empty() && std::ranges::all_of(decoded.series, [](const wire::DecodedSeries& series) {
           // A series without samples that is refused would count as one.
           return !series.delta && series.floats_end > series.floats_begin;
         });
}

}  // namespace

void CountByItem(uint32_t items, PushOutcome* outcome) {
  const bool complete = outcome->rejected == outcome->refusals.size();
  std::vector<ItemRefusal>& refusals = outcome->refusals;
  const auto [begin, end] = std::ranges::unique(refusals, {}, &ItemRefusal::item);
  refusals.erase(begin, end);
  outcome->rejected = complete ? refusals.size() : std::min<uint64_t>(outcome->rejected, items);
}

bool JoinedWrites::TryAdd(size_t index, wire::DecodedWrite* decoded) {
  const size_t samples = decoded->timestamps.size();
  if (samples > kJoinedRequestSamplesMax || !IsPlain(*decoded)) return false;
  if (!parts_.empty() && decoded->encoding != joined_.encoding) return false;
  if (joined_.timestamps.size() + samples > kJoinedSamplesMax) return false;

  parts_.push_back({index, next_item_, samples, decoded->items});
  const auto first_float = static_cast<uint32_t>(joined_.timestamps.size());
  uint32_t last_item = next_item_;
  joined_.encoding = decoded->encoding;
  for (wire::DecodedSeries series : decoded->series) {
    series.item += next_item_;
    series.floats_begin += first_float;
    series.floats_end += first_float;
    last_item = std::max(last_item, series.item);
    joined_.series.push_back(series);
  }
  next_item_ = last_item + 1;
  joined_.timestamps.insert(joined_.timestamps.end(), decoded->timestamps.begin(), decoded->timestamps.end());
  joined_.values.insert(joined_.values.end(), decoded->values.begin(), decoded->values.end());
  bytes_.push_back(std::move(decoded->bytes));
  return true;
}

std::vector<Result<PushOutcome>> JoinedWrites::Split(const Result<PushOutcome>& whole) const {
  if (!whole.ok()) return std::vector<Result<PushOutcome>>(parts_.size(), whole.status());
  if (whole->rejected != whole->refusals.size()) return {};
  std::vector<Result<PushOutcome>> outcomes;
  outcomes.reserve(parts_.size());
  auto refusal = whole->refusals.begin();
  for (size_t i = 0; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    const uint32_t end = i + 1 < parts_.size() ? parts_[i + 1].first_item : UINT32_MAX;
    PushOutcome outcome;
    for (; refusal != whole->refusals.end() && refusal->item < end; ++refusal) {
      outcome.refusals.push_back({refusal->item - part.first_item, refusal->reason});
    }
    outcome.rejected = outcome.refusals.size();
    outcome.samples = part.samples - outcome.rejected;
    outcome.offset_token = whole->offset_token;
    if (part.items > 0) CountByItem(part.items, &outcome);
    outcomes.emplace_back(std::move(outcome));
  }
  return outcomes;
}

}  // namespace millstream::engine

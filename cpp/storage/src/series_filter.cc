#include "millstream/storage/series_filter.h"

#include <algorithm>

namespace millstream::storage {
namespace {

bool Matches(const SeriesFilter::Selector& selector, const model::Labels& labels) {
  return std::all_of(selector.begin(), selector.end(),
                     [&](const model::Matcher& matcher) { return matcher.MatchesLabels(labels); });
}

bool AnyMatches(const std::vector<SeriesFilter::Selector>& selectors, const model::Labels& labels) {
  return std::any_of(selectors.begin(), selectors.end(),
                     [&](const SeriesFilter::Selector& selector) { return Matches(selector, labels); });
}

}  // namespace

bool SeriesFilter::Admits(const model::Labels& labels) const {
  return (allow_.empty() || AnyMatches(allow_, labels)) && !AnyMatches(deny_, labels);
}

const SeriesFilter::Selector& SeriesFilter::common() const {
  static const Selector kNone;
  return allow_.size() == 1 ? allow_.front() : kNone;
}

}  // namespace millstream::storage

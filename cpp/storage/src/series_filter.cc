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

using model::Matcher;
using model::MatchType;

bool AreOpposite(const Matcher& a, const Matcher& b) {
  const auto is = [&](MatchType one, MatchType other) { return a.type() == one && b.type() == other; };
  return a.name() == b.name() && a.value() == b.value() &&
         (is(MatchType::kEqual, MatchType::kNotEqual) || is(MatchType::kNotEqual, MatchType::kEqual) ||
          is(MatchType::kRegex, MatchType::kNotRegex) || is(MatchType::kNotRegex, MatchType::kRegex));
}

// Whether the matcher holds of whatever the selector matches.
bool Implies(const SeriesFilter::Selector& selector, const Matcher& matcher) {
  return std::ranges::any_of(selector, [&](const Matcher& one) {
    return one == matcher ||
           (one.type() == MatchType::kEqual && one.name() == matcher.name() && matcher.Matches(one.value()));
  });
}

// Whether it holds of nothing of that.
bool Excludes(const SeriesFilter::Selector& selector, const Matcher& matcher) {
  return std::ranges::any_of(selector, [&](const Matcher& one) {
    return AreOpposite(one, matcher) ||
           (one.type() == MatchType::kEqual && one.name() == matcher.name() && !matcher.Matches(one.value()));
  });
}

}  // namespace

bool SeriesFilter::Admits(const model::Labels& labels) const {
  return (allow_.empty() || AnyMatches(allow_, labels)) && !AnyMatches(deny_, labels);
}

bool SeriesFilter::AdmitsAllOf(const Selector& selector) const {
  const auto lies_within = [&](const Selector& allowed) {
    return std::ranges::all_of(allowed, [&](const Matcher& matcher) { return Implies(selector, matcher); });
  };
  const auto lies_outside = [&](const Selector& denied) {
    return std::ranges::any_of(denied, [&](const Matcher& matcher) { return Excludes(selector, matcher); });
  };
  return (allow_.empty() || std::ranges::any_of(allow_, lies_within)) && std::ranges::all_of(deny_, lies_outside);
}

const SeriesFilter::Selector& SeriesFilter::common() const {
  static const Selector kNone;
  return allow_.size() == 1 ? allow_.front() : kNone;
}

}  // namespace millstream::storage

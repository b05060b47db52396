// SeriesFilter: which series somebody may see or write. Made of selectors, as access lists are.
//
// A series is admitted when any selector of `allow` matches it (or there is none) and no selector of `deny` does.
// Threads     Immutable; safe to read from any thread.
// Cost        O(selectors · matchers) for each series.
#pragma once

#include <string_view>
#include <vector>

#include "millstream/model/labels.h"
#include "millstream/model/matcher.h"

namespace millstream::storage {

class SeriesFilter {
 public:
  // All of its matchers match.
  using Selector = std::vector<model::Matcher>;

  // Admits every series.
  SeriesFilter() = default;
  SeriesFilter(std::vector<Selector> allow, std::vector<Selector> deny)
      : allow_(std::move(allow)), deny_(std::move(deny)) {}

  bool admits_everything() const { return allow_.empty() && deny_.empty(); }
  bool Admits(const model::Labels& labels) const;
  // Whether every series that the selector matches is admitted, as far as the matchers alone tell it; false in doubt.
  bool AdmitsAllOf(const Selector& selector) const;
  // What must hold of every admitted series, so that others need not be looked at: empty when that is no conjunction.
  const Selector& common() const;

 private:
  std::vector<Selector> allow_;
  std::vector<Selector> deny_;
};

}  // namespace millstream::storage

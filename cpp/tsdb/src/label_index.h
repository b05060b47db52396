// LabelIndex: which series have which label pairs, and which series a list of matchers selects.
//
// A series is a dense number (an id); each label pair has the set of its ids as a compressed bitmap.
// Threads     Reads from many threads while nobody writes; the owner guards it.
// Cost        Select: set operations on bitmaps; a matcher that is not an equality looks at each value of its label
//             once, or at each series selected so far when those are fewer.
// Source      Lemire et al., "Roaring Bitmaps: Implementation of an Optimized Software Library", 2018. The rules for
//             absent labels are Prometheus's.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <roaring/roaring.hh>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/model/labels.h"
#include "millstream/model/matcher.h"
#include "millstream/storage/query_control.h"

namespace millstream::tsdb {

using SeriesIds = Roaring;

// The strings that a regular expression matches when it is a plain alternation of literals: "a|b|c".
std::optional<std::vector<std::string>> LiteralAlternatives(std::string_view regex);

class LabelIndex {
 public:
  using Values = std::map<std::string, SeriesIds, std::less<>>;
  using Names = std::map<std::string, Values, std::less<>>;
  using LabelsOf = std::function<const model::Labels&(uint32_t id)>;

  void Add(uint32_t id, const model::Labels& labels);
  void Remove(uint32_t id, const model::Labels& labels);
  // For an index read from a file. The pair must be new.
  void AddPair(std::string name, std::string value, SeriesIds ids);
  void SetAll(SeriesIds ids) { all_ = std::move(ids); }

  // The ids that all matchers match; all of them without matchers.
  Result<SeriesIds> Select(std::span<const model::Matcher> matchers, const LabelsOf& labels_of,
                           storage::QueryControl& control) const;

  const Names& names() const { return names_; }
  // Null when no series has the label.
  const Values* values(std::string_view name) const;
  const SeriesIds& all() const { return all_; }
  uint64_t pairs() const { return pairs_; }
  // Approximate.
  int64_t memory_bytes() const { return memory_bytes_; }

 private:
  Names names_;
  SeriesIds all_;
  uint64_t pairs_ = 0;
  int64_t memory_bytes_ = 0;
};

}  // namespace millstream::tsdb

// Graphite's plaintext protocol: `name[;tag=value…] value timestamp`, a line each.
//
// A name becomes metric and labels by the first rule of a mapping that matches it; without one it is the metric's name
// as it stands. Tags become labels. docs/ingest.md has the tables.
// Threads     Mapping: immutable. Decoder: any thread may call Decode; the cache has a lock of its own.
// Errors      A line that breaks a rule is refused by itself (errors by line, from 1); a blank line is none.
// Limits      A line has at most kGraphiteLineBytesMax bytes, a mapping at most kGraphiteRulesMax rules of
//             kGraphitePatternBytesMax bytes with kGraphiteWildcardsMax wildcards; at most `cached_max` names are
//             remembered, then all are forgotten.
// Cost        A name that was seen before costs one hash lookup; a new one tries the rules in order.
// Source      Carbon's plaintext protocol; the graphite exporter's mapping for the idea of globs with $1.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "millstream/base/mutex.h"
#include "millstream/base/result.h"
#include "millstream/base/strong_int.h"
#include "millstream/wire/byte_hash.h"
#include "millstream/wire/decoded_write.h"

namespace millstream::wire {

inline constexpr size_t kGraphiteLineBytesMax = 16 << 10;
inline constexpr size_t kGraphiteRulesMax = 1000;
inline constexpr size_t kGraphitePatternBytesMax = 1024;
inline constexpr size_t kGraphiteWildcardsMax = 32;

struct GraphiteRule {
  std::string match = {};  // components between dots; `*` stands for any text within one
  std::string name = {};   // $1, ${1}, … are what the wildcards matched, $$ is a dollar
  std::vector<std::pair<std::string, std::string>> labels = {};  // values likewise
  bool drop = false;                                             // lines that match are left out, and are no error
};

class GraphiteMapping {
 public:
  // `strict`: a name that no rule matches is left out, as if a last rule dropped it.
  // kInvalidArgument names the rule, from 1, and what is wrong with it.
  static Result<GraphiteMapping> Make(std::vector<GraphiteRule> rules, bool strict);

  struct Mapped {
    std::string raw_labels;  // pairs; empty when the line is to be left out
  };
  // What becomes of `name`, a path without tags.
  Mapped Map(std::string_view name) const;

 private:
  std::vector<GraphiteRule> rules_;
  bool strict_ = false;
};

class GraphiteDecoder {
 public:
  explicit GraphiteDecoder(GraphiteMapping mapping, size_t cached_max = 100'000)
      : mapping_(std::move(mapping)), cached_max_(cached_max) {}

  // Timestamps of -1 become `now`.
  DecodedWrite Decode(std::string_view text, TimestampMs now) EXCLUDES(mutex_);

 private:
  // The labels of a series part, tags included; none when the mapping leaves it out.
  Result<std::optional<std::string>> LabelsOf(std::string_view series);

  const GraphiteMapping mapping_;
  const size_t cached_max_;
  Mutex mutex_;
  std::unordered_map<std::string, std::optional<std::string>, ByteHash, std::equal_to<>> cached_ GUARDED_BY(mutex_);
};

}  // namespace millstream::wire

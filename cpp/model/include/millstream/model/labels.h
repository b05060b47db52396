// Labels: the identity of a series, as an immutable list of name and value pairs in order of name.
//
// Invariants  (1) Names are strictly ascending by bytes, so no name occurs twice. (2) No value is empty: an empty label
//             is an absent one.
// Layout      One buffer: per label its name and its value, each after its length (one byte below 255, else 0xFF and
//             three bytes, little-endian). Equal labels have equal bytes, so they compare and hash as one string.
// Cost        Lookup is linear in the number of labels; copies copy one string.
// Threads     Immutable; safe to read from any thread.
// Source      The encoding is that of Prometheus's stringlabels, whose hash limit_ratio() depends on.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millstream/base/result.h"

namespace millstream::model {

inline constexpr std::string_view kMetricName = "__name__";
// A length that the three-byte form can still hold; names and values must be no longer.
inline constexpr size_t kLabelBytesMax = (size_t{1} << 24) - 1;

struct Label {
  std::string_view name;
  std::string_view value;

  friend auto operator<=>(const Label&, const Label&) = default;
};

class Labels {
 public:
  class Iterator {
   public:
    using value_type = Label;
    using difference_type = std::ptrdiff_t;
    using iterator_category = std::input_iterator_tag;
    using pointer = const Label*;
    using reference = Label;

    Iterator() = default;
    explicit Iterator(std::string_view rest) : rest_(rest) {}
    Label operator*() const;
    Iterator& operator++();
    void operator++(int) { ++*this; }
    friend bool operator==(const Iterator& a, const Iterator& b) { return a.rest_.size() == b.rest_.size(); }

   private:
    std::string_view rest_;
  };

  Labels() = default;

  // Sorts by name and drops empty values. kInvalidArgument when a name occurs twice, or a name or value is longer than
  // kLabelBytesMax. Names and values are not checked for UTF-8; decoders of outside bytes do that.
  static Result<Labels> FromPairs(std::span<const Label> pairs);

  // As FromPairs, for literals of this program whose names are distinct: a duplicate aborts.
  static Labels Of(std::initializer_list<Label> pairs);

  // Takes bytes that encoded() returned, from a file or a peer. kDataLoss unless they keep both invariants.
  static Result<Labels> FromEncoded(std::string encoded);

  Iterator begin() const { return Iterator(encoded_); }
  Iterator end() const { return Iterator(std::string_view()); }
  bool empty() const { return encoded_.empty(); }
  size_t size() const;

  // The value of `name`; empty when absent.
  std::string_view Get(std::string_view name) const;
  bool Has(std::string_view name) const { return !Get(name).empty(); }
  std::string_view metric_name() const { return Get(kMetricName); }

  std::string_view encoded() const { return encoded_; }
  // XXH3 of encoded(): routing and tables.
  uint64_t Hash() const;

  // {name="value", …} as PromQL writes it, the metric name in front where it needs no quotes.
  std::string ToString() const;

  friend bool operator==(const Labels&, const Labels&) = default;
  // Pairwise by name, then value; a list that ends first is less. The order of results.
  friend std::strong_ordering operator<=>(const Labels& a, const Labels& b);

 private:
  friend class LabelsBuilder;
  std::string encoded_;
};

// Changes a few labels of a set. Reusable: Reset() keeps the memory.
//
// Ownership   Copies what it is given.
class LabelsBuilder {
 public:
  LabelsBuilder() = default;
  explicit LabelsBuilder(const Labels& base) { Reset(base); }

  void Reset(const Labels& base);
  // An empty value deletes.
  LabelsBuilder& Set(std::string_view name, std::string_view value);
  LabelsBuilder& Del(std::string_view name);
  // Deletes all labels but, or only, the named ones.
  LabelsBuilder& Keep(std::span<const std::string> names);
  LabelsBuilder& Del(std::span<const std::string> names);
  std::string_view Get(std::string_view name) const;

  Labels Build() const;

 private:
  std::vector<std::pair<std::string, std::string>> labels_;  // sorted by name
};

// Whether `name` can stand bare before braces in PromQL: [a-zA-Z_:][a-zA-Z0-9_:]*.
bool IsLegacyMetricName(std::string_view name);
// Whether `name` can stand bare as a label name: [a-zA-Z_][a-zA-Z0-9_]*.
bool IsLegacyLabelName(std::string_view name);

// `text` in double quotes with Go's escapes, as strconv.Quote writes it; bytes that are no UTF-8 as \xNN.
std::string Quote(std::string_view text);

}  // namespace millstream::model

template <>
struct std::hash<millstream::model::Labels> {
  size_t operator()(const millstream::model::Labels& labels) const noexcept { return labels.Hash(); }
};

// Between Python's values and the engine's.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millstream/engine/database.h"
#include "millstream/model/labels.h"

namespace millstream::pybind {

// A one-dimensional contiguous column; other layouts and types are converted by a copy.
template <typename T>
using Column = pybind11::array_t<T, pybind11::array::c_style | pybind11::array::forcecast>;

// The column's values, borrowed; InvalidArgumentError unless it has one dimension.
template <typename T>
std::span<const T> SpanOf(const Column<T>& column, const char* name);

// The pairs of a mapping from str to str; Python owns the strings, so the mapping must outlive the views.
class LabelPairs {
 public:
  explicit LabelPairs(const pybind11::dict& labels);
  void Add(std::string_view name, std::string_view value) { pairs_.push_back({name, value}); }
  const std::vector<model::Label>& pairs() const { return pairs_; }

 private:
  std::vector<model::Label> pairs_;
};

// The pairs of each mapping; Python owns the strings.
std::vector<std::vector<model::Label>> LabelSets(const pybind11::sequence& labels);

pybind11::dict LabelsDict(const model::Labels& labels);
// What is no UTF-8 is replaced; or escaped by surrogates, which say which bytes these are.
pybind11::str Text(std::string_view text);
pybind11::str EscapedText(std::string_view text);
pybind11::bytes Bytes(std::string_view bytes);
std::string_view BytesView(const pybind11::bytes& bytes);

}  // namespace millstream::pybind

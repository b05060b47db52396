// StableSort: sorts a vector and keeps the order of equal elements.
//
// std::stable_sort asks for a temporary buffer by a function that C++17 deprecated, and so does not compile where
// warnings are errors.
// Cost        O(n log n) comparisons, n moves, a second vector.
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

namespace millstream::promql::exec {

template <typename T, typename Less>
void StableSort(std::vector<T>* values, Less less) {
  std::vector<size_t> order(values->size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (less((*values)[a], (*values)[b])) return true;
    if (less((*values)[b], (*values)[a])) return false;
    return a < b;
  });
  std::vector<T> sorted;
  sorted.reserve(values->size());
  for (const size_t index : order) sorted.push_back(std::move((*values)[index]));
  *values = std::move(sorted);
}

}  // namespace millstream::promql::exec

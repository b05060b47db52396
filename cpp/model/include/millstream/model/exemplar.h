// Exemplar: one observation out of many, with labels of its own that lead to where it came from, most often a trace id.
#pragma once

#include <vector>

#include "millstream/base/strong_int.h"
#include "millstream/model/labels.h"

namespace millstream::model {

// Of all names and values together, in code points. Source: OpenMetrics 1.0, "Exemplars".
inline constexpr size_t kExemplarLabelRunesMax = 128;

struct Exemplar {
  Labels labels;  // may be empty
  double value = 0;
  TimestampMs timestamp = 0;
};

// Exemplars of one series.
struct SeriesExemplars {
  Labels series;
  std::vector<Exemplar> exemplars;
};

}  // namespace millstream::model

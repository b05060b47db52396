// Series descriptions: one line of a script that names a series and its values.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/base/strong_int.h"
#include "millstream/model/histogram.h"
#include "millstream/model/labels.h"

namespace millstream::promqltest {

struct SequenceValue {
  bool omitted = false;
  double value = 0;
  std::shared_ptr<const model::Histogram> histogram;
  bool hint_written = false;  // the histogram's counter_reset_hint stands in the script
};

struct SeriesDescription {
  model::Labels labels;
  std::vector<SequenceValue> values;
};

// `name{label="value"} 1 2+3x4 _ stale {{schema:0 …}}`.
Result<SeriesDescription> ParseSeries(std::string_view line);

// The series alone, without values; all of `text`.
Result<model::Labels> ParseMetric(std::string_view text);

// Offsets of start timestamps from their samples; nothing where there is none.
Result<std::vector<std::optional<int64_t>>> ParseStartOffsets(std::string_view items);

}  // namespace millstream::promqltest

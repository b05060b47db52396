// The series part of a text-exposition line: name{label="value",…}, {"utf-8 name","label"="value",…}.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millstream/base/result.h"

namespace millstream::wire {

// Where the series part of `line` ends, without unescaping anything: the metric name, and the braces if there are any.
// kInvalidArgument when a brace or a quote stays open, or nothing stands before the value.
Result<size_t> FindSeriesEnd(std::string_view line);

// The pairs of a series part, unescaped; a metric name comes as __name__.
Result<std::vector<std::pair<std::string, std::string>>> ParseTextLabels(std::string_view text);

}  // namespace millstream::wire

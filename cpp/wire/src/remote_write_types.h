// The types of metrics that remote write numbers: versions 1 and 2 have the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string_view>

namespace millstream::wire {

// "unknown" for a number that has no type.
constexpr std::string_view RemoteWriteMetricType(uint64_t number) {
  constexpr std::string_view kTypes[] = {"unknown",        "counter", "gauge", "histogram",
                                         "gaugehistogram", "summary", "info",  "stateset"};
  return kTypes[number < std::size(kTypes) ? number : 0];
}

}  // namespace millstream::wire

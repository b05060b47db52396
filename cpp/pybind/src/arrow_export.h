// Query results through the Arrow C data interface, without linking Arrow.
//
// One row a float sample, series after series: a dictionary column for each label, then `time` (timestamp[ms, UTC]) and
// `value` (double). A label called time or value gets the column label_time or label_value. Histogram samples are not
// in the stream.
// Ownership   The consumer owns what it is given and releases it by the interface's rules.
// Source      The Arrow specification, "The Arrow C data interface" and "The Arrow C stream interface".
#pragma once

#include <pybind11/pybind11.h>

#include "millstream/promql/value.h"

namespace millstream::pybind {

// A capsule named "arrow_array_stream".
pybind11::capsule ArrowStream(const promql::QueryResult& result);

}  // namespace millstream::pybind

// The pieces of Prometheus's JSON answers: strings, sample values and timestamps in its exact spelling.
//
// Cost        Appends; no allocation beyond the growth of the output.
// Source      Prometheus HTTP API.
#pragma once

#include <string>
#include <string_view>

#include "millstream/base/strong_int.h"
#include "millstream/model/labels.h"

namespace millstream::wire {

// In quotes, with what JSON demands escaped, and <, > and & too, so that an answer is inert inside HTML. Bytes that are
// not UTF-8 become U+FFFD.
void AppendJsonString(std::string_view text, std::string* out);

// {"name":"value",…}
void AppendJsonLabels(const model::Labels& labels, std::string* out);

// The shortest decimal that reads back to the same double, without quotes: 0.1, 1e+21, +Inf, NaN.
void AppendFloat(double value, std::string* out);

// Unix seconds with as many of three decimals as are needed: 1435781451.781.
void AppendTimestamp(TimestampMs timestamp, std::string* out);

// [1435781451.781,"0.1"]
void AppendSamplePair(TimestampMs timestamp, double value, std::string* out);

}  // namespace millstream::wire

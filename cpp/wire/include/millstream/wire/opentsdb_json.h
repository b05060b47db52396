// OpenTSDB's JSON put: {"metric","timestamp","value","tags"?}, or an array of them.
//
// timestamp is in seconds (below 2^32, a fraction is taken) or milliseconds (up to 13 digits), as a number or a string.
// value is a number or a string of one. tags become labels; their values may be strings, numbers or booleans. Other
// fields are passed over.
// Errors      kInvalidArgument: not JSON, or neither an object nor an array; nothing of it may be stored. A point of
//             the wrong shape is refused by itself (errors by index, from 0; a single object has index 0).
// Limits      As JSON metrics: kJsonBytesMax bytes, kJsonDepthMax deep.
// Source      opentsdb.net, HTTP API, /api/put, and IncomingDataPoint of OpenTSDB 2.4 for what it leaves open.
#pragma once

#include <string_view>

#include "millstream/base/result.h"
#include "millstream/wire/decoded_write.h"

namespace millstream::wire {

Result<DecodedWrite> DecodeOpenTsdbJson(std::string_view text);

}  // namespace millstream::wire

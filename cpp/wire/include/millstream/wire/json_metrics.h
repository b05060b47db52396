// JSON metrics: {"metrics":[{"name","value","timestamp"?,"labels"?,"client_id"?}, …]}.
//
// timestamp is in ms. client_id becomes the label client_id.
// Errors      kInvalidArgument: not JSON, or no array "metrics"; nothing of it may be stored. An item of the wrong
//             shape is refused by itself (errors by index, from 0).
// Limits      At most kJsonBytesMax bytes, nested at most kJsonDepthMax deep.
#pragma once

#include <string>

#include "millstream/base/result.h"
#include "millstream/wire/decoded_write.h"

namespace millstream::wire {

inline constexpr size_t kJsonBytesMax = 32 << 20;
inline constexpr size_t kJsonDepthMax = 32;

Result<DecodedWrite> DecodeJsonMetrics(std::string_view text, TimestampMs default_timestamp);

}  // namespace millstream::wire

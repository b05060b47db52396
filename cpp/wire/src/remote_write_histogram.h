// A native histogram of remote write: version 1 and 2 have the same message, version 2 with a start timestamp.
#pragma once

#include <cstdint>
#include <string_view>

#include "millstream/base/status.h"
#include "millstream/wire/decoded_write.h"

namespace millstream::wire {

// Adds the histogram `message`, which stands at byte `origin` of the request, to *out. One with whole counts that do
// not add up is refused there as part of `item`; other rules are the storage's.
Status ReadRemoteWriteHistogram(std::string_view message, size_t origin, uint32_t item, DecodedWrite* out);

}  // namespace millstream::wire

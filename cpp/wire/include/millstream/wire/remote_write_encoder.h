// Remote write 1.0 bodies from columns: what the Python client sends. The other direction of remote_write.h.
//
// Invariants  Every sample is in exactly one body; a series' samples keep their order within a body and across them.
//             Timestamps and the 64 bits of values go out as they came in. Labels are sorted by name.
// Cost        O(rows + bytes of labels). Memory: the bodies and 8 bytes a row.
// Errors      kInvalidArgument: columns of different lengths, a row of a series that is not there.
//             kResourceExhausted: labels that alone fill a body.
// Source      prometheus.io, "Prometheus Remote-Write 1.0 specification".
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/base/strong_int.h"
#include "millstream/model/labels.h"

namespace millstream::wire {

// Row i is a sample of series[which[i]].
struct RemoteWriteColumns {
  std::span<const std::vector<model::Label>> series;
  std::span<const uint64_t> which;
  std::span<const TimestampMs> timestamps;
  std::span<const double> values;
};

struct RemoteWriteBody {
  std::string compressed;
  uint64_t samples = 0;
  std::vector<uint64_t> series;  // which of the columns' series the body's first, second, … are
};

// As many bodies as it takes for none to be longer than `message_bytes_max` before compression.
Result<std::vector<RemoteWriteBody>> EncodeRemoteWrite(const RemoteWriteColumns& columns, size_t message_bytes_max);

}  // namespace millstream::wire

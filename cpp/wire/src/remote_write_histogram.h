// Native histograms of remote write: versions 1 and 2 have the same message, version 2 with a start timestamp.
#pragma once

#include <cstdint>

#include "millstream/base/status.h"
#include "millstream/wire/decoded_write.h"
#include "protobuf_fields.h"

namespace millstream::wire {

// Of one request.
class HistogramReader {
 public:
  // Adds the histogram `message` to *out. One with whole counts that do not add up is refused there as part of `item`;
  // other rules are the storage's. kOutOfRange when the request's histograms take more than
  // kRemoteWriteHistogramBytesMax: a bucket of one byte becomes one of eight.
  Status Read(const Child& message, uint32_t item, DecodedWrite* out);

 private:
  size_t bytes_ = 0;
};

}  // namespace millstream::wire

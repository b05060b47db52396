// Appender: the simple way to write samples one by one, for scripts and tests. The engine's hot path is WriteBatch.
#pragma once

#include "millstream/base/status.h"
#include "millstream/base/strong_int.h"
#include "millstream/model/histogram.h"
#include "millstream/model/labels.h"

namespace millstream::storage {

// Threads     One thread at a time.
class Appender {
 public:
  virtual ~Appender() = default;

  // Buffers one sample; `start` is when its counting began, 0 is unknown. Nothing is readable before Commit.
  virtual Status Append(const model::Labels& labels, TimestampMs timestamp, double value, TimestampMs start) = 0;
  virtual Status AppendHistogram(const model::Labels& labels, TimestampMs timestamp, const model::Histogram& histogram,
                                 TimestampMs start) = 0;

  // Writes all that was buffered; an error when any sample was refused (the first refusal's reason).
  virtual Status Commit() = 0;
};

}  // namespace millstream::storage

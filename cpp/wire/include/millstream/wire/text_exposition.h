// The text exposition format of Prometheus and OpenMetrics 1.0.
//
// Errors      A line that breaks a rule is refused by itself (errors by line, from 1). Text without a single good line
//             is no error here: the caller sees the counts.
// Cost        One pass; borrows from the text, allocates per column only.
// Source      prometheus.io "Exposition formats"; OpenMetrics 1.0.
#pragma once

#include <string>

#include "millstream/base/strong_int.h"
#include "millstream/wire/decoded_write.h"

namespace millstream::wire {

enum class TextFormat : uint8_t {
  kPrometheus,   // timestamps are ms
  kOpenMetrics,  // timestamps are seconds; `# EOF` ends the text; an exemplar may follow a sample
};

// Samples without a timestamp get `default_timestamp`.
DecodedWrite DecodeTextExposition(std::string text, TextFormat format, TimestampMs default_timestamp);

}  // namespace millstream::wire

// The text exposition format of Prometheus and OpenMetrics 1.0.
//
// Errors      A line that breaks a rule is refused by itself (errors by line, from 1). Text without a single good line
//             is no error here: the caller sees the counts.
// Cost        One pass; borrows from the text, allocates per column only.
// Source      prometheus.io "Exposition formats"; OpenMetrics 1.0.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "millstream/base/status.h"
#include "millstream/base/strong_int.h"
#include "millstream/model/exemplar.h"
#include "millstream/wire/decoded_write.h"

namespace millstream::wire {

enum class TextFormat : uint8_t {
  kPrometheus,   // timestamps are ms
  kOpenMetrics,  // timestamps are seconds; `# EOF` ends the text; an exemplar may follow a sample
};

// What a comment says of a metric. A type is written as the text has it, help is unescaped.
struct ExpositionDescription {
  enum class Kind : uint8_t { kHelp, kType, kUnit };

  Kind kind = Kind::kHelp;
  std::string metric;
  std::string text;
};

// What a line says of a series, whose labels are text (LabelEncoding::kText) that nobody looked at.
struct ExpositionSample {
  std::string_view raw_labels;
  double value = 0;
  std::optional<TimestampMs> timestamp;
  std::optional<model::Exemplar> exemplar;
  bool exemplar_is_timed = false;  // else the exemplar is of its sample's time
};

// Takes what lines say, in their order.
class ExpositionSink {
 public:
  virtual ~ExpositionSink() = default;
  virtual void Describe(ExpositionDescription description) = 0;
  virtual void Take(uint32_t line, ExpositionSample sample) = 0;
  // Also for an exemplar, whose sample comes then without it.
  virtual void Refuse(uint32_t line, Status reason) = 0;
};

void ReadTextExposition(std::string_view text, TextFormat format, ExpositionSink* sink);

// Samples without a timestamp get `default_timestamp`.
DecodedWrite DecodeTextExposition(std::string text, TextFormat format, TimestampMs default_timestamp);

}  // namespace millstream::wire

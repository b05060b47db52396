// The labels of a decoded series, to compare.
#pragma once

#include <cstddef>
#include <string>

#include "millstream/base/result.h"
#include "millstream/model/labels.h"
#include "millstream/wire/decoded_write.h"
#include "millstream/wire/labels_decoder.h"

namespace millstream::wire {

// As text; or why they are none.
inline std::string SeriesText(const DecodedWrite& decoded, size_t index) {
  const Result<model::Labels> labels = DecodeLabels(decoded.encoding, decoded.series[index].raw_labels);
  return labels.ok() ? labels->ToString() : labels.status().ToString();
}

}  // namespace millstream::wire

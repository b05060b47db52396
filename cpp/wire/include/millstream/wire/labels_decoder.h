// From a series' raw label bytes to model::Labels, with every rule that outside labels must keep.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "millstream/base/result.h"
#include "millstream/model/exemplar.h"
#include "millstream/model/labels.h"
#include "millstream/wire/decoded_write.h"

namespace millstream::wire {

// What one series may carry.
struct LabelLimits {
  size_t labels_max = 64;
  size_t name_bytes_max = 1024;
  size_t value_bytes_max = 16 * 1024;
};

// The labels that `raw` says, in any order. kInvalidArgument, naming the label, when bytes are malformed or not UTF-8,
// a name is empty or occurs twice, or there is no metric name; kResourceExhausted past a limit. Labels with empty
// values are dropped, as Prometheus does.
Result<model::Labels> DecodeLabels(LabelEncoding encoding, std::string_view raw, const LabelLimits& limits = {});

// The labels of an exemplar. kInvalidArgument when one is not UTF-8, a name is empty or occurs twice, or names and
// values together are longer than model::kExemplarLabelRunesMax. None at all are fine.
Result<model::Labels> DecodeExemplarLabels(std::span<const model::Label> pairs);

// Appends one string in the form of LabelEncoding::kPairs.
void AppendPairString(std::string_view text, std::string* out);

}  // namespace millstream::wire

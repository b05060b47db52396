#include "millstream/wire/labels_decoder.h"

#include <utility>
#include <vector>

#include "millstream/base/utf8.h"
#include "protobuf_reader.h"
#include "shown.h"
#include "text_labels.h"

namespace millstream::wire {
namespace {

using model::Label;
using model::Labels;
using model::Quote;

Result<Labels> Validate(std::span<const Label> pairs, const LabelLimits& limits) {
  if (pairs.size() > limits.labels_max) {
    return ResourceExhausted("{} labels; the limit is {}", pairs.size(), limits.labels_max);
  }
  bool named = false;
  for (const Label& label : pairs) {
    if (label.name.empty()) return InvalidArgument("empty label name");
    if (label.name.size() > limits.name_bytes_max) {
      return ResourceExhausted("label name {} is {} bytes long; the limit is {}", Shown(label.name), label.name.size(),
                               limits.name_bytes_max);
    }
    if (label.value.size() > limits.value_bytes_max) {
      return ResourceExhausted("the value of label {} is {} bytes long; the limit is {}", Shown(label.name),
                               label.value.size(), limits.value_bytes_max);
    }
    if (const size_t bad = FirstInvalidUtf8(label.name); bad != std::string_view::npos) {
      return InvalidArgument("label name {} is not UTF-8 at byte {}", Shown(label.name.substr(0, bad)), bad);
    }
    if (const size_t bad = FirstInvalidUtf8(label.value); bad != std::string_view::npos) {
      return InvalidArgument("the value of label {} is not UTF-8 at byte {}", Shown(label.name), bad);
    }
    if (label.name == model::kMetricName) named = named || !label.value.empty();
  }
  if (!named) return InvalidArgument("the metric name is missing or empty");
  return Labels::FromPairs(pairs);
}

Result<Labels> DecodeProtobufLabels(std::string_view raw, const LabelLimits& limits) {
  std::vector<Label> pairs;
  ProtobufReader reader(raw);
  while (!reader.done()) {
    MS_RETURN_IF_ERROR(reader.Next());
    MS_RETURN_IF_ERROR(reader.Expect(WireType::kBytes));
    MS_ASSIGN_OR_RETURN(const std::string_view message, reader.Bytes());
    Label label;
    ProtobufReader fields(message, reader.offset() - message.size());
    while (!fields.done()) {
      MS_RETURN_IF_ERROR(fields.Next());
      if (fields.field() > 2) {
        MS_RETURN_IF_ERROR(fields.Skip());
        continue;
      }
      MS_RETURN_IF_ERROR(fields.Expect(WireType::kBytes));
      MS_ASSIGN_OR_RETURN((fields.field() == 1 ? label.name : label.value), fields.Bytes());
    }
    if (pairs.size() > limits.labels_max) break;
    pairs.push_back(label);
  }
  return Validate(pairs, limits);
}

bool CutPairString(std::string_view* raw, std::string_view* text) {
  if (raw->size() < 4) return false;
  uint32_t length = 0;
  for (size_t i = 0; i < 4; ++i) length |= uint32_t{static_cast<unsigned char>((*raw)[i])} << (8 * i);
  if (raw->size() - 4 < length) return false;
  *text = raw->substr(4, length);
  raw->remove_prefix(4 + size_t{length});
  return true;
}

}  // namespace

Result<Labels> DecodeExemplarLabels(std::span<const Label> pairs) {
  size_t runes = 0;
  for (const Label& label : pairs) {
    if (label.name.empty()) return InvalidArgument("empty label name in an exemplar");
    for (const std::string_view text : {label.name, label.value}) {
      if (text.size() > 4 * model::kExemplarLabelRunesMax) {
        return InvalidArgument("the labels of an exemplar are longer than {} characters",
                               model::kExemplarLabelRunesMax);
      }
      if (FirstInvalidUtf8(text) != std::string_view::npos) {
        return InvalidArgument("a label of an exemplar is not UTF-8");
      }
      for (const char c : text) runes += (static_cast<unsigned char>(c) & 0xC0u) != 0x80u ? 1 : 0;
    }
    if (runes > model::kExemplarLabelRunesMax) {
      return InvalidArgument("the labels of an exemplar are longer than {} characters", model::kExemplarLabelRunesMax);
    }
  }
  return Labels::FromPairs(pairs);
}

void AppendPairString(std::string_view text, std::string* out) {
  for (int shift = 0; shift < 32; shift += 8) out->push_back(static_cast<char>((text.size() >> shift) & 0xFF));
  out->append(text);
}

Result<Labels> DecodeLabels(LabelEncoding encoding, std::string_view raw, const LabelLimits& limits) {
  switch (encoding) {
    case LabelEncoding::kProtobuf:
      return DecodeProtobufLabels(raw, limits);
    case LabelEncoding::kText: {
      MS_ASSIGN_OR_RETURN(const auto strings, ParseTextLabels(raw));
      std::vector<Label> pairs;
      for (const auto& [name, value] : strings) pairs.push_back({name, value});
      return Validate(pairs, limits);
    }
    case LabelEncoding::kPairs: {
      std::vector<Label> pairs;
      while (!raw.empty()) {
        Label label;
        if (!CutPairString(&raw, &label.name) || !CutPairString(&raw, &label.value)) {
          return InvalidArgument("label pairs are cut off");
        }
        pairs.push_back(label);
      }
      return Validate(pairs, limits);
    }
  }
  return InvalidArgument("unknown label encoding");
}

}  // namespace millstream::wire

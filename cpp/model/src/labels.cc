#include "millstream/model/labels.h"

#include <fmt/format.h>

#include <algorithm>

#include "millstream/base/check.h"
#include "millstream/base/hash.h"
#include "millstream/base/utf8.h"

namespace millstream::model {
namespace {

constexpr unsigned char kLongLength = 0xFF;

void AppendField(std::string* out, std::string_view field) {
  MS_CHECK(field.size() <= kLabelBytesMax);
  if (field.size() < kLongLength) {
    out->push_back(static_cast<char>(field.size()));
  } else {
    out->push_back(static_cast<char>(kLongLength));
    for (int shift = 0; shift < 24; shift += 8) out->push_back(static_cast<char>((field.size() >> shift) & 0xFF));
  }
  out->append(field);
}

// Cuts one field off the front of `rest`; false when the bytes end inside it.
bool CutField(std::string_view* rest, std::string_view* field) {
  if (rest->empty()) return false;
  size_t length = static_cast<unsigned char>(rest->front());
  size_t header = 1;
  if (length == kLongLength) {
    if (rest->size() < 4) return false;
    length = 0;
    for (size_t i = 0; i < 3; ++i) length |= size_t{static_cast<unsigned char>((*rest)[1 + i])} << (8 * i);
    header = 4;
  }
  if (rest->size() - header < length) return false;
  *field = rest->substr(header, length);
  rest->remove_prefix(header + length);
  return true;
}

}  // namespace

Label Labels::Iterator::operator*() const {
  std::string_view rest = rest_;
  Label label;
  MS_CHECK(CutField(&rest, &label.name) && CutField(&rest, &label.value));
  return label;
}

Labels::Iterator& Labels::Iterator::operator++() {
  std::string_view ignored;
  MS_CHECK(CutField(&rest_, &ignored) && CutField(&rest_, &ignored));
  return *this;
}

Result<Labels> Labels::FromPairs(std::span<const Label> pairs) {
  std::vector<Label> sorted(pairs.begin(), pairs.end());
  std::sort(sorted.begin(), sorted.end());
  Labels labels;
  for (size_t i = 0; i < sorted.size(); ++i) {
    if (i > 0 && sorted[i].name == sorted[i - 1].name) {
      return InvalidArgument("label name {} occurs twice", Quote(sorted[i].name));
    }
    if (sorted[i].name.size() > kLabelBytesMax || sorted[i].value.size() > kLabelBytesMax) {
      return InvalidArgument("a label name or value is longer than {} bytes", kLabelBytesMax);
    }
    if (sorted[i].value.empty()) continue;
    AppendField(&labels.encoded_, sorted[i].name);
    AppendField(&labels.encoded_, sorted[i].value);
  }
  return labels;
}

Labels Labels::Of(std::initializer_list<Label> pairs) {
  return FromPairs(std::span<const Label>(pairs.begin(), pairs.size())).value();
}

Result<Labels> Labels::FromEncoded(std::string encoded) {
  std::string_view rest = encoded;
  std::string_view previous;
  bool first = true;
  while (!rest.empty()) {
    Label label;
    if (!CutField(&rest, &label.name) || !CutField(&rest, &label.value)) return DataLoss("labels are cut off");
    if (label.value.empty()) return DataLoss("label {} has an empty value", Quote(label.name));
    if (!first && label.name <= previous) return DataLoss("label {} is out of order", Quote(label.name));
    previous = label.name;
    first = false;
  }
  Labels labels;
  labels.encoded_ = std::move(encoded);
  return labels;
}

size_t Labels::size() const {
  return static_cast<size_t>(std::distance(begin(), end()));
}

std::string_view Labels::Get(std::string_view name) const {
  std::string_view rest = encoded_;
  Label label;
  while (CutField(&rest, &label.name) && CutField(&rest, &label.value)) {
    if (label.name == name) return label.value;
    if (label.name > name) break;
  }
  return {};
}

uint64_t Labels::Hash() const {
  return Hash64(encoded_);
}

std::string Labels::ToString() const {
  std::string out;
  const std::string_view name = metric_name();
  const bool bare_name = IsLegacyMetricName(name);
  if (bare_name) out = name;
  std::string body;
  for (const Label label : *this) {
    const bool is_name = label.name == kMetricName;
    if (is_name && bare_name) continue;
    if (!body.empty()) body += ", ";
    if (is_name) {
      body += Quote(label.value);
    } else {
      body += fmt::format("{}={}", IsLegacyLabelName(label.name) ? std::string(label.name) : Quote(label.name),
                          Quote(label.value));
    }
  }
  if (!body.empty() || !bare_name) out += "{" + body + "}";
  return out;
}

std::strong_ordering operator<=>(const Labels& a, const Labels& b) {
  auto i = a.begin();
  auto j = b.begin();
  for (; i != a.end() && j != b.end(); ++i, ++j) {
    if (const auto order = *i <=> *j; order != 0) return order;
  }
  return (i != a.end()) <=> (j != b.end());
}

void LabelsBuilder::Reset(const Labels& base) {
  labels_.clear();
  for (const Label label : base) labels_.emplace_back(label.name, label.value);
}

LabelsBuilder& LabelsBuilder::Set(std::string_view name, std::string_view value) {
  if (value.empty()) return Del(name);
  const auto at = std::lower_bound(labels_.begin(), labels_.end(), name,
                                   [](const auto& label, std::string_view key) { return label.first < key; });
  if (at != labels_.end() && at->first == name) {
    at->second = value;
  } else {
    labels_.emplace(at, name, value);
  }
  return *this;
}

LabelsBuilder& LabelsBuilder::Del(std::string_view name) {
  std::erase_if(labels_, [&](const auto& label) { return label.first == name; });
  return *this;
}

LabelsBuilder& LabelsBuilder::Keep(std::span<const std::string> names) {
  std::erase_if(labels_,
                [&](const auto& label) { return std::find(names.begin(), names.end(), label.first) == names.end(); });
  return *this;
}

LabelsBuilder& LabelsBuilder::Del(std::span<const std::string> names) {
  std::erase_if(labels_,
                [&](const auto& label) { return std::find(names.begin(), names.end(), label.first) != names.end(); });
  return *this;
}

std::string_view LabelsBuilder::Get(std::string_view name) const {
  for (const auto& [key, value] : labels_) {
    if (key == name) return value;
  }
  return {};
}

Labels LabelsBuilder::Build() const {
  Labels labels;
  for (const auto& [name, value] : labels_) {
    AppendField(&labels.encoded_, name);
    AppendField(&labels.encoded_, value);
  }
  return labels;
}

bool IsLegacyMetricName(std::string_view name) {
  if (name.empty() || (name.front() >= '0' && name.front() <= '9')) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == ':';
  });
}

bool IsLegacyLabelName(std::string_view name) {
  return IsLegacyMetricName(name) && name.find(':') == std::string_view::npos;
}

namespace {

void AppendQuoted(std::string_view text, std::string* out) {
  for (const char c : text) {
    switch (c) {
      case '"':
        *out += "\\\"";
        break;
      case '\\':
        *out += "\\\\";
        break;
      case '\a':
        *out += "\\a";
        break;
      case '\b':
        *out += "\\b";
        break;
      case '\f':
        *out += "\\f";
        break;
      case '\n':
        *out += "\\n";
        break;
      case '\r':
        *out += "\\r";
        break;
      case '\t':
        *out += "\\t";
        break;
      case '\v':
        *out += "\\v";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
          *out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
        } else {
          *out += c;
        }
    }
  }
}

}  // namespace

std::string Quote(std::string_view text) {
  std::string out = "\"";
  while (true) {
    // Bytes that are no UTF-8 can stand in a string only as escapes.
    const size_t invalid = FirstInvalidUtf8(text);
    AppendQuoted(text.substr(0, invalid), &out);
    if (invalid == std::string_view::npos) return out + "\"";
    out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[invalid]));
    text.remove_prefix(invalid + 1);
  }
}

}  // namespace millstream::model

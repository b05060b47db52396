#include "label_index.h"

#include <algorithm>

namespace millstream::tsdb {
namespace {

// An estimate: a map node, a string and a bitmap with one container.
constexpr int64_t kPairBytes = 192;
constexpr int64_t kPostingBytes = 4;
constexpr size_t kAlternativesMax = 4096;
constexpr size_t kCheckEveryValue = 4096;

bool IsMeta(char c) {
  return std::string_view(R"(\.+*?()[]{}^$|)").find(c) != std::string_view::npos;
}

// Cheap and selective matchers first.
int Rank(const model::Matcher& matcher) {
  switch (matcher.type()) {
    case model::MatchType::kEqual:
      return matcher.value().empty() ? 2 : 0;
    case model::MatchType::kRegex:
      return LiteralAlternatives(matcher.value()).has_value() ? 1 : 3;
    case model::MatchType::kNotEqual:
      return 2;
    case model::MatchType::kNotRegex:
      return 4;
  }
  return 4;
}

// The non-empty strings that alone decide a matcher: ids that have one of them match, or (`negative`) do not.
std::optional<std::vector<std::string>> DecidingValues(const model::Matcher& matcher, bool* negative) {
  *negative = matcher.type() == model::MatchType::kNotEqual || matcher.type() == model::MatchType::kNotRegex;
  std::optional<std::vector<std::string>> values;
  if (matcher.type() == model::MatchType::kEqual || matcher.type() == model::MatchType::kNotEqual) {
    values = std::vector<std::string>{matcher.value()};
  } else {
    values = LiteralAlternatives(matcher.value());
  }
  if (!values.has_value()) return std::nullopt;
  // With the empty string among them absent labels count too, and the union of postings does not answer.
  if (std::find(values->begin(), values->end(), "") != values->end()) return std::nullopt;
  return values;
}

}  // namespace

std::optional<std::vector<std::string>> LiteralAlternatives(std::string_view regex) {
  std::vector<std::string> values(1);
  for (const char c : regex) {
    if (c == '|') {
      if (values.size() == kAlternativesMax) return std::nullopt;
      values.emplace_back();
    } else if (IsMeta(c)) {
      return std::nullopt;
    } else {
      values.back().push_back(c);
    }
  }
  return values;
}

void LabelIndex::Add(uint32_t id, const model::Labels& labels) {
  all_.add(id);
  for (const model::Label label : labels) {
    auto name = names_.find(label.name);
    if (name == names_.end()) name = names_.emplace(std::string(label.name), Values()).first;
    auto value = name->second.find(label.value);
    if (value == name->second.end()) {
      value = name->second.emplace(std::string(label.value), SeriesIds()).first;
      ++pairs_;
      memory_bytes_ += kPairBytes + static_cast<int64_t>(label.value.size());
    }
    value->second.add(id);
    memory_bytes_ += kPostingBytes;
  }
}

void LabelIndex::Remove(uint32_t id, const model::Labels& labels) {
  all_.remove(id);
  for (const model::Label label : labels) {
    const auto name = names_.find(label.name);
    if (name == names_.end()) continue;
    const auto value = name->second.find(label.value);
    if (value == name->second.end()) continue;
    value->second.remove(id);
    memory_bytes_ -= kPostingBytes;
    if (!value->second.isEmpty()) continue;
    --pairs_;
    memory_bytes_ -= kPairBytes + static_cast<int64_t>(label.value.size());
    name->second.erase(value);
    if (name->second.empty()) names_.erase(name);
  }
}

void LabelIndex::AddPair(std::string name, std::string value, SeriesIds ids) {
  ++pairs_;
  memory_bytes_ += kPairBytes + static_cast<int64_t>(value.size() + ids.getSizeInBytes());
  names_[std::move(name)].emplace(std::move(value), std::move(ids));
}

const LabelIndex::Values* LabelIndex::values(std::string_view name) const {
  const auto found = names_.find(name);
  return found == names_.end() ? nullptr : &found->second;
}

Result<SeriesIds> LabelIndex::Select(std::span<const model::Matcher> matchers, const LabelsOf& labels_of,
                                     storage::QueryControl& control) const {
  std::vector<const model::Matcher*> order;
  for (const model::Matcher& matcher : matchers) order.push_back(&matcher);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return Rank(*a) < Rank(*b); });

  SeriesIds selected = all_;
  for (const model::Matcher* matcher : order) {
    if (selected.isEmpty()) break;
    MS_RETURN_IF_ERROR(control.Check());
    const Values* of_name = values(matcher->name());
    bool negative = false;
    SeriesIds found;
    if (const auto deciding = DecidingValues(*matcher, &negative); deciding.has_value()) {
      for (const std::string& value : *deciding) {
        if (of_name == nullptr) break;
        if (const auto at = of_name->find(value); at != of_name->end()) found |= at->second;
      }
    } else if (of_name == nullptr) {
      if (!matcher->MatchesEmpty()) selected = SeriesIds();
      continue;
    } else if (selected.cardinality() < of_name->size()) {
      size_t seen = 0;
      for (const uint32_t id : selected) {
        if (++seen % kCheckEveryValue == 0) MS_RETURN_IF_ERROR(control.Check());
        if (matcher->MatchesLabels(labels_of(id))) found.add(id);
      }
      selected = std::move(found);
      continue;
    } else {
      // Series without the label match as the empty value does: collect those that do not match, else those that do.
      negative = matcher->MatchesEmpty();
      size_t seen = 0;
      for (const auto& [value, ids] : *of_name) {
        if (++seen % kCheckEveryValue == 0) MS_RETURN_IF_ERROR(control.Check());
        if (matcher->Matches(value) != negative) found |= ids;
      }
    }
    if (negative) {
      selected -= found;
    } else {
      selected &= found;
    }
  }
  return selected;
}

}  // namespace millstream::tsdb

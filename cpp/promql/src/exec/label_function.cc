// Functions on labels and on the order of series.

#include <re2/re2.h>

#include <algorithm>
#include <cmath>

#include "exec/instant_function.h"
#include "exec/stable_sort.h"
#include "millstream/base/ascii.h"
#include "millstream/base/utf8.h"

namespace millstream::promql::exec {
namespace {

// What a query may make of a label: nested calls can double it each time.
constexpr size_t kMadeLabelBytesMax = size_t{1} << 20;

// Labels may be named by any UTF-8, but not by nothing.
bool IsValidLabelName(std::string_view name) {
  return !name.empty() && IsValidUtf8(name);
}

bool IsWordCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// The group that $name, ${name} or $1 refers to; -1 when there is no such group.
int GroupNumber(const re2::RE2& regex, std::string_view name) {
  const bool digits = !name.empty() && name.size() < 10 &&
                      std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (digits) {
    const int number = std::stoi(std::string(name));
    return number <= regex.NumberOfCapturingGroups() ? number : -1;
  }
  const auto& groups = regex.NamedCapturingGroups();
  const auto found = groups.find(std::string(name));
  return found == groups.end() ? -1 : found->second;
}

// Go's Regexp.Expand: $name takes the longest run of word characters, ${name} those in braces, $$ is a dollar. A
// dollar that begins none of these stands for itself. Ends early once the outcome is longer than any label may be.
std::string Expand(const re2::RE2& regex, std::string_view text, const std::vector<re2::StringPiece>& groups) {
  std::string out;
  while (!text.empty() && out.size() <= kMadeLabelBytesMax) {
    const size_t dollar = text.find('$');
    out += text.substr(0, dollar);
    if (dollar == std::string_view::npos) break;
    text.remove_prefix(dollar + 1);
    if (text.starts_with('$')) {
      out += '$';
      text.remove_prefix(1);
      continue;
    }
    const bool braces = text.starts_with('{');
    const std::string_view body = text.substr(braces ? 1 : 0);
    const auto end = std::find_if_not(body.begin(), body.end(), IsWordCharacter);
    const size_t length = static_cast<size_t>(end - body.begin());
    if (length == 0 || (braces && (length == body.size() || body[length] != '}'))) {
      out += '$';
      continue;
    }
    const int group = GroupNumber(regex, body.substr(0, length));
    if (group >= 0) {
      const re2::StringPiece& piece = groups[static_cast<size_t>(group)];
      out.append(piece.data() == nullptr ? "" : piece.data(), piece.size());
    }
    text.remove_prefix(length + (braces ? 2 : 0));
  }
  return out;
}

Status SetLabel(ExecContext& ctx, const std::string& name, std::string_view value, Series* series, Charge* charge) {
  MS_RETURN_IF_ERROR(ctx.control.Check());
  if (value.size() > kMadeLabelBytesMax) {
    return ResourceExhausted("label {} would have more than {} bytes", model::Quote(name), kMadeLabelBytesMax);
  }
  MS_RETURN_IF_ERROR(charge->Add(ctx.control, 0, value.size()));
  model::LabelsBuilder builder(series->labels);
  builder.Set(name, value);
  series->labels = builder.Build();
  // A name that the query gave is no longer that of the metric.
  if (name == model::kMetricName) series->drop_name = false;
  return Status::Ok();
}

// Cuts the leading run of digits, or of anything else, off the text.
std::string_view CutRun(std::string_view* text) {
  const bool digits = IsDigit(text->front());
  const auto end = std::find_if(text->begin(), text->end(), [&](char c) { return IsDigit(c) != digits; });
  const std::string_view run = text->substr(0, static_cast<size_t>(end - text->begin()));
  text->remove_prefix(run.size());
  return run;
}

std::string_view WithoutLeadingZeros(std::string_view digits) {
  return digits.substr(std::min(digits.find_first_not_of('0'), digits.size()));
}

}  // namespace

Status LabelReplaceOperator::Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const {
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(model::kRegexMemoryBytesMax);
  const re2::RE2 regex("^(?s:" + regex_ + ")$", options);
  if (!regex.ok()) {
    return FailedPrecondition("invalid regular expression in label_replace(): {}", regex_);
  }
  if (!IsValidLabelName(destination_)) {
    return FailedPrecondition("invalid destination label name in label_replace(): {}", destination_);
  }
  MS_ASSIGN_OR_RETURN(Block block, input_->Collect(ctx, grid));
  std::vector<re2::StringPiece> groups(static_cast<size_t>(regex.NumberOfCapturingGroups()) + 1);
  for (Series& series : block.series) {
    const std::string value(series.labels.Get(source_));
    if (!regex.Match(value, 0, value.size(), re2::RE2::ANCHOR_BOTH, groups.data(), static_cast<int>(groups.size()))) {
      continue;
    }
    MS_RETURN_IF_ERROR(SetLabel(ctx, destination_, Expand(regex, replacement_, groups), &series, &block.charge));
  }
  MS_RETURN_IF_ERROR(MergeSameLabels(&block.series));
  Batcher batcher(sink);
  for (Series& series : block.series) MS_RETURN_IF_ERROR(batcher.Add(std::move(series)));
  return batcher.Finish();
}

Status LabelJoinOperator::Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const {
  for (const std::string& source : sources_) {
    if (!IsValidLabelName(source)) {
      return FailedPrecondition("invalid source label name in label_join(): {}", source);
    }
  }
  if (!IsValidLabelName(destination_)) {
    return FailedPrecondition("invalid destination label name in label_join(): {}", destination_);
  }
  MS_ASSIGN_OR_RETURN(Block block, input_->Collect(ctx, grid));
  for (Series& series : block.series) {
    std::string joined;
    for (size_t i = 0; i < sources_.size() && joined.size() <= kMadeLabelBytesMax; ++i) {
      if (i > 0) joined += separator_;
      joined += series.labels.Get(sources_[i]);
    }
    MS_RETURN_IF_ERROR(SetLabel(ctx, destination_, joined, &series, &block.charge));
  }
  MS_RETURN_IF_ERROR(MergeSameLabels(&block.series));
  Batcher batcher(sink);
  for (Series& series : block.series) MS_RETURN_IF_ERROR(batcher.Add(std::move(series)));
  return batcher.Finish();
}

bool NaturalLess(std::string_view a, std::string_view b) {
  while (!a.empty() && !b.empty()) {
    const std::string_view left = CutRun(&a);
    const std::string_view right = CutRun(&b);
    if (IsDigit(left.front()) && IsDigit(right.front())) {
      const std::string_view x = WithoutLeadingZeros(left);
      const std::string_view y = WithoutLeadingZeros(right);
      if (x.size() != y.size()) return x.size() < y.size();
      if (x != y) return x < y;
    } else if (left != right) {
      return left < right;
    }
  }
  return a.empty() && !b.empty();
}

Status SortOperator::Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const {
  if (grid.steps > 1) ctx.annotations.SortInRangeQuery(position_);
  MS_ASSIGN_OR_RETURN(Block block, input_->Collect(ctx, grid));
  if (!by_labels_) {
    for (Series& series : block.series) {
      for (size_t step = 0; step < grid.steps; ++step) {
        if (series.kinds[step] == SampleKind::kHistogram) series.Clear(step);
      }
    }
    std::erase_if(block.series, [](const Series& series) { return series.Empty(); });
  }
  if (grid.steps == 1 && !by_labels_) {
    StableSort(&block.series, [&](const Series& a, const Series& b) {
      const double x = a.values[0];
      const double y = b.values[0];
      if (std::isnan(x) || std::isnan(y)) return !std::isnan(x) && std::isnan(y);
      return descending_ ? x > y : x < y;
    });
  } else if (grid.steps == 1) {
    const auto less = [&](const Series& a, const Series& b) {
      for (const std::string& label : labels_) {
        const std::string_view x = a.labels.Get(label);
        const std::string_view y = b.labels.Get(label);
        if (x != y) return NaturalLess(x, y);
      }
      return a.labels < b.labels;
    };
    StableSort(&block.series, [&](const Series& a, const Series& b) { return descending_ ? less(b, a) : less(a, b); });
  }
  Batcher batcher(sink);
  for (Series& series : block.series) MS_RETURN_IF_ERROR(batcher.Add(std::move(series)));
  return batcher.Finish();
}

Status AbsentOperator::Run(ExecContext& ctx, const Grid& grid, const BatchSink& sink) const {
  Series absent(grid.steps);
  for (size_t step = 0; step < grid.steps; ++step) absent.SetFloat(step, 1);
  MS_RETURN_IF_ERROR(input_->Run(ctx, grid, [&](Batch&& batch) {
    for (const Series& series : batch) {
      for (size_t step = 0; step < grid.steps; ++step) {
        if (series.Has(step)) absent.Clear(step);
      }
    }
    return Status::Ok();
  }));
  absent.labels = labels_;
  Batcher batcher(sink);
  MS_RETURN_IF_ERROR(batcher.Add(std::move(absent)));
  return batcher.Finish();
}

}  // namespace millstream::promql::exec

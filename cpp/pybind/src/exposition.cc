// Text exposition line by line, for who needs the parts of a line before they are stored.
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "convert.h"
#include "errors.h"
#include "listeners.h"
#include "millstream/wire/labels_decoder.h"
#include "millstream/wire/text_exposition.h"

namespace millstream::pybind {

namespace py = pybind11;

namespace {

struct ReadSample {
  uint32_t line;
  model::Labels labels;
  double value;
  bool is_timed;
};

class ReadLines : public wire::ExpositionSink {
 public:
  py::tuple Parts() const {
    py::list descriptions;
    for (const wire::ExpositionDescription& one : descriptions_) {
      descriptions.append(py::make_tuple(KindName(one.kind), Text(one.metric), Text(one.text)));
    }
    py::list samples;
    for (const ReadSample& one : samples_) {
      samples.append(py::make_tuple(one.line, LabelsDict(one.labels), one.value, one.is_timed));
    }
    return py::make_tuple(std::move(descriptions), std::move(samples), refused_, Refusals(errors_));
  }

 private:
  static const char* KindName(wire::ExpositionDescription::Kind kind) {
    switch (kind) {
      case wire::ExpositionDescription::Kind::kHelp:
        return "HELP";
      case wire::ExpositionDescription::Kind::kType:
        return "TYPE";
      case wire::ExpositionDescription::Kind::kUnit:
        break;
    }
    return "UNIT";
  }

  void Describe(wire::ExpositionDescription description) override { descriptions_.push_back(std::move(description)); }

  void Take(uint32_t line, wire::ExpositionSample sample) override {
    auto labels = wire::DecodeLabels(wire::LabelEncoding::kText, sample.raw_labels);
    if (!labels.ok()) return Refuse(line, std::move(labels).status());
    samples_.push_back({line, *std::move(labels), sample.value, sample.timestamp.has_value()});
  }

  void Refuse(uint32_t line, Status reason) override {
    ++refused_;
    if (errors_.size() < wire::kItemErrorsMax) errors_.push_back({line, std::move(reason)});
  }

  std::vector<wire::ExpositionDescription> descriptions_;
  std::vector<ReadSample> samples_;
  uint64_t refused_ = 0;
  std::vector<wire::ItemError> errors_;
};

py::tuple ReadExposition(const py::bytes& body, bool open_metrics) {
  const std::string_view view = BytesView(body);
  ReadLines lines;
  {
    const py::gil_scoped_release released;
    wire::ReadTextExposition(view, open_metrics ? wire::TextFormat::kOpenMetrics : wire::TextFormat::kPrometheus,
                             &lines);
  }
  return lines.Parts();
}

}  // namespace

void RegisterExposition(py::module_& module) {
  module.def("read_exposition", &ReadExposition, py::arg("body"), py::kw_only(), py::arg("open_metrics"),
             "(descriptions as (HELP, TYPE or UNIT, metric, text), samples as (line, labels with __name__, value, "
             "whether it has a timestamp), refused lines, the first refusals as (line, code, reason)).");
}

}  // namespace millstream::pybind

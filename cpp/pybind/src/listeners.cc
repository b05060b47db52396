// What the gateway's listeners do beside the engine: lines to column batches. Each call lets go of the GIL.
#include <pybind11/stl.h>

#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "convert.h"
#include "errors.h"
#include "listeners.h"
#include "millstream/wire/column_batch.h"
#include "millstream/wire/graphite.h"
#include "millstream/wire/statsd.h"

namespace millstream::pybind {

namespace py = pybind11;

namespace {

using wire::GraphiteDecoder;
using wire::GraphiteMapping;
using wire::StatsdAggregator;
using Pairs = std::vector<std::pair<std::string, std::string>>;

std::unique_ptr<GraphiteDecoder> MakeGraphite(
    const std::vector<std::tuple<std::string, std::string, std::map<std::string, std::string>, bool>>& rules,
    bool strict) {
  std::vector<wire::GraphiteRule> made;
  made.reserve(rules.size());
  for (const auto& [match, name, labels, drop] : rules) {
    made.push_back({.match = match, .name = name, .labels = Pairs(labels.begin(), labels.end()), .drop = drop});
  }
  return std::make_unique<GraphiteDecoder>(ValueOrThrow(GraphiteMapping::Make(std::move(made), strict)));
}

py::tuple DecodeGraphite(GraphiteDecoder& self, const py::bytes& lines, int64_t now) {
  const std::string_view view = BytesView(lines);
  wire::DecodedWrite decoded;
  std::string body;
  {
    const py::gil_scoped_release released;
    decoded = self.Decode(view, now);
    body = wire::EncodeColumnBatch(decoded);
  }
  return py::make_tuple(py::bytes(body), decoded.values.size(), decoded.rejected, Refusals(decoded.errors));
}

std::unique_ptr<StatsdAggregator> MakeStatsd(size_t series_max, size_t bytes_max, int64_t idle_ms, bool gauge_deltas,
                                             Pairs labels) {
  wire::StatsdOptions options;
  options.series_max = series_max;
  options.bytes_max = bytes_max;
  options.idle_ms = idle_ms;
  options.gauge_deltas = gauge_deltas;
  options.labels = std::move(labels);
  return std::make_unique<StatsdAggregator>(std::move(options));
}

py::tuple AddStatsd(StatsdAggregator& self, const py::bytes& lines, int64_t now) {
  const std::string_view view = BytesView(lines);
  StatsdAggregator::Received received;
  {
    const py::gil_scoped_release released;
    received = self.Add(view, now);
  }
  return py::make_tuple(received.values, received.refused, received.dropped, Refusals(received.errors));
}

py::bytes FlushStatsd(StatsdAggregator& self, int64_t now) {
  std::string body;
  {
    const py::gil_scoped_release released;
    const wire::DecodedWrite flushed = self.Flush(now);
    if (!flushed.series.empty()) body = wire::EncodeColumnBatch(flushed);
  }
  return py::bytes(body);
}

}  // namespace

py::list Refusals(const std::vector<wire::ItemError>& errors) {
  py::list out;
  for (const wire::ItemError& error : errors) {
    out.append(py::make_tuple(error.item, Text(StatusCodeName(error.reason.code())), Text(error.reason.message())));
  }
  return out;
}

void RegisterListeners(py::module_& module) {
  py::class_<GraphiteDecoder>(module, "GraphiteDecoder", "Graphite's plaintext protocol to column batches.")
      .def(py::init(&MakeGraphite), py::arg("rules"), py::kw_only(), py::arg("strict") = false,
           "Rules are (match, name, labels, drop), tried in order.")
      .def("decode", &DecodeGraphite, py::arg("lines"), py::arg("now_ms"),
           "(column batch, samples in it, refused lines, the first refusals as (line, code, reason)).");
  py::class_<StatsdAggregator>(module, "StatsdAggregator", "Aggregates StatsD and DogStatsD lines between flushes.")
      .def(py::init(&MakeStatsd), py::kw_only(), py::arg("series_max"), py::arg("bytes_max"), py::arg("idle_ms"),
           py::arg("gauge_deltas"), py::arg("labels"))
      .def("add", &AddStatsd, py::arg("lines"), py::arg("now_ms"),
           "(values taken, lines refused, values dropped, the first refusals as (line, code, reason)).")
      .def("flush", &FlushStatsd, py::arg("now_ms"), "A column batch with a sample of every series; empty without any.")
      .def_property_readonly("series", &StatsdAggregator::series);
}

}  // namespace millstream::pybind

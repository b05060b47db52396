#include <pybind11/stl.h>

#include <vector>

#include "convert.h"
#include "errors.h"
#include "millstream/wire/remote_write_encoder.h"
#include "module.h"

namespace millstream::pybind {

namespace py = pybind11;

namespace {

py::list EncodeRemoteWrite(const py::sequence& series, const Column<uint64_t>& which, const Column<int64_t>& timestamps,
                           const Column<double>& values, size_t message_bytes_max) {
  const std::vector<std::vector<model::Label>> sets = LabelSets(series);
  const wire::RemoteWriteColumns columns{.series = sets,
                                         .which = SpanOf(which, "which"),
                                         .timestamps = SpanOf(timestamps, "timestamps"),
                                         .values = SpanOf(values, "values")};
  std::vector<wire::RemoteWriteBody> bodies;
  {
    const py::gil_scoped_release released;
    bodies = ValueOrThrow(wire::EncodeRemoteWrite(columns, message_bytes_max));
  }
  py::list out;
  for (const wire::RemoteWriteBody& body : bodies) {
    out.append(py::make_tuple(py::bytes(body.compressed), body.samples,
                              py::array_t<uint64_t>(static_cast<py::ssize_t>(body.series.size()), body.series.data())));
  }
  return out;
}

}  // namespace

void RegisterRemoteWrite(py::module_& module) {
  module.def("encode_remote_write", &EncodeRemoteWrite, py::arg("series"), py::arg("which"), py::arg("timestamps"),
             py::arg("values"), py::arg("message_bytes_max"),
             "Columns as remote write 1.0: (body, samples, which series are in it) of each request.");
}

}  // namespace millstream::pybind

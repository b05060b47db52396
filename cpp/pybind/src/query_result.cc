#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <utility>
#include <vector>

#include "arrow_export.h"
#include "convert.h"
#include "millstream/engine/database.h"
#include "module.h"

namespace millstream::pybind {

namespace py = pybind11;

namespace {

const char* TypeOf(const promql::QueryResult& result) {
  static constexpr const char* kTypes[] = {"scalar", "string", "vector", "matrix"};
  return kTypes[result.value.index()];
}

// A NumPy array over a vector of the result, which `owner` keeps alive: no copy.
template <typename T>
py::array_t<T> Borrow(const std::vector<T>& column, const py::object& owner) {
  return py::array_t<T>({static_cast<py::ssize_t>(column.size())}, {static_cast<py::ssize_t>(sizeof(T))}, column.data(),
                        owner);
}

// (labels, timestamps, values) of each series of a matrix.
py::list MatrixColumns(const py::object& self) {
  const auto& result = self.cast<const promql::QueryResult&>();
  py::list out;
  const auto* matrix = std::get_if<promql::Matrix>(&result.value);
  if (matrix == nullptr) return out;
  for (const promql::MatrixSeries& series : *matrix) {
    out.append(py::make_tuple(LabelsDict(series.labels), Borrow(series.timestamps, self), Borrow(series.values, self)));
  }
  return out;
}

}  // namespace

void RegisterQueryResult(py::module_& module) {
  py::class_<promql::QueryResult>(module, "QueryResult", "What PromQL answered.")
      .def_property_readonly("type", &TypeOf, "matrix, vector, scalar or string.")
      .def_readonly("warnings", &promql::QueryResult::warnings)
      .def_readonly("infos", &promql::QueryResult::infos)
      .def(
          "data_json",
          [](const promql::QueryResult& self) {
            std::string json;
            {
              const py::gil_scoped_release released;
              json = engine::ResultJson(self);
            }
            return py::bytes(json);
          },
          "The value of \"data\" in Prometheus's answer.")
      .def("matrix_columns", &MatrixColumns,
           "(labels, int64 milliseconds, float64 values) of each series of a matrix; the arrays borrow.")
      .def(
          "__arrow_c_stream__",
          [](const promql::QueryResult& self, const py::object& /*requested_schema*/) { return ArrowStream(self); },
          py::arg("requested_schema") = py::none(), "A row a float sample, as an Arrow stream.");
}

}  // namespace millstream::pybind

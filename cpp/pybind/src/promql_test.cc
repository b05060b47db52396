#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <vector>

#include "errors.h"
#include "millstream/engine/database.h"
#include "millstream/engine/script.h"
#include "module.h"

namespace millstream::pybind {

namespace py = pybind11;

namespace {

// Scripts run with every feature on, as in Prometheus; naming one more is checked and changes nothing.
promqltest::ScriptReport Run(const std::string& path, const std::string& text,
                             const std::vector<std::string>& features) {
  engine::DatabaseOptions options;
  options.enabled_features = features;
  ThrowIfError(engine::CheckOptions(options));
  return promqltest::RunScript(path, text, promqltest::ScriptEngineOptions(), engine::ScriptStores());
}

std::vector<promqltest::EvalReport> Failures(const promqltest::ScriptReport& report) {
  std::vector<promqltest::EvalReport> failures;
  std::copy_if(report.evals.begin(), report.evals.end(), std::back_inserter(failures),
               [](const promqltest::EvalReport& eval) { return !eval.passed; });
  return failures;
}

}  // namespace

void RegisterPromqlTest(py::module_& module) {
  py::class_<promqltest::EvalReport>(module, "PromqlTestFailure", "An eval that did not hold.")
      .def_readonly("line", &promqltest::EvalReport::line)
      .def_readonly("expression", &promqltest::EvalReport::expression)
      .def_readonly("message", &promqltest::EvalReport::message, "What was expected, and what came.");
  py::class_<promqltest::ScriptReport>(module, "PromqlTestResult", "What became of a script.")
      .def_readonly("error", &promqltest::ScriptReport::error, "Why the script as a whole failed, or empty.")
      .def_property_readonly("passed", &promqltest::ScriptReport::passed)
      .def_property_readonly("failed", &promqltest::ScriptReport::failed)
      .def_property_readonly("failures", &Failures);
  module.def("run_promql_test", &Run, py::arg("path"), py::arg("text"),
             py::arg("features") = std::vector<std::string>(), py::call_guard<py::gil_scoped_release>(),
             "Run one Prometheus test script against the engine.");
}

}  // namespace millstream::pybind

// The parts of millstream._core.
#pragma once

#include <pybind11/pybind11.h>

namespace millstream::pybind {

void RegisterQueryResult(pybind11::module_& module);
void RegisterEngine(pybind11::module_& module);
void RegisterPromqlTest(pybind11::module_& module);
void RegisterRemoteWrite(pybind11::module_& module);

}  // namespace millstream::pybind

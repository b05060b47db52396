// The parts of millstream._core for listeners, and for clients of native frames.
#pragma once

#include <pybind11/pybind11.h>

namespace millstream::pybind {

void RegisterListeners(pybind11::module_& module);
void RegisterNative(pybind11::module_& module);

}  // namespace millstream::pybind

// The parts of millstream._core for listeners, and for clients of native frames.
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "millstream/wire/decoded_write.h"

namespace millstream::pybind {

// (item, code, reason) of each.
pybind11::list Refusals(const std::vector<wire::ItemError>& errors);

void RegisterExposition(pybind11::module_& module);
void RegisterListeners(pybind11::module_& module);
void RegisterNative(pybind11::module_& module);

}  // namespace millstream::pybind

// The parts of millstream._core.
#pragma once

#include <pybind11/pybind11.h>

namespace millstream::engine {
class Database;
}

namespace millstream::pybind {

void RegisterQueryResult(pybind11::module_& module);
// The engine's methods for topics and events go into its class.
void RegisterEvents(pybind11::module_& module, pybind11::class_<engine::Database>& engine);
// Native frames that carry events: the engine's methods for them, and what their clients need.
void RegisterNativeEvents(pybind11::module_& module, pybind11::class_<engine::Database>& engine);
void RegisterEngine(pybind11::module_& module);
void RegisterPromqlTest(pybind11::module_& module);
void RegisterRemoteWrite(pybind11::module_& module);
void RegisterSockets(pybind11::module_& module);

}  // namespace millstream::pybind

#include "module.h"

#include "errors.h"
#include "listeners.h"
#include "push_lane.h"

PYBIND11_MODULE(_core, module) {
  module.doc() = "The compiled core of Millstream. Private: use the package millstream.";
  module.def("version", [] { return MILLSTREAM_VERSION; }, "The version that this core was built as.");
  millstream::pybind::RegisterErrors();
  millstream::pybind::RegisterQueryResult(module);
  millstream::pybind::RegisterEngine(module);
  millstream::pybind::RegisterPushLane(module);
  millstream::pybind::RegisterExposition(module);
  millstream::pybind::RegisterListeners(module);
  millstream::pybind::RegisterNative(module);
  millstream::pybind::RegisterPromqlTest(module);
  millstream::pybind::RegisterRemoteWrite(module);
  millstream::pybind::RegisterSockets(module);
}

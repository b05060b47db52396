// What a client of native frames reads about events.
#pragma once

#include <pybind11/pybind11.h>

#include "millstream/wire/native_frame.h"

namespace millstream::pybind {

// A tuple, or nothing when the frame is not about events. Throws what is wrong with it.
pybind11::object EventAnswer(const wire::NativeFrame& frame);

}  // namespace millstream::pybind

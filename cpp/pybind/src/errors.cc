#include "errors.h"

#include <pybind11/pybind11.h>

namespace millstream::pybind {

namespace py = pybind11;

void RegisterErrors() {
  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const StatusError& error) {
      const py::object error_class =
          py::module_::import("millstream.errors").attr("error_class")(static_cast<int>(error.status().code()));
      const std::string_view message = error.status().message();
      // Messages may quote bytes that are not UTF-8.
      const py::object text = py::reinterpret_steal<py::object>(
          PyUnicode_DecodeUTF8(message.data(), static_cast<Py_ssize_t>(message.size()), "replace"));
      PyErr_SetObject(error_class.ptr(), error_class(text).ptr());
    }
  });
}

}  // namespace millstream::pybind

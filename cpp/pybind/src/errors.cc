#include "errors.h"

namespace millstream::pybind {

namespace py = pybind11;

py::object ExceptionOf(const Status& status) {
  const py::object error_class =
      py::module_::import("millstream.errors").attr("error_class")(static_cast<int>(status.code()));
  const std::string_view message = status.message();
  // Messages may quote bytes that are not UTF-8.
  const py::object text = py::reinterpret_steal<py::object>(
      PyUnicode_DecodeUTF8(message.data(), static_cast<Py_ssize_t>(message.size()), "replace"));
  return error_class(text);
}

void RegisterErrors() {
  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const StatusError& error) {
      const py::object exception = ExceptionOf(error.status());
      PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.ptr())), exception.ptr());
    }
  });
}

}  // namespace millstream::pybind

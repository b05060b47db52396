// An event as a Python tuple: topic, payload, whether it is JSON, key, headers, and what else a publisher may say.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <string_view>

namespace millstream::pybind {

inline constexpr size_t kEventFields = 9;

// What a str or bytes holds, which must outlive the view; throws Python's error for anything else.
inline std::string_view TextView(const pybind11::handle& text) {
  Py_ssize_t size = 0;
  const char* data = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
  if (data == nullptr) throw pybind11::error_already_set();
  return {data, static_cast<size_t>(size)};
}
inline std::string_view BytesOf(const pybind11::handle& bytes) {
  char* data = nullptr;
  Py_ssize_t size = 0;
  if (PyBytes_AsStringAndSize(bytes.ptr(), &data, &size) != 0) throw pybind11::error_already_set();
  return {data, static_cast<size_t>(size)};
}

}  // namespace millstream::pybind

#include "convert.h"

#include "errors.h"

namespace millstream::pybind {

namespace py = pybind11;

namespace {

std::string_view StringView(py::handle text, const char* what) {
  Py_ssize_t size = 0;
  if (!PyUnicode_Check(text.ptr())) {
    throw StatusError(InvalidArgument("a label {} must be a str, not {}", what, Py_TYPE(text.ptr())->tp_name));
  }
  const char* data = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
  if (data == nullptr) {
    PyErr_Clear();
    throw StatusError(InvalidArgument("a label {} is not valid Unicode", what));
  }
  return {data, static_cast<size_t>(size)};
}

py::str Decoded(std::string_view text, const char* errors) {
  PyObject* decoded = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), errors);
  if (decoded == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::str>(decoded);
}

}  // namespace

template <typename T>
std::span<const T> SpanOf(const Column<T>& column, const char* name) {
  if (column.ndim() != 1) {
    throw StatusError(InvalidArgument("{} must have one dimension, not {}", name, column.ndim()));
  }
  return {column.data(), static_cast<size_t>(column.shape(0))};
}
template std::span<const int64_t> SpanOf(const Column<int64_t>&, const char*);
template std::span<const uint64_t> SpanOf(const Column<uint64_t>&, const char*);
template std::span<const double> SpanOf(const Column<double>&, const char*);

LabelPairs::LabelPairs(const py::dict& labels) {
  for (const auto& [name, value] : labels) pairs_.push_back({StringView(name, "name"), StringView(value, "value")});
}

std::vector<std::vector<model::Label>> LabelSets(const py::sequence& labels) {
  std::vector<std::vector<model::Label>> sets;
  sets.reserve(py::len(labels));
  for (const py::handle item : labels) {
    if (!py::isinstance<py::dict>(item)) {
      throw StatusError(
          InvalidArgument("label set {} must be a dict, not {}", sets.size(), Py_TYPE(item.ptr())->tp_name));
    }
    sets.push_back(LabelPairs(py::reinterpret_borrow<py::dict>(item)).pairs());
  }
  return sets;
}

py::dict LabelsDict(const model::Labels& labels) {
  py::dict out;
  for (const model::Label label : labels) out[Text(label.name)] = Text(label.value);
  return out;
}

py::str Text(std::string_view text) {
  return Decoded(text, "replace");
}

py::str EscapedText(std::string_view text) {
  return Decoded(text, "surrogateescape");
}

py::bytes Bytes(std::string_view bytes) {
  return py::bytes(bytes.data(), bytes.size());
}

std::string_view BytesView(const py::bytes& bytes) {
  return {PyBytes_AS_STRING(bytes.ptr()), static_cast<size_t>(PyBytes_GET_SIZE(bytes.ptr()))};
}

}  // namespace millstream::pybind

// Writing to many sockets at once.
#include <pybind11/stl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include "convert.h"
#include "module.h"

namespace millstream::pybind {

namespace py = pybind11;

namespace {

// One system call for each, and the GIL is let go of once for all of them. An error is a socket that took nothing:
// whoever owns it finds the error when it writes the rest.
std::vector<std::pair<size_t, size_t>> SendToAll(const std::vector<int>& sockets, const py::bytes& bytes) {
  const std::string_view text(bytes);
  std::vector<std::pair<size_t, size_t>> out;
  const py::gil_scoped_release released;
  for (size_t i = 0; i < sockets.size(); ++i) {
    ssize_t sent = 0;
    do {
      sent = send(sockets[i], text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    const auto taken = static_cast<size_t>(std::max<ssize_t>(sent, 0));
    if (taken < text.size()) out.emplace_back(i, taken);
  }
  return out;
}

}  // namespace

void RegisterSockets(py::module_& module) {
  module.def("send_to_all", &SendToAll, py::arg("sockets"), py::arg("bytes"),
             "Writes the same to each connected socket, by its descriptor, without waiting. (place in the list, bytes "
             "taken) of each that did not take all.");
}

}  // namespace millstream::pybind

#include "millstream/node/config.h"

#include <charconv>

namespace millstream::node {
namespace {

// The host as it stands there, and the port.
Result<HostPort> Split(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return InvalidArgument("\"{}\" is not HOST:PORT", text);
  HostPort out{.host = std::string(text.substr(0, colon)), .port = 0};
  if (out.host == "localhost") out.host = "127.0.0.1";
  if (out.host.size() > 1 && out.host.front() == '[' && out.host.back() == ']') {
    out.host = out.host.substr(1, out.host.size() - 2);
  }
  const std::string_view port = text.substr(colon + 1);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), out.port);
  if (error != std::errc() || end != port.data() + port.size() || port.empty()) {
    return InvalidArgument("\"{}\" has no port from 0 to 65535", text);
  }
  return out;
}

}  // namespace

Result<HostPort> ParseHostPort(std::string_view text) {
  MS_ASSIGN_OR_RETURN(HostPort out, Split(text));
  if (out.host.empty() || out.host.find_first_not_of("0123456789abcdefABCDEF.:") != std::string::npos) {
    return InvalidArgument("\"{}\" has no IP address to listen on", text);
  }
  return out;
}

Result<HostPort> ParseLoopback(std::string_view text) {
  MS_ASSIGN_OR_RETURN(HostPort out, Split(text));
  if (!out.host.starts_with("127.") && out.host != "::1") {
    return InvalidArgument("refusing to listen on {}: without authentication a node listens on a loopback address only",
                           text);
  }
  return out;
}

}  // namespace millstream::node

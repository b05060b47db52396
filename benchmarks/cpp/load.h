// What load generators have in common: clients on loopback of a server that runs elsewhere. Whatever fails ends the
// program and says why.
#pragma once

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

namespace millstream::bench {

[[noreturn]] inline void Fail(std::string_view what) {
  fmt::print(stderr, "{}: {} ({})\n", program_invocation_short_name, what, std::strerror(errno));
  std::exit(1);
}

inline int Connect(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0 || connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) Fail("cannot connect");
  const int on = 1;
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) Fail("cannot send at once");
  return fd;
}

inline void SendAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) Fail("cannot send");
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
}

// Waits for something; how much came.
inline size_t Receive(int fd, char* to, size_t room) {
  const ssize_t count = recv(fd, to, room, 0);
  if (count <= 0) Fail("the server closed the connection");
  return static_cast<size_t>(count);
}

// A number above 0.
inline uint64_t Number(std::string_view digits) {
  uint64_t value = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != digits.data() + digits.size() || value == 0) {
    Fail(fmt::format("{:?} is no number", digits));
  }
  return value;
}

// Of nanoseconds in order: 0.5 is the median, 1 the longest.
inline double Milliseconds(const std::vector<int64_t>& sorted, double part) {
  if (sorted.empty()) return 0;
  const auto at = static_cast<size_t>(part * static_cast<double>(sorted.size()));
  return static_cast<double>(sorted[std::min(at, sorted.size() - 1)]) / 1e6;
}

}  // namespace millstream::bench

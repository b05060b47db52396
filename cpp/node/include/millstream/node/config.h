// NodeConfig: what a node is told when it starts.
#pragma once

#include <string>
#include <string_view>

#include "millstream/base/result.h"
#include "millstream/engine/database.h"

namespace millstream::node {

struct NodeConfig {
  std::string data = "data";
  std::string grpc = "127.0.0.1:8081";    // HOST:PORT; port 0 picks a free one
  std::string health = "127.0.0.1:8083";  // HTTP /health, /-/ready and /metrics; empty is off
  int push_threads = 16;
  int query_threads = 0;  // 0: one per CPU, at least 4
  engine::DatabaseOptions database;
};

struct HostPort {
  std::string host;
  uint16_t port = 0;
};

// kInvalidArgument unless `text` is HOST:PORT with a loopback host: a node speaks to whoever connects, so until it can
// tell who that is, it listens on this machine only.
Result<HostPort> ParseLoopback(std::string_view text);

}  // namespace millstream::node

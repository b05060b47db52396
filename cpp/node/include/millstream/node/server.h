// NodeServer: one node, from its database to its listeners.
//
// Threads     Start, Stop and the destructor from one thread. Requests run on pools of bounded size.
// Errors      Requests beyond what the pools may queue are answered RESOURCE_EXHAUSTED at once.
#pragma once

#include <cstdint>
#include <memory>

#include "millstream/base/result.h"
#include "millstream/env/env.h"
#include "millstream/node/config.h"

namespace millstream::node {

class NodeServer {
 public:
  // Opens the database and listens. Ready when it returns.
  static Result<std::unique_ptr<NodeServer>> Start(const NodeConfig& config, const env::Env& env = env::SystemEnv());
  ~NodeServer();

  // Takes no new calls, finishes those that run (at most `grace_ms`; then they are cancelled), closes the database.
  Status Stop(int64_t grace_ms = 10'000);

  uint16_t grpc_port() const;
  uint16_t health_port() const;  // 0 when off
  uint16_t native_port() const;  // 0 when off

 private:
  class Impl;
  explicit NodeServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace millstream::node

// NativeServer: native frames (docs/formats/native.md) over TCP, acknowledged, and over UDP, best effort.
//
// With TLS a caller must show a certificate as for gRPC, with one of the allowed names in it, and there are no
// datagrams: nothing would say who sent them. A node knows tenants by number and asks for no key.
//
// Threads     One of its own for the sockets; batches are stored on the push pool. Events are read there, and their
//             topics' writers answer to the thread of the sockets: nobody waits for them. Metrics from any thread.
// Limits      kConnectionsMax connections. One frame of a connection is stored at a time, and meanwhile the connection
//             is not read: its client waits, by its window or by TCP. A hello comes within kHelloTimeout, and whoever
//             does not take an answer within write_timeout_ms is cut off. At most kDatagramsMax datagrams are under
//             way, more are dropped and counted.
// Errors      Frames that break a rule are answered with an error and a close; datagrams are counted.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "millstream/base/result.h"
#include "millstream/engine/database.h"
#include "millstream/env/executor.h"
#include "millstream/node/config.h"
#include "tls.h"
#include "work_pool.h"

namespace millstream::node {

class NativeServer {
 public:
  static constexpr size_t kConnectionsMax = 256;
  static constexpr size_t kDatagramsMax = 256;
  static constexpr std::chrono::seconds kHelloTimeout{10};

  // Both sockets on one port. What it is given must outlive the server; `tls` may be null.
  static Result<std::unique_ptr<NativeServer>> Start(const NativeOptions& options, engine::Database& database,
                                                     WorkPool& pool, TlsIdentity* tls, env::Executor& executor);
  // Answers what is being stored, and closes.
  ~NativeServer();

  // Ends the connections of callers whose certificates have no allowed name any more. Soon, on its own thread.
  void CheckCallers();

  uint16_t port() const;
  // Text exposition, under the names that the gateway's listener has.
  std::string MetricsText() const;

 private:
  class Impl;
  explicit NativeServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace millstream::node

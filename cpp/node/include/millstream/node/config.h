// NodeConfig: what a node is told when it starts.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/engine/database.h"

namespace millstream::node {

// Certificates of both sides. Without a certificate there is no TLS; with one, everything here is needed.
struct TlsOptions {
  std::string cert_file;                   // PEM: this node's certificate, and those between it and its CA
  std::string key_file;                    // PEM without a password
  std::string client_ca_file;              // PEM: who signs the certificates of callers
  std::vector<std::string> allowed_names;  // a caller's certificate must be for one of these,
  std::string allowed_names_file;          // or for one of those here, one a line; looked at again while the node runs

  bool enabled() const { return !cert_file.empty() || !key_file.empty() || !client_ca_file.empty(); }
};

// Native frames, over TCP and UDP.
struct NativeOptions {
  std::string address;                // HOST:PORT; port 0 picks a free one, empty is off
  int64_t write_timeout_ms = 60'000;  // after which a client that takes no answer is cut off
};

struct NodeConfig {
  std::string data = "data";
  std::string grpc = "127.0.0.1:8081";    // HOST:PORT; port 0 picks a free one
  std::string health = "127.0.0.1:8083";  // HTTP /health, /-/ready and /metrics; empty is off
  NativeOptions native;
  int push_threads = 16;
  int query_threads = 0;  // 0: one per CPU, at least 4
  TlsOptions tls;
  engine::DatabaseOptions database = {.future_window_ms = 10 * 60 * 1000};
  engine::WriteOptions otlp;  // of metrics that come by OTLP/gRPC
};

struct HostPort {
  std::string host;
  uint16_t port = 0;
};

// kInvalidArgument unless `text` is HOST:PORT with an IP address or localhost as its host.
Result<HostPort> ParseHostPort(std::string_view text);

// The same, and the host must be a loopback address: without TLS a node speaks to whoever connects, so it listens on
// this machine only.
Result<HostPort> ParseLoopback(std::string_view text);

}  // namespace millstream::node

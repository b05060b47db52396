// HealthHttp: GET /health, /-/healthy, /-/ready and /metrics over HTTP/1.1, for probes and for Prometheus.
//
// Threads     Its own single thread; one connection at a time is served, each with a deadline of a few seconds, so a
//             slow client delays probes but holds nothing else.
// Limits      Requests of at most 8 KiB without a body; answers close the connection.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "millstream/base/result.h"
#include "millstream/env/executor.h"
#include "millstream/node/config.h"

namespace millstream::node {

class HealthHttp {
 public:
  // `metrics` makes the text of /metrics; it is called on the server's thread.
  static Result<std::unique_ptr<HealthHttp>> Start(const HostPort& address, std::function<std::string()> metrics,
                                                   env::Executor& executor);
  ~HealthHttp();
  uint16_t port() const;

 private:
  class Impl;
  explicit HealthHttp(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace millstream::node

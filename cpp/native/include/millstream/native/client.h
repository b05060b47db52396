// Client: sends samples to a server or a node over native frames (docs/formats/native.md), several batches under way
// at a time.
//
// A connection that breaks is made anew, and what was not acknowledged is sent again: the server stores a sample that
// it has already only once.
//
// Threads     One at a time.
// Limits      At most as many batches are under way as the server's window says; Write waits beyond that.
// Errors      kInvalidArgument for columns that do not fit together or an address that is none; what the server says
//             when it refuses a caller or a batch for good; kUnavailable or kDeadlineExceeded after attempts_max tries.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "millstream/base/result.h"
#include "millstream/base/strong_int.h"
#include "millstream/model/labels.h"

namespace millstream::native {

// TLS 1.3; files are PEM.
struct ClientTls {
  std::string ca_file;           // who signs the server's certificate
  std::string cert_file = {};    // the client's own, where the server wants one
  std::string key_file = {};     // without a password
  std::string server_name = {};  // in the server's certificate, when that is not the host
};

struct ClientOptions {
  std::string host = "127.0.0.1";  // an address, not a name
  uint16_t port = 8082;
  std::string key = {};     // an API key or a token
  std::string tenant = {};  // empty: the caller's only one
  std::string name = "millstream::native::Client";
  std::optional<ClientTls> tls = {};
  int timeout_ms = 30'000;  // for one answer of the server
  int attempts_max = 8;     // one after the other, with waits of 50 ms, 100 ms, … up to 2 s between them
};

struct Totals {
  uint64_t samples = 0;  // acknowledged since the client was made
  uint64_t rejected = 0;
  std::string first_reason = {};  // of what was rejected
};

class Client {
 public:
  static Result<std::unique_ptr<Client>> Connect(ClientOptions options);
  ~Client();

  // A reference for the labels, __name__ among them; the same labels in the same order get the same one.
  uint32_t Series(std::span<const model::Label> labels);

  // Columns of equal length. Returns when they are on their way; an error may also be of a batch before them.
  Status Write(std::span<const uint32_t> refs, std::span<const TimestampMs> timestamps, std::span<const double> values);

  // Waits until everything written is acknowledged.
  Result<Totals> Flush();

  int connections() const;  // how often one was made

 private:
  class Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace millstream::native

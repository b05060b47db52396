// What both clients of native frames have: a connection, and how they wait.
#pragma once

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "millstream/base/result.h"
#include "millstream/base/status.h"
#include "millstream/native/client.h"
#include "millstream/wire/native_frame.h"

namespace millstream::native {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

inline constexpr int kWaitMsMin = 50;
inline constexpr int kWaitMsMax = 2'000;
inline constexpr size_t kReadBytes = 64 << 10;
inline constexpr size_t kInboxBytesMax = 64 << 20;

inline bool IsRetryable(StatusCode code) {
  return code == StatusCode::kResourceExhausted || code == StatusCode::kUnavailable ||
         code == StatusCode::kDeadlineExceeded || code == StatusCode::kAborted;
}

inline void Wait(int ms) {
  asio::io_context context;
  asio::steady_timer timer(context, std::chrono::milliseconds(ms));
  error_code ignored;
  timer.wait(ignored);
}

// One connection, with TLS or without; each call ends within the timeout.
//
// A read is always under way, and while something is sent, too: so a server that will not read on before its answers
// are read cannot wait for a client that waits for it.
class Connection {
 public:
  static Result<std::unique_ptr<Connection>> Open(const ClientOptions& options) {
    error_code error;
    const auto address = asio::ip::make_address(options.host, error);
    if (error) return InvalidArgument("\"{}\" is no address", options.host);
    std::unique_ptr<Connection> made(new Connection(options));
    MS_RETURN_IF_ERROR(made->Connect({address, options.port}));
    if (options.tls) MS_RETURN_IF_ERROR(made->Secure(*options.tls, options.host));
    return made;
  }

  Status Send(std::string_view bytes) {
    Read();
    return Finish("cannot send", [&](auto done) {
      WithStream([&](auto& stream) { asio::async_write(stream, asio::buffer(bytes.data(), bytes.size()), done); });
    });
  }

  // What has come, else what comes within that time; false when nothing did.
  Result<bool> ReceiveWithin(std::chrono::milliseconds time, wire::NativeFrameReader* reader) {
    Read();
    if (!RunUntil(time, [this] { return !inbox_.empty() || broken_; })) return false;
    if (inbox_.empty()) return Broken("no answer", *broken_);
    reader->Feed(inbox_);
    inbox_.clear();
    return true;
  }

  Status Receive(wire::NativeFrameReader* reader) {
    MS_ASSIGN_OR_RETURN(const bool came, ReceiveWithin(timeout_, reader));
    return came ? Status::Ok() : DeadlineExceeded("no answer within {} ms", timeout_.count());
  }

 private:
  explicit Connection(const ClientOptions& options)
      : timeout_(options.timeout_ms), socket_(context_), read_(kReadBytes, '\0') {}

  Status Connect(const tcp::endpoint& endpoint) {
    MS_RETURN_IF_ERROR(Finish("cannot connect", [&](auto done) {
      socket_.async_connect(endpoint, [done](error_code error) mutable { done(error, 0); });
    }));
    error_code ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
    return Status::Ok();
  }

  Status Secure(const ClientTls& tls, const std::string& host) {
    const std::string& name = tls.server_name.empty() ? host : tls.server_name;
    asio::ssl::context context(asio::ssl::context::tls_client);
    error_code error;
    SSL_CTX_set_min_proto_version(context.native_handle(), TLS1_3_VERSION);
    context.set_verify_mode(asio::ssl::verify_peer, error);
    if (!error) context.load_verify_file(tls.ca_file, error);
    if (!error && !tls.cert_file.empty()) context.use_certificate_chain_file(tls.cert_file, error);
    if (!error && !tls.cert_file.empty()) {
      context.use_private_key_file(tls.key_file, asio::ssl::context::pem, error);
    }
    if (error) return InvalidArgument("the certificates cannot be used: {}", error.message());
    tls_ = std::make_unique<TlsStream>(socket_, context);
    tls_->set_verify_callback(asio::ssl::host_name_verification(name), error);
    error_code no_address;
    (void)asio::ip::make_address(name, no_address);
    if (no_address) SSL_set_tlsext_host_name(tls_->native_handle(), name.c_str());
    const Status status = Finish("no handshake", [&](auto done) {
      tls_->async_handshake(asio::ssl::stream_base::client, [done](error_code failed) mutable { done(failed, 0); });
    });
    if (SSL_get_verify_result(tls_->native_handle()) != X509_V_OK) {
      return FailedPrecondition("the server's certificate: {}",
                                X509_verify_cert_error_string(SSL_get_verify_result(tls_->native_handle())));
    }
    return status;
  }

  template <typename Use>
  void WithStream(Use use) {
    if (tls_ != nullptr) {
      use(*tls_);
    } else {
      use(socket_);
    }
  }

  void Read() {
    if (reading_ || broken_ || inbox_.size() >= kInboxBytesMax) return;
    reading_ = true;
    WithStream([this](auto& stream) {
      stream.async_read_some(asio::buffer(read_), [this](error_code error, size_t bytes) {
        reading_ = false;
        inbox_.append(read_, 0, bytes);
        if (error) broken_ = error;
        Read();
      });
    });
  }

  // False when it was not `done` in that time.
  template <typename Done>
  bool RunUntil(std::chrono::milliseconds time, Done done) {
    const auto deadline = asio::steady_timer::clock_type::now() + time;
    context_.restart();
    context_.poll();
    while (!done()) {
      context_.restart();
      if (context_.run_one_until(deadline) == 0) return false;
    }
    return true;
  }

  // Starts one operation and runs it to its end.
  template <typename Start>
  Status Finish(std::string_view what, Start start) {
    std::optional<error_code> ended;
    start([&ended](error_code error, size_t /*bytes*/) { ended = error; });
    if (!RunUntil(timeout_, [&ended] { return ended.has_value(); })) {
      error_code ignored;
      socket_.close(ignored);
      context_.restart();
      context_.run();
      return DeadlineExceeded("{} within {} ms", what, timeout_.count());
    }
    return *ended ? Broken(what, *ended) : Status::Ok();
  }

  static Status Broken(std::string_view what, const error_code& error) {
    if (error == asio::error::eof) return Unavailable("the server closed the connection");
    return Unavailable("{}: {}", what, error.message());
  }

  using TlsStream = asio::ssl::stream<tcp::socket&>;

  const std::chrono::milliseconds timeout_;
  asio::io_context context_{1};
  tcp::socket socket_;
  std::unique_ptr<TlsStream> tls_;
  std::string read_;
  std::string inbox_;                 // what was read and not received
  std::optional<error_code> broken_;  // no more can be read
  bool reading_ = false;
};

}  // namespace millstream::native

#include "millstream/native/client.h"

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
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "millstream/wire/labels_decoder.h"
#include "millstream/wire/native_frame.h"

namespace millstream::native {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr int kWaitMsMin = 50;
constexpr int kWaitMsMax = 2'000;
constexpr size_t kSeriesFrameBytes = 1 << 20;
constexpr size_t kWriteOverheadBytes = 12;
constexpr size_t kSampleBytes = 20;
constexpr size_t kReadBytes = 64 << 10;

bool IsRetryable(StatusCode code) {
  return code == StatusCode::kResourceExhausted || code == StatusCode::kUnavailable ||
         code == StatusCode::kDeadlineExceeded || code == StatusCode::kAborted;
}

void Wait(int ms) {
  asio::io_context context;
  asio::steady_timer timer(context, std::chrono::milliseconds(ms));
  error_code ignored;
  timer.wait(ignored);
}

// One connection, with TLS or without; each call ends within the timeout.
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
    return Finish("cannot send", [&](auto done) {
      WithStream([&](auto& stream) { asio::async_write(stream, asio::buffer(bytes.data(), bytes.size()), done); });
    });
  }

  Status Receive(wire::NativeFrameReader* reader) {
    size_t got = 0;
    MS_RETURN_IF_ERROR(Finish("no answer", [&](auto done) {
      WithStream([&](auto& stream) {
        stream.async_read_some(asio::buffer(read_), [&got, done](error_code error, size_t bytes) mutable {
          got = bytes;
          done(error, bytes);
        });
      });
    }));
    reader->Feed(std::string_view(read_).substr(0, got));
    return Status::Ok();
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

  // Starts one operation and runs it to its end.
  template <typename Start>
  Status Finish(std::string_view what, Start start) {
    std::optional<error_code> ended;
    start([&ended](error_code error, size_t /*bytes*/) { ended = error; });
    context_.restart();
    context_.run_for(timeout_);
    if (!ended) {
      error_code ignored;
      socket_.close(ignored);
      context_.run();
      return DeadlineExceeded("{} within {} ms", what, timeout_.count());
    }
    if (*ended == asio::error::eof) return Unavailable("the server closed the connection");
    if (*ended) return Unavailable("{}: {}", what, ended->message());
    return Status::Ok();
  }

  using TlsStream = asio::ssl::stream<tcp::socket&>;

  const std::chrono::milliseconds timeout_;
  asio::io_context context_{1};
  tcp::socket socket_;
  std::unique_ptr<TlsStream> tls_;
  std::string read_;
};

struct Batch {
  std::vector<uint32_t> refs;
  std::vector<TimestampMs> timestamps;
  std::vector<double> values;
};

}  // namespace

class Client::Impl {
 public:
  explicit Impl(ClientOptions options) : options_(std::move(options)) {}

  uint32_t Series(std::span<const model::Label> labels) {
    std::string raw;
    for (const model::Label& label : labels) {
      wire::AppendPairString(label.name, &raw);
      wire::AppendPairString(label.value, &raw);
    }
    const auto [found, inserted] = refs_.try_emplace(std::move(raw), static_cast<uint32_t>(labels_.size()));
    if (inserted) labels_.push_back(found->first);
    return found->second;
  }

  Status Write(std::span<const uint32_t> refs, std::span<const TimestampMs> timestamps,
               std::span<const double> values) {
    if (refs.size() != timestamps.size() || refs.size() != values.size()) {
      return InvalidArgument("{} references, {} timestamps and {} values", refs.size(), timestamps.size(),
                             values.size());
    }
    for (const uint32_t ref : refs) {
      if (ref >= labels_.size()) return InvalidArgument("series {} is not defined", ref);
    }
    for (size_t begin = 0; begin < refs.size();) {
      MS_RETURN_IF_ERROR(WaitUntil([this] { return open() && unanswered_.size() < welcome_.window; }));
      const size_t most = (welcome_.frame_bytes_max - kWriteOverheadBytes) / kSampleBytes;
      const size_t count = std::min(most, refs.size() - begin);
      const auto part = [&](auto column) { return column.subspan(begin, count); };
      Batch batch{.refs = {part(refs).begin(), part(refs).end()},
                  .timestamps = {part(timestamps).begin(), part(timestamps).end()},
                  .values = {part(values).begin(), part(values).end()}};
      const auto [place, inserted] = unanswered_.emplace(++sequence_, std::move(batch));
      // What cannot be sent now is among the unanswered, and goes with the next connection.
      if (!Send(place->first, place->second).ok()) connection_.reset();
      begin += count;
    }
    return Status::Ok();
  }

  Result<Totals> Flush() {
    MS_RETURN_IF_ERROR(WaitUntil([this] { return unanswered_.empty(); }));
    return totals_;
  }

  Status Open() {
    return WaitUntil([this] { return open(); });
  }
  int connections() const { return connections_; }

 private:
  // Reads answers, and connects where there is no connection, until `done`.
  template <typename Done>
  Status WaitUntil(Done done) {
    int wait_ms = kWaitMsMin;
    int attempts = 0;
    while (!done()) {
      Status status = open() ? HandleAnswer() : Reconnect();
      if (status.ok()) {
        attempts = 0;
        wait_ms = kWaitMsMin;
        continue;
      }
      connection_.reset();
      if (!IsRetryable(status.code()) || ++attempts >= options_.attempts_max) return status;
      Wait(wait_ms);
      wait_ms = std::min(2 * wait_ms, kWaitMsMax);
    }
    return Status::Ok();
  }

  bool open() const { return connection_ != nullptr; }

  Status Reconnect() {
    MS_ASSIGN_OR_RETURN(connection_, Connection::Open(options_));
    reader_ = {};
    defined_ = 0;
    welcome_ = {};
    MS_RETURN_IF_ERROR(connection_->Send(
        EncodeNative(wire::NativeHello{.key = options_.key, .tenant = options_.tenant, .client = options_.name})));
    while (welcome_.window == 0) MS_RETURN_IF_ERROR(HandleAnswer());
    if (welcome_.frame_bytes_max < kWriteOverheadBytes + kSampleBytes) {
      return InvalidArgument("the server takes frames of {} bytes", welcome_.frame_bytes_max);
    }
    ++connections_;
    for (const auto& [sequence, batch] : unanswered_) MS_RETURN_IF_ERROR(Send(sequence, batch));
    return Status::Ok();
  }

  Status Send(uint64_t sequence, const Batch& batch) {
    while (defined_ < labels_.size()) {
      wire::NativeSeries series{.first = static_cast<uint32_t>(defined_), .labels = {}};
      size_t bytes = 0;
      while (defined_ < labels_.size() && bytes < kSeriesFrameBytes) {
        bytes += labels_[defined_].size();
        series.labels.push_back(labels_[defined_++]);
      }
      MS_RETURN_IF_ERROR(connection_->Send(EncodeNative(series)));
    }
    return connection_->Send(wire::EncodeNativeWrite(sequence, batch.refs, batch.timestamps, batch.values));
  }

  Status HandleAnswer() {
    while (true) {
      MS_ASSIGN_OR_RETURN(const std::optional<wire::NativeFrame> frame, reader_.Next());
      if (!frame) {
        MS_RETURN_IF_ERROR(connection_->Receive(&reader_));
        continue;
      }
      MS_ASSIGN_OR_RETURN(const wire::NativeAnswer answer, wire::DecodeNativeAnswer(*frame));
      return std::visit([this](const auto& one) { return Handle(one); }, answer);
    }
  }

  Status Handle(const wire::NativeWelcome& welcome) {
    welcome_ = welcome;
    return Status::Ok();
  }
  Status Handle(const wire::NativeAck& ack) {
    unanswered_.erase(ack.sequence);
    totals_.samples += ack.samples;
    totals_.rejected += ack.rejected;
    if (totals_.first_reason.empty() && !ack.errors.empty()) totals_.first_reason = ack.errors[0].reason;
    return Status::Ok();
  }
  Status Handle(const wire::NativeRefused& refused) {
    auto batch = unanswered_.extract(refused.sequence);
    if (batch.empty()) return Status::Ok();
    if (!IsRetryable(refused.code)) return {refused.code, std::string(refused.reason)};
    Wait(static_cast<int>(std::min<uint32_t>(refused.retry_after_ms, kWaitMsMax)));
    // Sequences ascend, so it goes as a new one.
    const auto [place, inserted] = unanswered_.emplace(++sequence_, std::move(batch.mapped()));
    return Send(place->first, place->second);
  }
  Status Handle(const wire::NativePong& /*pong*/) { return Status::Ok(); }
  Status Handle(const wire::NativeError& error) {
    if (error.code == StatusCode::kOk) return InvalidArgument("the server reported an error without a code");
    return {error.code, std::string(error.reason)};
  }

  const ClientOptions options_;
  std::unique_ptr<Connection> connection_;  // none while there is none
  wire::NativeFrameReader reader_;
  wire::NativeWelcome welcome_;
  std::unordered_map<std::string, uint32_t> refs_;
  std::vector<std::string> labels_;
  size_t defined_ = 0;  // on this connection
  uint64_t sequence_ = 0;
  std::map<uint64_t, Batch> unanswered_;
  Totals totals_;
  int connections_ = 0;
};

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::~Client() = default;

Result<std::unique_ptr<Client>> Client::Connect(ClientOptions options) {
  auto impl = std::make_unique<Impl>(std::move(options));
  MS_RETURN_IF_ERROR(impl->Open());
  return std::unique_ptr<Client>(new Client(std::move(impl)));
}

uint32_t Client::Series(std::span<const model::Label> labels) {
  return impl_->Series(labels);
}

Status Client::Write(std::span<const uint32_t> refs, std::span<const TimestampMs> timestamps,
                     std::span<const double> values) {
  return impl_->Write(refs, timestamps, values);
}

Result<Totals> Client::Flush() {
  return impl_->Flush();
}

int Client::connections() const {
  return impl_->connections();
}

}  // namespace millstream::native

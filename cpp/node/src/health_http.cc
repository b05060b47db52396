#include "health_http.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <optional>
#include <utility>

namespace millstream::node {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

namespace {

constexpr auto kConnectionDeadline = std::chrono::seconds(5);
constexpr size_t kRequestBytesMax = 8 << 10;

}  // namespace

class HealthHttp::Impl {
 public:
  explicit Impl(std::function<std::string()> metrics) : metrics_(std::move(metrics)), acceptor_(context_) {}

  Status Listen(const HostPort& address) {
    beast::error_code error;
    const asio::ip::tcp::endpoint endpoint(asio::ip::make_address(address.host, error), address.port);
    if (!error) acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error) return Unavailable("cannot listen on {}:{}: {}", address.host, address.port, error.message());
    port_ = acceptor_.local_endpoint().port();
    Accept();
    return Status::Ok();
  }

  void Run() { context_.run(); }
  void Stop() { context_.stop(); }
  uint16_t port() const { return port_; }

  void TakeThread(std::unique_ptr<env::Thread> thread) { thread_ = std::move(thread); }
  // Waits for Run to return.
  void Join() { thread_.reset(); }

 private:
  void Accept() {
    acceptor_.async_accept([this](beast::error_code error, asio::ip::tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (error) return Accept();
      stream_.emplace(std::move(socket));
      stream_->expires_after(kConnectionDeadline);
      parser_.emplace();
      parser_->header_limit(kRequestBytesMax);
      parser_->body_limit(0);
      buffer_.clear();
      http::async_read_header(*stream_, buffer_, *parser_, [this](beast::error_code read_error, size_t /*bytes*/) {
        if (read_error) {
          stream_.reset();  // closes; the client would otherwise wait until another one comes
          return Accept();
        }
        Answer();
      });
    });
  }

  void Answer() {
    const auto& request = parser_->get();
    const std::string target(request.target().substr(0, request.target().find('?')));
    response_ = {};
    response_.version(11);
    response_.keep_alive(false);
    response_.set(http::field::content_type, "text/plain; charset=utf-8");
    response_.set("X-Content-Type-Options", "nosniff");
    if (request.method() != http::verb::get && request.method() != http::verb::head) {
      response_.result(http::status::method_not_allowed);
      response_.set(http::field::allow, "GET, HEAD");
    } else if (target == "/health" || target == "/-/healthy" || target == "/-/ready") {
      response_.body() = "ok\n";
    } else if (target == "/metrics") {
      response_.set(http::field::content_type, "text/plain; version=0.0.4; charset=utf-8");
      response_.body() = metrics_();
    } else {
      response_.result(http::status::not_found);
      response_.body() = "not found\n";
    }
    response_.prepare_payload();
    if (request.method() == http::verb::head) response_.body().clear();
    http::async_write(*stream_, response_, [this](beast::error_code /*error*/, size_t /*bytes*/) {
      beast::error_code ignored;
      stream_->socket().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
      Accept();
    });
  }

  const std::function<std::string()> metrics_;
  asio::io_context context_{1};
  asio::ip::tcp::acceptor acceptor_;
  uint16_t port_ = 0;
  std::optional<beast::tcp_stream> stream_;
  std::optional<http::request_parser<http::empty_body>> parser_;
  http::response<http::string_body> response_;
  beast::flat_static_buffer<kRequestBytesMax> buffer_;
  std::unique_ptr<env::Thread> thread_;
};

HealthHttp::HealthHttp(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HealthHttp::~HealthHttp() {
  impl_->Stop();
  impl_->Join();
}

uint16_t HealthHttp::port() const {
  return impl_->port();
}

Result<std::unique_ptr<HealthHttp>> HealthHttp::Start(const HostPort& address, std::function<std::string()> metrics,
                                                      env::Executor& executor) {
  auto impl = std::make_unique<Impl>(std::move(metrics));
  MS_RETURN_IF_ERROR(impl->Listen(address));
  MS_ASSIGN_OR_RETURN(std::unique_ptr<env::Thread> thread,
                      executor.Start({.name = "ms-health", .cpu = std::nullopt}, [raw = impl.get()] { raw->Run(); }));
  impl->TakeThread(std::move(thread));
  return std::unique_ptr<HealthHttp>(new HealthHttp(std::move(impl)));
}

}  // namespace millstream::node

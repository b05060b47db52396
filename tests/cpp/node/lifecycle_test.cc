// How a node starts, limits and cancels its work, and stops.

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <deque>
#include <filesystem>
#include <future>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "running_node.h"

namespace millstream::node {
namespace {

constexpr int64_t kTimeMs = 1'700'000'000'000;

// A query that ends when it is cancelled, or with its node.
class EndlessCall {
 public:
  explicit EndlessCall(RunningNode& node) {
    request_.set_expression(kEndlessQuery);
    request_.set_time_ms(kTimeMs);
    RunningNode::SetDeadline(&context_);
    node.query().async()->Query(&context_, &request_, &response_,
                                [this](grpc::Status status) { outcome_.set_value(std::move(status)); });
  }
  ~EndlessCall() { Wait(); }

  void Cancel() { context_.TryCancel(); }
  bool ended() const { return future_.wait_for(std::chrono::seconds(0)) == std::future_status::ready; }
  grpc::StatusCode Wait() {
    if (future_.valid()) code_ = future_.get().error_code();
    return code_;
  }

 private:
  grpc::ClientContext context_;
  v1::QueryRequest request_;
  v1::QueryResponse response_;
  std::promise<grpc::Status> outcome_;
  std::future<grpc::Status> future_ = outcome_.get_future();
  grpc::StatusCode code_ = grpc::StatusCode::UNKNOWN;
};

// A node with one thread for queries: what runs on it holds up the next query, and nothing else.
NodeConfig OneQueryThread() {
  NodeConfig config = InMemory();
  config.query_threads = 1;
  return config;
}

class Folder {
 public:
  Folder()
      : path_(std::filesystem::temp_directory_path() /
              ("node_test_" + std::to_string(::getpid()) + "_" +
               testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directory(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  const std::filesystem::path path_;
};

std::string Get(uint16_t port, const std::string& request) {
  boost::asio::ip::tcp::iostream stream("127.0.0.1", std::to_string(port));
  stream << request << "\r\n\r\n" << std::flush;
  std::stringstream answer;
  answer << stream.rdbuf();
  return answer.str();
}

TEST(NodeLimits, DeadlineOfACallEndsItsQueryAndFreesTheThread) {
  RunningNode node(OneQueryThread());
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
  v1::QueryRequest request;
  request.set_expression(kEndlessQuery);
  request.set_time_ms(kTimeMs);
  v1::QueryResponse response;
  EXPECT_EQ(node.query().Query(&context, request, &response).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  const grpc::Status next = node.Query("1", kTimeMs, &response);
  EXPECT_TRUE(next.ok()) << "the only thread is still held: " << next.error_message();
}

TEST(NodeLimits, CancellingACallEndsItsQueryAndFreesTheThread) {
  RunningNode node(OneQueryThread());
  EndlessCall call(node);
  call.Cancel();
  EXPECT_EQ(call.Wait(), grpc::StatusCode::CANCELLED);
  v1::QueryResponse response;
  const grpc::Status next = node.Query("1", kTimeMs, &response);
  EXPECT_TRUE(next.ok()) << "the only thread is still held: " << next.error_message();
}

TEST(NodeLimits, QueriesBeyondTheQueueAreRefusedAtOnceAndPushesGoOn) {
  RunningNode node(OneQueryThread());
  constexpr int kCalls = 300;
  // One runs and 256 wait; the last may come before the first was taken from the queue.
  constexpr int kRefusedLeast = kCalls - 257;
  std::deque<EndlessCall> calls;
  for (int i = 0; i < kCalls; ++i) calls.emplace_back(node);
  const auto refused = [&calls] {
    return std::ranges::count_if(calls, [](const EndlessCall& call) { return call.ended(); });
  };
  while (refused() < kRefusedLeast) std::this_thread::yield();
  v1::PushResponse pushed;
  EXPECT_TRUE(node.PushText("m 1\n", &pushed).ok());
  for (EndlessCall& call : calls) call.Cancel();
  std::map<grpc::StatusCode, int> outcomes;
  for (EndlessCall& call : calls) ++outcomes[call.Wait()];
  EXPECT_GE(outcomes[grpc::StatusCode::RESOURCE_EXHAUSTED], kRefusedLeast);
  EXPECT_LE(outcomes[grpc::StatusCode::RESOURCE_EXHAUSTED], kRefusedLeast + 1);
  EXPECT_EQ(outcomes[grpc::StatusCode::RESOURCE_EXHAUSTED] + outcomes[grpc::StatusCode::CANCELLED], kCalls);
  // The client knows of its cancellations before the node does.
  grpc::Status next;
  v1::QueryResponse response;
  while ((next = node.Query("1", kTimeMs, &response)).error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) {
  }
  EXPECT_TRUE(next.ok()) << next.error_message();
}

TEST(NodeStop, EndsQueriesThatWouldRunForEver) {
  RunningNode node(OneQueryThread());
  std::deque<EndlessCall> calls;
  for (int i = 0; i < 5; ++i) calls.emplace_back(node);
  EXPECT_TRUE(node.server().Stop(0).ok());
  for (EndlessCall& call : calls) EXPECT_NE(call.Wait(), grpc::StatusCode::OK);
}

TEST(NodeStop, KeepsEveryPushThatItAcknowledgedAndRefusesLaterOnes) {
  const Folder folder;
  NodeConfig config = InMemory();
  config.data = folder / "data";
  std::atomic<int> acknowledged{0};
  std::atomic<int> attempted{0};
  {
    RunningNode node(config);
    std::vector<std::thread> writers;
    for (int writer = 0; writer < 3; ++writer) {
      writers.emplace_back([&node, &acknowledged, &attempted, writer] {
        for (int i = 0;; ++i) {
          v1::PushResponse response;
          ++attempted;
          const std::string text = "m{w=\"" + std::to_string(writer) + "\",i=\"" + std::to_string(i) + "\"} 1\n";
          if (!node.PushText(text, &response).ok()) return;
          EXPECT_FALSE(response.offset_token().empty());
          ++acknowledged;
        }
      });
    }
    while (acknowledged.load() < 30) std::this_thread::yield();
    EXPECT_TRUE(node.server().Stop().ok());
    for (std::thread& writer : writers) writer.join();
    EXPECT_TRUE(node.server().Stop().ok()) << "stopping again changes nothing";
  }
  RunningNode again(config);
  v1::QueryResponse response;
  ASSERT_TRUE(again.Query("count(m)", 1000, &response).ok());
  ASSERT_EQ(response.vector().series_size(), 1);
  const double stored = response.vector().series(0).values(0);
  EXPECT_GE(stored, acknowledged.load());
  EXPECT_LE(stored, attempted.load());
}

TEST(NodeStart, RefusesAnAddressThatOthersCanReach) {
  NodeConfig config = InMemory();
  config.grpc = "0.0.0.0:0";
  EXPECT_EQ(NodeServer::Start(config).status().code(), StatusCode::kInvalidArgument);
  config = InMemory();
  config.health = "0.0.0.0:0";
  EXPECT_EQ(NodeServer::Start(config).status().code(), StatusCode::kInvalidArgument);
}

TEST(NodeStart, RefusesTlsThatLacksAPartAndFilesThatAreNoCertificates) {
  const TlsOptions whole{.cert_file = "/dev/null",
                         .key_file = "/dev/null",
                         .client_ca_file = "/dev/null",
                         .allowed_names = {"gateway"},
                         .allowed_names_file = {}};
  NodeConfig config = InMemory();
  config.grpc = "0.0.0.0:0";
  for (auto spoil :
       {+[](TlsOptions* tls) { tls->cert_file.clear(); }, +[](TlsOptions* tls) { tls->key_file.clear(); },
        +[](TlsOptions* tls) { tls->client_ca_file.clear(); }, +[](TlsOptions* tls) { tls->allowed_names.clear(); }}) {
    config.tls = whole;
    spoil(&config.tls);
    EXPECT_EQ(NodeServer::Start(config).status().code(), StatusCode::kInvalidArgument);
  }
  config.tls = whole;
  EXPECT_EQ(NodeServer::Start(config).status().code(), StatusCode::kFailedPrecondition);
  config.tls.key_file = "/nonexistent/key.pem";
  const Status status = NodeServer::Start(config).status();
  EXPECT_NE(status.message().find(config.tls.key_file), std::string::npos) << status.ToString();
  config.tls = whole;
  config.tls.allowed_names.clear();
  config.tls.allowed_names_file = "/nonexistent/names";
  EXPECT_EQ(NodeServer::Start(config).status().code(), StatusCode::kFailedPrecondition);
}

TEST(NodeStart, RefusesAPortThatIsTaken) {
  RunningNode node;
  NodeConfig config = InMemory();
  config.grpc = "127.0.0.1:" + std::to_string(node.server().grpc_port());
  const auto second = NodeServer::Start(config);
  EXPECT_EQ(second.status().code(), StatusCode::kUnavailable);
  EXPECT_NE(second.status().message().find(config.grpc), std::string::npos) << second.status().ToString();
}

TEST(NodeStart, RefusesAFolderThatIsOpenOrIsAFile) {
  const Folder folder;
  NodeConfig config = InMemory();
  config.data = folder / "data";
  RunningNode node(config);
  EXPECT_EQ(NodeServer::Start(config).status().code(), StatusCode::kFailedPrecondition);
  config.data = (folder / "data") + "/MANIFEST";
  EXPECT_FALSE(NodeServer::Start(config).ok());
}

TEST(NodeHealth, AnswersProbesAndMetricsAndNothingElse) {
  NodeConfig config = InMemory();
  config.health = "127.0.0.1:0";
  RunningNode node(config);
  const uint16_t port = node.server().health_port();
  for (const char* path : {"/health", "/-/healthy", "/-/ready", "/health?verbose"}) {
    EXPECT_TRUE(Get(port, std::string("GET ") + path + " HTTP/1.1").starts_with("HTTP/1.1 200")) << path;
  }
  const std::string metrics = Get(port, "GET /metrics HTTP/1.1");
  EXPECT_NE(metrics.find("# TYPE millstream_samples_appended_total counter\n"), std::string::npos) << metrics;
  EXPECT_NE(metrics.find("# TYPE millstream_head_series gauge\n"), std::string::npos);
  EXPECT_TRUE(Get(port, "GET /other HTTP/1.1").starts_with("HTTP/1.1 404"));
  EXPECT_TRUE(Get(port, "POST /metrics HTTP/1.1").starts_with("HTTP/1.1 405"));
  EXPECT_EQ(Get(port, "nonsense"), "") << "what is no HTTP gets no answer";
  EXPECT_EQ(Get(port, "GET /" + std::string(10'000, 'x') + " HTTP/1.1"), "") << "more than 8 KiB";
  EXPECT_TRUE(Get(port, "HEAD /health HTTP/1.1").starts_with("HTTP/1.1 200")) << "it still answers";
}

}  // namespace
}  // namespace millstream::node

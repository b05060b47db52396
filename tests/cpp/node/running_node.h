// A node in this process on free ports, and what a client does with it.
#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>

#include "millstream/node/server.h"
#include "millstream/v1/ingest.grpc.pb.h"
#include "millstream/v1/query.grpc.pb.h"

namespace millstream::node {

// Longer than any test may take: a call that hangs fails its test instead of the whole run.
inline constexpr std::chrono::seconds kCallDeadline{120};
// Sorts two days of seconds for each second of two days: about an hour of work in little memory.
inline constexpr const char* kEndlessQuery = "sum_over_time(quantile_over_time(0.5, vector(time())[2d:1s])[2d:1s])";

inline NodeConfig InMemory() {
  NodeConfig config;
  config.data = std::string(engine::kMemoryPath);
  config.grpc = "127.0.0.1:0";
  config.health = "";
  config.push_threads = 2;
  config.query_threads = 2;
  config.database.partitions = 2;
  return config;
}

// With a listener for native frames besides; a port of 0 is any that is free.
inline NodeConfig WithNative(uint16_t port = 0) {
  NodeConfig config = InMemory();
  config.native.address = "127.0.0.1:" + std::to_string(port);
  return config;
}

class RunningNode {
 public:
  explicit RunningNode(const NodeConfig& config = InMemory()) {
    Result<std::unique_ptr<NodeServer>> started = NodeServer::Start(config);
    EXPECT_TRUE(started.ok()) << started.status().ToString();
    server_ = std::move(started).value();
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    // Channels to a port that an earlier test used must not share its connection.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    channel_ = grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(server_->grpc_port()),
                                         grpc::InsecureChannelCredentials(), arguments);
    ingest_ = v1::IngestService::NewStub(channel_);
    query_ = v1::StorageQueryService::NewStub(channel_);
  }

  NodeServer& server() { return *server_; }
  const std::shared_ptr<grpc::Channel>& channel() { return channel_; }
  v1::IngestService::Stub& ingest() { return *ingest_; }
  v1::StorageQueryService::Stub& query() { return *query_; }

  grpc::Status PushText(const std::string& text, v1::PushResponse* response) {
    v1::PushRequest request;
    request.set_format("text");
    request.set_body(text);
    request.set_default_timestamp_ms(1000);
    return Push(request, response);
  }

  grpc::Status Push(const v1::PushRequest& request, v1::PushResponse* response) {
    grpc::ClientContext context;
    SetDeadline(&context);
    return ingest_->Push(&context, request, response);
  }

  grpc::Status Query(const std::string& expression, int64_t time_ms, v1::QueryResponse* response) {
    v1::QueryRequest request;
    request.set_expression(expression);
    request.set_time_ms(time_ms);
    grpc::ClientContext context;
    SetDeadline(&context);
    return query_->Query(&context, request, response);
  }

  // Calls a method with bytes that need not be a message.
  grpc::Status Raw(const std::string& method, const std::string& bytes, std::string* answer = nullptr) {
    grpc::ClientContext context;
    SetDeadline(&context);
    const grpc::Slice slice(bytes);
    const grpc::ByteBuffer request(&slice, 1);
    grpc::ByteBuffer response;
    grpc::CompletionQueue queue;
    grpc::GenericStub stub(channel_);
    const auto call = stub.PrepareUnaryCall(&context, method, request, &queue);
    call->StartCall();
    grpc::Status status;
    call->Finish(&response, &status, &queue);
    void* tag = nullptr;
    bool ok = false;
    EXPECT_TRUE(queue.Next(&tag, &ok));
    if (answer != nullptr && status.ok()) *answer = Bytes(response);
    queue.Shutdown();
    while (queue.Next(&tag, &ok)) {
    }
    return status;
  }

  static std::string Bytes(const grpc::ByteBuffer& buffer) {
    std::vector<grpc::Slice> slices;
    EXPECT_TRUE(buffer.Dump(&slices).ok());
    std::string out;
    for (const grpc::Slice& slice : slices) {
      out.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
    }
    return out;
  }

  static void SetDeadline(grpc::ClientContext* context) {
    context->set_deadline(std::chrono::system_clock::now() + kCallDeadline);
  }

 private:
  std::unique_ptr<NodeServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::IngestService::Stub> ingest_;
  std::unique_ptr<v1::StorageQueryService::Stub> query_;
};

}  // namespace millstream::node

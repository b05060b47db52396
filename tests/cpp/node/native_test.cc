// Native frames of a node, with the client in C++ and with bytes that are no frames.
#include <gtest/gtest.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <memory>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "millstream/native/client.h"
#include "millstream/v1/events.grpc.pb.h"
#include "millstream/wire/column_batch.h"
#include "millstream/wire/labels_decoder.h"
#include "millstream/wire/native_events.h"
#include "millstream/wire/native_frame.h"
#include "running_node.h"

namespace millstream::node {
namespace {

namespace asio = boost::asio;

std::unique_ptr<native::Client> ConnectTo(uint16_t port) {
  native::ClientOptions options;
  options.port = port;
  auto connected = native::Client::Connect(options);
  EXPECT_TRUE(connected.ok()) << connected.status().ToString();
  return std::move(connected).value();
}

double Scalar(RunningNode& node, const std::string& expression) {
  v1::QueryResponse response;
  EXPECT_TRUE(node.Query("scalar(" + expression + ")", 100'000, &response).ok());
  return response.scalar().value();
}

std::vector<uint32_t> SomeSeries(native::Client& client, std::string_view name, int count) {
  std::vector<uint32_t> refs;
  for (int i = 0; i < count; ++i) {
    const std::string number = std::to_string(i);
    const std::array<model::Label, 2> labels{{{"__name__", name}, {"number", number}}};
    refs.push_back(client.Series(labels));
  }
  return refs;
}

// Everything that comes back until the node closes.
std::string AnswerTo(uint16_t port, std::string_view sent) {
  asio::io_context context;
  asio::ip::tcp::socket socket(context);
  socket.connect({asio::ip::make_address("127.0.0.1"), port});
  asio::write(socket, asio::buffer(sent.data(), sent.size()));
  std::string received;
  boost::system::error_code ended;
  asio::read(socket, asio::dynamic_buffer(received), ended);
  return received;
}

TEST(NodeNative, AcknowledgedSamplesAreThere) {
  RunningNode node(WithNative());
  const auto client = ConnectTo(node.server().native_port());
  const std::vector<uint32_t> refs = SomeSeries(*client, "acked", 100);
  for (int step = 0; step < 50; ++step) {
    const std::vector<TimestampMs> timestamps(100, 50'000 + step);
    const std::vector<double> values(100, step);
    ASSERT_TRUE(client->Write(refs, timestamps, values).ok());
  }
  const auto totals = client->Flush();
  ASSERT_TRUE(totals.ok()) << totals.status().ToString();
  EXPECT_EQ(totals->samples, 5000u);
  EXPECT_EQ(totals->rejected, 0u);
  EXPECT_EQ(Scalar(node, "sum(count_over_time(acked[100s]))"), 5000);
  EXPECT_EQ(client->connections(), 1);
}

TEST(NodeNative, ASampleWithoutANameIsRefusedAndTheOthersStay) {
  RunningNode node(WithNative());
  const auto client = ConnectTo(node.server().native_port());
  const std::array<model::Label, 1> good{{{"__name__", "good"}}};
  const std::array<model::Label, 1> bad{{{"no", "name"}}};
  const std::vector<uint32_t> refs{client->Series(good), client->Series(bad)};
  ASSERT_TRUE(client->Write(refs, std::vector<TimestampMs>{1000, 1000}, std::vector<double>{1, 2}).ok());
  const auto totals = client->Flush();
  ASSERT_TRUE(totals.ok());
  EXPECT_EQ(totals->samples, 1u);
  EXPECT_EQ(totals->rejected, 1u);
  EXPECT_NE(totals->first_reason.find("metric name"), std::string::npos);
}

TEST(NodeNative, WhatWasNotAcknowledgedGoesToTheNodeThatComesBack) {
  auto first = std::make_unique<RunningNode>(WithNative());
  const uint16_t port = first->server().native_port();
  const auto client = ConnectTo(port);
  const std::vector<uint32_t> refs = SomeSeries(*client, "resent", 2);
  ASSERT_TRUE(client->Write(refs, std::vector<TimestampMs>{1000, 1000}, std::vector<double>{1, 1}).ok());
  ASSERT_TRUE(client->Flush().ok());
  first.reset();
  RunningNode second(WithNative(port));
  ASSERT_TRUE(client->Write(refs, std::vector<TimestampMs>{2000, 2000}, std::vector<double>{1, 1}).ok());
  const auto totals = client->Flush();
  ASSERT_TRUE(totals.ok()) << totals.status().ToString();
  EXPECT_EQ(totals->samples, 4u);
  EXPECT_EQ(client->connections(), 2);
  EXPECT_EQ(Scalar(second, "sum(count_over_time(resent[100s]))"), 2);
}

TEST(NodeNative, WhatIsNoFrameIsAnsweredWithAnErrorAndAClose) {
  RunningNode node(WithNative());
  const uint16_t port = node.server().native_port();
  EXPECT_NE(AnswerTo(port, "GET / HTTP/1.1\r\n\r\n").find("limit"), std::string::npos);
  EXPECT_NE(AnswerTo(port, std::string(64, '\0')).find("no native frames"), std::string::npos);
  EXPECT_NE(AnswerTo(port, EncodeNative(wire::NativePing{})).find("hello"), std::string::npos);
  const std::string named = EncodeNative(wire::NativeHello{.key = {}, .tenant = "shop", .client = {}});
  EXPECT_NE(AnswerTo(port, named).find("by number"), std::string::npos);
}

TEST(NodeNative, ATypeOfAnotherTimeIsSaidToBeUnknown) {
  RunningNode node(WithNative());
  const std::string hello = EncodeNative(wire::NativeHello{});
  const std::string unknown("\x00\x00\x00\x00\x2f\x00\x00\x00", 8);
  EXPECT_NE(AnswerTo(node.server().native_port(), hello + unknown).find("type 47"), std::string::npos);
}

std::string FrameOfOneEvent(uint64_t sequence, std::string_view topic) {
  wire::NativeEvent event;
  event.payload = "x";
  wire::NativePublish publish;
  publish.sequence = sequence;
  publish.batch.topics = {topic};
  publish.batch.events = {event};
  auto frame = EncodeNative(publish);
  EXPECT_TRUE(frame.ok()) << frame.status().ToString();
  return std::move(frame).value();
}

TEST(NodeNative, WhatIsNoPublishIsAnsweredWithAnErrorBehindTheAnswersBeforeIt) {
  RunningNode node(WithNative());
  std::string frames = EncodeNative(wire::NativeHello{});
  frames += FrameOfOneEvent(1, "nowhere");
  frames += EncodeNative(wire::NativePing{.token = 7});
  // A sequence, and nothing behind it.
  frames += wire::EncodeNativeFrame(wire::NativeType::kPublish, std::string("\x02\0\0\0\0\0\0\0", 8));
  const std::string answer = AnswerTo(node.server().native_port(), frames);
  const size_t refused = answer.find("there is no topic");
  const size_t malformed = answer.find("publish frame is cut off or malformed");
  ASSERT_NE(refused, std::string::npos);
  ASSERT_NE(malformed, std::string::npos);
  EXPECT_LT(refused, malformed);
}

TEST(NodeNative, ANodeThatStopsWithPublishesOnTheirWayAnswersThemOrCloses) {
  for (int round = 0; round < 20; ++round) {
    auto node = std::make_unique<RunningNode>(WithNative());
    v1::CreateTopicRequest create;
    create.set_name("t");
    v1::Topic topic;
    grpc::ClientContext context;
    RunningNode::SetDeadline(&context);
    ASSERT_TRUE(v1::EventService::NewStub(node->channel())->CreateTopic(&context, create, &topic).ok());
    asio::io_context io;
    std::vector<asio::ip::tcp::socket> sockets;
    for (int i = 0; i < 4; ++i) {
      sockets.emplace_back(io).connect({asio::ip::make_address("127.0.0.1"), node->server().native_port()});
      std::string frames = EncodeNative(wire::NativeHello{});
      for (uint64_t sequence = 1; sequence <= 50; ++sequence) frames += FrameOfOneEvent(sequence, "t");
      asio::write(sockets.back(), asio::buffer(frames));
      // The hello has been answered: it is connected.
      std::array<char, 16> welcome;
      asio::read(sockets.back(), asio::buffer(welcome));
    }
    // Some go before the node does.
    sockets[0].close();
    node = nullptr;
    for (size_t i = 1; i < sockets.size(); ++i) {
      std::string received;
      boost::system::error_code ended;
      asio::read(sockets[i], asio::dynamic_buffer(received), ended);
      EXPECT_TRUE(ended);
    }
  }
}

TEST(NodeNative, AnyNumberOfFramesWithoutAnAnswerMayComeAtOnce) {
  RunningNode node(WithNative());
  std::string frames = EncodeNative(wire::NativeHello{});
  for (uint64_t i = 0; i < 50'000; ++i) {
    frames += i % 2 == 0 ? EncodeNative(wire::NativeUnsubscribe{i}) : EncodeNative(wire::NativeCredit{i, 1});
  }
  // So that the node closes.
  frames += std::string("\x00\x00\x00\x00\x2f\x00\x00\x00", 8);
  EXPECT_NE(AnswerTo(node.server().native_port(), frames).find("type 47"), std::string::npos);
}

TEST(NodeNative, AClientThatNeverReadsIsCutOff) {
  NodeConfig config = WithNative();
  config.native.write_timeout_ms = 300;
  config.health = "127.0.0.1:0";
  RunningNode node(config);
  asio::io_context context;
  asio::ip::tcp::socket socket(context);
  socket.open(asio::ip::tcp::v4());
  socket.set_option(asio::socket_base::receive_buffer_size(4096));
  socket.connect({asio::ip::make_address("127.0.0.1"), node.server().native_port()});
  asio::write(socket, asio::buffer(EncodeNative(wire::NativeHello{})));
  // Each write is answered with a hundred reasons.
  std::vector<std::string> labels;
  for (int i = 0; i < 100; ++i) {
    std::string& raw = labels.emplace_back();
    wire::AppendPairString("nameless", &raw);
    wire::AppendPairString(std::to_string(i), &raw);
  }
  asio::write(socket,
              asio::buffer(EncodeNative(wire::NativeSeries{.first = 0, .labels = {labels.begin(), labels.end()}})));
  std::vector<uint32_t> refs(100);
  std::iota(refs.begin(), refs.end(), 0);
  const std::vector<TimestampMs> timestamps(100, 1000);
  const std::vector<double> values(100, 1);
  boost::system::error_code cut;
  for (uint64_t sequence = 1; !cut && sequence < 100'000; ++sequence) {
    asio::write(socket, asio::buffer(wire::EncodeNativeWrite(sequence, refs, timestamps, values)), cut);
  }
  EXPECT_TRUE(cut);
  asio::ip::tcp::iostream metrics("127.0.0.1", std::to_string(node.server().health_port()));
  metrics << "GET /metrics HTTP/1.1\r\n\r\n" << std::flush;
  std::stringstream text;
  text << metrics.rdbuf();
  EXPECT_NE(text.str().find("millstream_listener_connections_stalled_total{listener=\"native\"} 1\n"),
            std::string::npos)
      << text.str();
}

TEST(NodeNative, ListensOnLoopbackAddressesOnlyWithoutTls) {
  NodeConfig config = InMemory();
  config.native.address = "0.0.0.0:0";
  EXPECT_EQ(NodeServer::Start(config).status().code(), StatusCode::kInvalidArgument);
}

TEST(NodeNative, DatagramsAreStored) {
  RunningNode node(WithNative());
  wire::DecodedWrite write;
  write.bytes = std::make_unique<std::string>();
  wire::AppendPairString("__name__", write.bytes.get());
  wire::AppendPairString("thrown", write.bytes.get());
  write.timestamps = {1000};
  write.values = {7};
  wire::DecodedSeries series;
  series.raw_labels = *write.bytes;
  series.floats_end = 1;
  write.series.push_back(series);
  const std::string batch = wire::EncodeColumnBatch(write);
  const std::string datagram =
      wire::EncodeNativeDatagram({.client = 1, .sequence = 1, .key = {}, .tenant = {}, .batch = batch}).value();
  asio::io_context context;
  asio::ip::udp::socket socket(context, asio::ip::udp::v4());
  const asio::ip::udp::endpoint there(asio::ip::make_address("127.0.0.1"), node.server().native_port());
  socket.send_to(asio::buffer(std::string("no datagram")), there);
  socket.send_to(asio::buffer(datagram), there);
  double sum = 0;
  // Datagrams take no time that could be waited for; each look takes some.
  for (int look = 0; look < 10'000 && sum != 7; ++look) sum = Scalar(node, "sum(sum_over_time(thrown[100s]))");
  EXPECT_EQ(sum, 7);
}

}  // namespace
}  // namespace millstream::node

// publish_load: publishers that keep a bounded number of events in flight, as clients of a server that runs elsewhere.
//
//   publish_load native|grpc|nats|kafka PORT CONNECTIONS IN_FLIGHT BATCH SECONDS [TOPIC]
//
// Each connection sends batches of BATCH events of 256 bytes, IN_FLIGHT of them before the first is acknowledged: as
// native frames, by StreamEvents over gRPC, as messages to a stream of JetStream in its file storage, or as Produce
// requests with acks=1 to partition 0. Prints one JSON object: events that were acknowledged, and how long batches
// took. What is sent is made once beforehand, whatever the protocol, so that the load generator takes little of the
// cores that it shares with the server. Topics must be there; the stream of JetStream is made.
#include <fmt/format.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <variant>
#include <vector>

#include "kafka_wire.h"
#include "load.h"
#include "millstream/codec/crc32c.h"
#include "millstream/v1/events.pb.h"
#include "millstream/wire/native_events.h"
#include "millstream/wire/native_frame.h"

namespace millstream::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kEventBytes = 256;
constexpr std::string_view kInbox = "_INBOX.load";

struct Settings {
  std::string protocol;
  uint16_t port = 0;
  size_t connections = 0;
  size_t in_flight = 0;
  size_t batch = 0;
  size_t seconds = 0;
  std::string topic;
};

struct Result {
  uint64_t events = 0;
  std::vector<int64_t> delays;  // of batches, in nanoseconds
};

// When the batches were sent that are not acknowledged yet.
class InFlight {
 public:
  void Sent() { sent_.push_back(Clock::now()); }
  size_t count() const { return sent_.size(); }
  void Acknowledged(size_t events, Result* result) {
    if (sent_.empty()) Fail("more acknowledgements than batches");
    result->delays.push_back(std::chrono::nanoseconds(Clock::now() - sent_.front()).count());
    result->events += events;
    sent_.pop_front();
  }

 private:
  std::deque<Clock::time_point> sent_;
};

void ReceiveMore(int fd, std::string* into) {
  std::array<char, 65536> buffer;
  into->append(buffer.data(), Receive(fd, buffer.data(), buffer.size()));
}

std::string Payload() {
  return std::string(kEventBytes, 'x');
}

// --- JetStream ---

// How many messages of an inbox came whole; takes them off `bytes`.
size_t TakeAcknowledgements(std::string* bytes) {
  size_t count = 0;
  std::string_view rest = *bytes;
  while (true) {
    const size_t end = rest.find("\r\n");
    if (end == std::string_view::npos) break;
    const std::string_view line = rest.substr(0, end);
    if (!line.starts_with("MSG ")) {
      if (line.starts_with("-ERR")) Fail(line);
      rest.remove_prefix(end + 2);
      continue;
    }
    size_t size = 0;
    const std::string_view digits = line.substr(line.rfind(' ') + 1);
    (void)std::from_chars(digits.data(), digits.data() + digits.size(), size);
    if (rest.size() < end + 2 + size + 2) break;
    const std::string_view body = rest.substr(end + 2, size);
    if (body.find("\"error\"") != std::string_view::npos) Fail(body);
    rest.remove_prefix(end + 2 + size + 2);
    ++count;
  }
  bytes->erase(0, bytes->size() - rest.size());
  return count;
}

void MakeStream(const Settings& settings) {
  const int fd = Connect(settings.port);
  const std::string stream =
      fmt::format(R"({{"name":"{0}","subjects":["{0}"],"storage":"file","num_replicas":1}})", settings.topic);
  SendAll(fd, fmt::format("CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB {1} 1\r\n"
                          "PUB $JS.API.STREAM.CREATE.{0} {1} {2}\r\n{3}\r\n",
                          settings.topic, kInbox, stream.size(), stream));
  std::string in;
  while (TakeAcknowledgements(&in) == 0) ReceiveMore(fd, &in);
  (void)close(fd);
}

void RunNats(const Settings& settings, size_t number, Clock::time_point end, Result* result) {
  const int fd = Connect(settings.port);
  const std::string inbox = fmt::format("{}.{}", kInbox, number);
  std::string in;
  SendAll(fd, fmt::format("CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB {} 1\r\n", inbox));
  std::string batch;
  for (size_t i = 0; i < settings.batch; ++i) {
    batch += fmt::format("PUB {} {} {}\r\n{}\r\n", settings.topic, inbox, kEventBytes, Payload());
  }
  InFlight in_flight;
  size_t acknowledged = 0;
  while (Clock::now() < end || in_flight.count() > 0) {
    while (Clock::now() < end && in_flight.count() < settings.in_flight) {
      SendAll(fd, batch);
      in_flight.Sent();
    }
    ReceiveMore(fd, &in);
    acknowledged += TakeAcknowledgements(&in);
    for (; acknowledged >= settings.batch; acknowledged -= settings.batch) {
      in_flight.Acknowledged(settings.batch, result);
    }
  }
  (void)close(fd);
}

// --- Kafka ---

// Source  https://kafka.apache.org/documentation/#recordbatch and the Produce API, version 3.
std::string ProduceRequest(const Settings& settings) {
  KafkaWriter records;
  const int64_t now =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count();
  records.Put(int16_t{0}).Put(static_cast<int32_t>(settings.batch - 1)).Put(now).Put(now);
  records.Put(int64_t{-1}).Put(int16_t{-1}).Put(int32_t{-1}).Put(static_cast<int32_t>(settings.batch));
  for (size_t i = 0; i < settings.batch; ++i) {
    KafkaWriter record;
    record.Put(int8_t{0}).Zigzag(0).Zigzag(static_cast<int64_t>(i)).Zigzag(-1).Zigzag(kEventBytes);
    record.bytes += Payload();
    record.Zigzag(0);
    records.Zigzag(static_cast<int64_t>(record.bytes.size())).bytes += record.bytes;
  }
  KafkaWriter batch;
  batch.Put(int64_t{0}).Put(static_cast<int32_t>(records.bytes.size() + 9)).Put(int32_t{-1}).Put(int8_t{2});
  batch.Put(codec::Crc32c(records.bytes)).bytes += records.bytes;
  KafkaWriter request;
  request.Put(int16_t{0}).Put(int16_t{3}).Put(int32_t{1}).Text("load");
  request.Put(int16_t{-1}).Put(int16_t{1}).Put(int32_t{30'000});
  request.Put(int32_t{1}).Text(settings.topic).Put(int32_t{1}).Put(int32_t{0});
  request.Put(static_cast<int32_t>(batch.bytes.size())).bytes += batch.bytes;
  return request.Framed();
}

void RunKafka(const Settings& settings, size_t /*number*/, Clock::time_point end, Result* result) {
  const int fd = Connect(settings.port);
  const std::string request = ProduceRequest(settings);
  // Length, correlation id, count of topics, name, count of partitions, partition: then the error.
  const size_t error_at = 4 + 4 + 4 + 2 + settings.topic.size() + 4 + 4;
  InFlight in_flight;
  std::string in;
  while (Clock::now() < end || in_flight.count() > 0) {
    while (Clock::now() < end && in_flight.count() < settings.in_flight) {
      SendAll(fd, request);
      in_flight.Sent();
    }
    ReceiveMore(fd, &in);
    while (in.size() >= 4) {
      const size_t size = KafkaNumber(in, 0, 4);
      if (in.size() < 4 + size) break;
      if (size + 4 < error_at + 2 || KafkaNumber(in, error_at, 2) != 0) Fail("an event was refused");
      in.erase(0, 4 + size);
      in_flight.Acknowledged(settings.batch, result);
    }
  }
  (void)close(fd);
}

// --- Native frames ---

// The next frame, from as much of the connection as that needs.
wire::NativeFrame Next(int fd, wire::NativeFrameReader* reader) {
  while (true) {
    auto frame = reader->Next();
    if (!frame.ok()) Fail(frame.status().ToString());
    if (frame->has_value()) return **frame;
    std::string more;
    ReceiveMore(fd, &more);
    reader->Feed(more);
  }
}

void RunNative(const Settings& settings, size_t /*number*/, Clock::time_point end, Result* result) {
  const int fd = Connect(settings.port);
  wire::NativeFrameReader reader;
  SendAll(fd, wire::EncodeNative(wire::NativeHello{}));
  const wire::NativeFrame greeting = Next(fd, &reader);
  const auto welcome = wire::DecodeNativeAnswer(greeting);
  if (!welcome.ok() || !std::holds_alternative<wire::NativeWelcome>(*welcome)) Fail("not welcome");
  const size_t window = std::min<size_t>(settings.in_flight, std::get<wire::NativeWelcome>(*welcome).window);
  const std::string payload = Payload();
  wire::NativeEvent event;
  event.payload = payload;
  wire::NativePublish publish;
  publish.batch.topics = {settings.topic};
  publish.batch.events.assign(settings.batch, event);
  const auto frame = wire::EncodeNative(publish);
  if (!frame.ok()) Fail(frame.status().ToString());
  // It begins with its sequence, which only grows.
  std::string body = frame->substr(wire::kNativeFrameHeaderBytes);
  InFlight in_flight;
  uint64_t sequence = 0;
  while (Clock::now() < end || in_flight.count() > 0) {
    std::string out;
    while (Clock::now() < end && in_flight.count() < window) {
      ++sequence;
      std::memcpy(body.data(), &sequence, sizeof(sequence));
      out += wire::EncodeNativeFrame(wire::NativeType::kPublish, body);
      in_flight.Sent();
    }
    SendAll(fd, out);
    for (bool more = in_flight.count() > 0; more;) {
      const wire::NativeFrame answer = Next(fd, &reader);
      const auto published = wire::DecodeNativePublished(answer.payload);
      if (answer.type != wire::NativeType::kPublished || !published.ok()) Fail("an answer that is none");
      for (const wire::NativePublishedRun& run : published->runs) {
        if (run.code != millstream::StatusCode::kOk) Fail(run.reason);
      }
      in_flight.Acknowledged(settings.batch, result);
      more = in_flight.count() > 0 && reader.PeekType().has_value();
    }
  }
  (void)close(fd);
}

// --- gRPC ---

grpc::ByteBuffer Serialized(const google::protobuf::Message& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

class Stream final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  Stream(const Settings& settings, Clock::time_point end, Result* result)
      : settings_(settings), end_(end), result_(result) {
    v1::StreamEventsRequest request;
    request.set_id(1);
    for (size_t i = 0; i < settings.batch; ++i) {
      v1::Event* event = request.mutable_submit()->add_events();
      event->set_topic(settings.topic);
      event->set_payload(Payload());
    }
    request_ = Serialized(request);
  }

  void Run(grpc::GenericStub& stub) {
    stub.PrepareBidiStreamingCall(&context_, "/millstream.v1.EventService/StreamEvents", {}, this);
    StartRead(&response_);
    StartCall();
    {
      const std::lock_guard lock(mutex_);
      WriteNext();
    }
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return is_done_; });
    if (!status_.ok()) Fail(status_.error_message());
  }

  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    is_writing_ = false;
    if (ok) WriteNext();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    // All of them would cost as much as the server spends on making them.
    if (looked_at_++ % 64 == 0) LookAt();
    {
      const std::lock_guard lock(mutex_);
      in_flight_.Acknowledged(settings_.batch, result_);
      WriteNext();
    }
    StartRead(&response_);
  }

  void OnDone(const grpc::Status& status) override {
    const std::lock_guard lock(mutex_);
    status_ = status;
    is_done_ = true;
    done_.notify_all();
  }

 private:
  void LookAt() {
    std::vector<grpc::Slice> slices;
    (void)response_.Dump(&slices);
    std::string bytes;
    for (const grpc::Slice& slice : slices) bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
    v1::StreamEventsResponse response;
    if (!response.ParseFromString(bytes)) Fail("an answer that is none");
    const bool is_whole = static_cast<size_t>(response.submitted().answers_size()) == settings_.batch;
    if (!is_whole || !response.submitted().answers(0).has_place()) Fail(response.ShortDebugString().substr(0, 500));
  }

  void WriteNext() {
    if (is_writing_ || is_closing_) return;
    if (Clock::now() >= end_) {
      is_closing_ = true;
      StartWritesDone();
      return;
    }
    if (in_flight_.count() >= settings_.in_flight) return;
    is_writing_ = true;
    in_flight_.Sent();
    StartWrite(&request_);
  }

  const Settings& settings_;
  const Clock::time_point end_;
  Result* const result_;
  grpc::ClientContext context_;
  grpc::ByteBuffer request_;
  grpc::ByteBuffer response_;
  uint64_t looked_at_ = 0;
  std::mutex mutex_;
  std::condition_variable done_;
  InFlight in_flight_;
  bool is_writing_ = false;
  bool is_closing_ = false;
  bool is_done_ = false;
  grpc::Status status_;
};

void RunGrpc(const Settings& settings, size_t number, Clock::time_point end, Result* result) {
  grpc::ChannelArguments arguments;
  // A connection of its own, not one for all channels to the same address.
  arguments.SetInt("millstream.load", static_cast<int>(number));
  grpc::GenericStub stub(grpc::CreateCustomChannel(fmt::format("127.0.0.1:{}", settings.port),
                                                   grpc::InsecureChannelCredentials(), arguments));
  Stream stream(settings, end, result);
  stream.Run(stub);
}

int Run(const Settings& settings) {
  const auto run = settings.protocol == "nats"     ? RunNats
                   : settings.protocol == "kafka"  ? RunKafka
                   : settings.protocol == "native" ? RunNative
                                                   : RunGrpc;
  if (settings.protocol == "nats") MakeStream(settings);
  std::vector<Result> results(settings.connections);
  std::vector<std::thread> threads;
  const Clock::time_point began = Clock::now();
  const Clock::time_point end = began + std::chrono::seconds(settings.seconds);
  for (size_t i = 0; i < settings.connections; ++i) {
    threads.emplace_back([&, i] { run(settings, i, end, &results[i]); });
  }
  for (std::thread& thread : threads) thread.join();
  const double seconds = std::chrono::duration<double>(Clock::now() - began).count();
  uint64_t events = 0;
  std::vector<int64_t> delays;
  for (const Result& result : results) {
    events += result.events;
    delays.insert(delays.end(), result.delays.begin(), result.delays.end());
  }
  std::ranges::sort(delays);
  fmt::print(R"({{"events":{},"seconds":{:.3f},"per_second":{:.0f},"p50_ms":{:.3f},"p99_ms":{:.3f}}})"
             "\n",
             events, seconds, static_cast<double>(events) / seconds, Milliseconds(delays, 0.5),
             Milliseconds(delays, 0.99));
  return 0;
}

}  // namespace
}  // namespace millstream::bench

int main(int argc, char** argv) {
  namespace bench = millstream::bench;
  if (argc < 7 || argc > 8) {
    fmt::print(stderr, "usage: publish_load native|grpc|nats|kafka PORT CONNECTIONS IN_FLIGHT BATCH SECONDS [TOPIC]\n");
    return 2;
  }
  return bench::Run({.protocol = argv[1],
                     .port = static_cast<uint16_t>(bench::Number(argv[2])),
                     .connections = bench::Number(argv[3]),
                     .in_flight = bench::Number(argv[4]),
                     .batch = bench::Number(argv[5]),
                     .seconds = bench::Number(argv[6]),
                     .topic = argc > 7 ? argv[7] : "load"});
}

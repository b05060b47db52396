// read_load: reads one partition of a topic from its first event to its last, as a client of a server that runs
// elsewhere.
//
//   read_load native|kafka PORT TOPIC EVENTS
//
// Prints one JSON object: how many events and bytes came, and in what time. By native frames from a subscription whose
// credit never runs out, every event decoded and its offset compared; by requests of 1 MiB each to Kafka,
// one at a time, of whose answers only the heads of batches are looked at.
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "kafka_wire.h"
#include "load.h"
#include "millstream/wire/native_events.h"
#include "millstream/wire/native_frame.h"

namespace millstream::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int32_t kFetchBytes = 1 << 20;
constexpr size_t kReceiveBytes = 256 << 10;
constexpr uint64_t kCredit = uint64_t{1} << 40;

struct Found {
  uint64_t events = 0;
  uint64_t bytes = 0;  // of payloads by native frames, of record batches by Kafka's Fetch
};

Found ReadNative(uint16_t port, std::string_view topic, uint64_t events) {
  const int fd = Connect(port);
  SendAll(fd, wire::EncodeNative(wire::NativeHello{}));
  wire::NativeSubscribe request;
  request.subscription = 1;
  request.topics = {topic};
  request.from = wire::NativeFrom::kEarliest;
  request.credit = kCredit;
  const auto subscribe = wire::EncodeNative(request);
  if (!subscribe.ok()) Fail(subscribe.status().ToString());
  SendAll(fd, *subscribe);
  wire::NativeFrameReader reader;
  wire::NativeDelivered delivered;
  Found found;
  while (found.events < events) {
    auto frame = reader.Next();
    if (!frame.ok()) Fail(frame.status().ToString());
    if (!frame->has_value()) {
      reader.Came(Receive(fd, reader.Room(kReceiveBytes).data(), kReceiveBytes));
      continue;
    }
    if ((*frame)->type == wire::NativeType::kWelcome || (*frame)->type == wire::NativeType::kSubscribed) continue;
    if ((*frame)->type != wire::NativeType::kDelivered ||
        !wire::DecodeNativeDeliveredInto((*frame)->payload, &delivered).ok()) {
      Fail("a frame that is no event's");
    }
    for (const wire::NativeEvent& event : delivered.batch.events) {
      if (event.number != found.events)
        Fail(fmt::format("event {} came as {}", found.events, event.number.value_or(0)));
      ++found.events;
      found.bytes += event.payload.size();
    }
  }
  (void)close(fd);
  return found;
}

// Source  https://kafka.apache.org/protocol#The_Messages_Fetch, version 4.
std::string FetchRequest(std::string_view topic, uint64_t offset) {
  KafkaWriter request;
  request.Put(int16_t{1}).Put(int16_t{4}).Put(int32_t{1});
  request.Put(int16_t{-1});  // no client's name
  request.Put(int32_t{-1});  // no replica
  request.Put(int32_t{1000}).Put(int32_t{1}).Put(kFetchBytes).Put(int8_t{0});
  request.Put(int32_t{1}).Text(topic).Put(int32_t{1}).Put(int32_t{0}).Put(offset).Put(kFetchBytes);
  return request.Framed();
}

Found ReadKafka(uint16_t port, std::string_view topic, uint64_t events) {
  const int fd = Connect(port);
  // Behind length, correlation, throttle, count of topics, name, count of partitions, partition.
  const size_t error_at = 4 + 4 + 4 + 4 + 2 + topic.size() + 4 + 4;
  const size_t records_at = error_at + 2 + 8 + 8 + 4;
  std::string in(kFetchBytes + (1 << 20), '\0');
  Found found;
  while (found.events < events) {
    SendAll(fd, FetchRequest(topic, found.events));
    size_t got = 0;
    while (got < 4 || got < 4 + KafkaNumber(in, 0, 4)) {
      if (got == in.size()) in.resize(2 * in.size());
      got += Receive(fd, in.data() + got, in.size() - got);
    }
    if (KafkaNumber(in, error_at, 2) != 0) Fail("the fetch was refused");
    const size_t end = records_at + 4 + KafkaNumber(in, records_at, 4);
    // A batch: its first offset, its length behind that; the last one may be cut off.
    for (size_t at = records_at + 4; at + 61 <= end;) {
      const size_t length = 12 + KafkaNumber(in, at + 8, 4);
      if (at + length > end) break;
      found.events = KafkaNumber(in, at, 8) + KafkaNumber(in, at + 23, 4) + 1;
      found.bytes += length;
      at += length;
    }
  }
  (void)close(fd);
  return found;
}

}  // namespace
}  // namespace millstream::bench

int main(int argc, char** argv) {
  if (argc != 5) {
    fmt::print(stderr, "usage: read_load native|kafka PORT TOPIC EVENTS\n");
    return 2;
  }
  namespace bench = millstream::bench;
  const auto read = std::string_view(argv[1]) == "kafka" ? bench::ReadKafka : bench::ReadNative;
  const bench::Clock::time_point began = bench::Clock::now();
  const bench::Found found = read(static_cast<uint16_t>(bench::Number(argv[2])), argv[3], bench::Number(argv[4]));
  const double seconds = std::chrono::duration<double>(bench::Clock::now() - began).count();
  fmt::print(R"({{"events":{},"seconds":{:.3f},"per_second":{:.0f},"mb_per_second":{:.1f}}})"
             "\n",
             found.events, seconds, static_cast<double>(found.events) / seconds,
             static_cast<double>(found.bytes) / 1e6 / seconds);
  return 0;
}

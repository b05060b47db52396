// read_load: reads one partition of a topic from its first event to its last, as a client of a server that runs
// elsewhere.
//
//   read_load native|kafka PORT TOPIC EVENTS
//
// Prints one JSON object: how many events and bytes came, and in what time. By native frames from a subscription whose
// credit never runs out, every event decoded and its offset compared; by requests of 1 MiB each to Kafka,
// one at a time, of whose answers only the heads of batches are looked at.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/wire/native_events.h"
#include "millstream/wire/native_frame.h"

namespace {

using Clock = std::chrono::steady_clock;
namespace wire = millstream::wire;

constexpr int32_t kFetchBytes = 1 << 20;
constexpr uint64_t kCredit = uint64_t{1} << 40;

[[noreturn]] void Fail(std::string_view what) {
  fmt::print(stderr, "read_load: {} ({})\n", what, std::strerror(errno));
  std::exit(1);
}

struct Found {
  uint64_t events = 0;
  uint64_t bytes = 0;  // of payloads by native frames, of record batches by Kafka's Fetch
};

int Connect(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0 || connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) Fail("cannot connect");
  const int on = 1;
  (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return fd;
}

void SendAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) Fail("cannot send");
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
}

size_t Receive(int fd, char* to, size_t room) {
  const ssize_t count = recv(fd, to, room, 0);
  if (count <= 0) Fail("the server closed the connection");
  return static_cast<size_t>(count);
}

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
  std::vector<char> buffer(1 << 20);
  Found found;
  while (found.events < events) {
    auto frame = reader.Next();
    if (!frame.ok()) Fail(frame.status().ToString());
    if (!frame->has_value()) {
      reader.Feed({buffer.data(), Receive(fd, buffer.data(), buffer.size())});
      continue;
    }
    if ((*frame)->type == wire::NativeType::kWelcome || (*frame)->type == wire::NativeType::kSubscribed) continue;
    const auto delivered = wire::DecodeNativeDelivered((*frame)->payload);
    if ((*frame)->type != wire::NativeType::kDelivered || !delivered.ok()) Fail("a frame that is no event's");
    for (const wire::NativeEvent& event : delivered->batch.events) {
      if (event.number != found.events)
        Fail(fmt::format("event {} came as {}", found.events, event.number.value_or(0)));
      ++found.events;
      found.bytes += event.payload.size();
    }
  }
  (void)close(fd);
  return found;
}

template <typename T>
void Put(std::string* bytes, T value) {
  for (int shift = 8 * (static_cast<int>(sizeof(T)) - 1); shift >= 0; shift -= 8) {
    *bytes += static_cast<char>(static_cast<uint64_t>(value) >> shift & 0xFF);
  }
}

uint64_t Take(std::string_view bytes, size_t at, size_t count) {
  uint64_t value = 0;
  for (size_t i = 0; i < count; ++i) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  return value;
}

// Source  https://kafka.apache.org/protocol#The_Messages_Fetch, version 4.
std::string FetchRequest(std::string_view topic, uint64_t offset) {
  std::string request;
  Put(&request, int16_t{1});
  Put(&request, int16_t{4});
  Put(&request, int32_t{1});
  Put(&request, int16_t{-1});  // no client's name
  Put(&request, int32_t{-1});  // no replica
  Put(&request, int32_t{1000});
  Put(&request, int32_t{1});
  Put(&request, kFetchBytes);
  Put(&request, int8_t{0});
  Put(&request, int32_t{1});
  Put(&request, static_cast<int16_t>(topic.size()));
  request += topic;
  Put(&request, int32_t{1});
  Put(&request, int32_t{0});
  Put(&request, offset);
  Put(&request, kFetchBytes);
  std::string framed;
  Put(&framed, static_cast<int32_t>(request.size()));
  return framed + request;
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
    while (got < 4 || got < 4 + Take(in, 0, 4)) {
      if (got == in.size()) in.resize(2 * in.size());
      got += Receive(fd, in.data() + got, in.size() - got);
    }
    if (Take(in, error_at, 2) != 0) Fail("the fetch was refused");
    const size_t end = records_at + 4 + Take(in, records_at, 4);
    // A batch: its first offset, its length behind that; the last one may be cut off.
    for (size_t at = records_at + 4; at + 61 <= end;) {
      const size_t length = 12 + Take(in, at + 8, 4);
      if (at + length > end) break;
      found.events = Take(in, at, 8) + Take(in, at + 23, 4) + 1;
      found.bytes += length;
      at += length;
    }
  }
  (void)close(fd);
  return found;
}

uint64_t Number(const char* text) {
  uint64_t value = 0;
  const std::string_view digits(text);
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (parsed.ec != std::errc() || value == 0) Fail(fmt::format("{} is no number", digits));
  return value;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    fmt::print(stderr, "usage: read_load native|kafka PORT TOPIC EVENTS\n");
    return 2;
  }
  const auto read = std::string_view(argv[1]) == "kafka" ? ReadKafka : ReadNative;
  const Clock::time_point began = Clock::now();
  const Found found = read(static_cast<uint16_t>(Number(argv[2])), argv[3], Number(argv[4]));
  const double seconds = std::chrono::duration<double>(Clock::now() - began).count();
  fmt::print(R"({{"events":{},"seconds":{:.3f},"per_second":{:.0f},"mb_per_second":{:.1f}}})"
             "\n",
             found.events, seconds, static_cast<double>(found.events) / seconds,
             static_cast<double>(found.bytes) / 1e6 / seconds);
  return 0;
}

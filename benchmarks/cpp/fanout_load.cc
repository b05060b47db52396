// fanout_load: many subscribers of one topic and one publisher, as clients of a server that runs elsewhere.
//
//   fanout_load millstream|redis|nats PORT SUBSCRIBERS EVENTS_PER_SECOND SECONDS [TOPIC [KEY]]
//
// Prints one JSON object: how many events every subscriber got (least and most), whether those of the subscribers that
// are looked at closely came in order, and how long they were on the way. The topic must be there. Every payload has
// one '|', which stands nowhere else in what a server sends, then the time at which it was published and its number: so
// events are counted at the speed of memory, whatever the protocol, and the load generator takes little of the cores
// that it shares with the server. One subscriber of sixteen is looked at closely.
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "load.h"

namespace millstream::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kTimeDigits = 19;
constexpr size_t kNumberDigits = 10;
constexpr size_t kMarkBytes = 1 + kTimeDigits + kNumberDigits;
constexpr size_t kClosely = 16;
constexpr size_t kReadBytes = 256 << 10;

int64_t Now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
}

struct Settings {
  std::string protocol;
  uint16_t port = 0;
  size_t subscribers = 0;
  size_t rate = 0;
  size_t seconds = 0;
  std::string topic;
  std::string key;
};

void ReceiveUntil(int fd, std::string_view end) {
  std::string got;
  std::array<char, 4096> buffer;
  while (got.find(end) == std::string::npos) {
    const ssize_t count = recv(fd, buffer.data(), buffer.size(), 0);
    if (count <= 0) Fail(fmt::format("the server said {:?} and no more", got));
    got.append(buffer.data(), static_cast<size_t>(count));
  }
}

// A client's frame must be masked; a mask of zeros leaves the text as it is.
std::string Frame(std::string_view text) {
  std::string out = "\x81";
  if (text.size() < 126) {
    out += static_cast<char>(0x80 | text.size());
  } else {
    out += static_cast<char>(0x80 | 126);
    out += static_cast<char>(text.size() >> 8);
    out += static_cast<char>(text.size() & 0xFF);
  }
  out.append(4, '\0');
  out += text;
  return out;
}

void Enter(int fd, const Settings& settings) {
  if (settings.protocol == "millstream") {
    const std::string bearer =
        settings.key.empty() ? std::string() : fmt::format("Authorization: Bearer {}\r\n", settings.key);
    SendAll(fd,
            fmt::format("GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n{}\r\n",
                        bearer));
    ReceiveUntil(fd, "\r\n\r\n");
  } else if (settings.protocol == "nats") {
    SendAll(fd, "CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n");
    ReceiveUntil(fd, "PONG\r\n");
  }
}

void Subscribe(int fd, const Settings& settings) {
  if (settings.protocol == "millstream") {
    SendAll(fd,
            Frame(fmt::format(R"({{"op":"subscribe","id":"s","topics":["{}"],"on_slow":"block"}})", settings.topic)));
    ReceiveUntil(fd, "\"subscription_id\"");
  } else if (settings.protocol == "redis") {
    SendAll(fd, fmt::format("SUBSCRIBE {}\r\n", settings.topic));
    ReceiveUntil(fd, ":1\r\n");
  } else {
    SendAll(fd, fmt::format("SUB {} 1\r\nPING\r\n", settings.topic));
    ReceiveUntil(fd, "PONG\r\n");
  }
}

std::string Message(const Settings& settings, uint64_t number) {
  const std::string payload = fmt::format(R"({{"at":"|{:019}{:010}","text":"{:x>60}"}})", Now(), number, "");
  if (settings.protocol == "millstream") {
    return Frame(
        fmt::format(R"({{"op":"publish","id":{},"topic":"{}","payload":{}}})", number, settings.topic, payload));
  }
  if (settings.protocol == "redis") {
    return fmt::format("*3\r\n$7\r\nPUBLISH\r\n${}\r\n{}\r\n${}\r\n{}\r\n", settings.topic.size(), settings.topic,
                       payload.size(), payload);
  }
  return fmt::format("PUB {} {}\r\n{}\r\n", settings.topic, payload.size(), payload);
}

// Sends what is due, and reads away what comes back.
void Publish(int fd, const Settings& settings, std::atomic<bool>* failed) {
  const int64_t began = Now();
  const uint64_t total = settings.rate * settings.seconds;
  std::array<char, 65536> answers;
  for (uint64_t number = 0; number < total;) {
    const auto due =
        static_cast<uint64_t>(static_cast<double>(Now() - began) / 1e9 * static_cast<double>(settings.rate));
    std::string bytes;
    for (; number < std::min(due, total); ++number) bytes += Message(settings, number);
    SendAll(fd, bytes);
    while (true) {
      const ssize_t got = recv(fd, answers.data(), answers.size(), MSG_DONTWAIT);
      if (got == 0) failed->store(true);
      if (got > 0 &&
          std::string_view(answers.data(), static_cast<size_t>(got)).find("\"error\"") != std::string::npos) {
        fmt::print(stderr, "{}\n", std::string_view(answers.data(), static_cast<size_t>(got)));
        failed->store(true);
      }
      if (got <= 0) break;
    }
    // What becomes due meanwhile goes in one piece.
    std::this_thread::sleep_for(std::chrono::microseconds(500));
  }
}

struct Subscriber {
  int fd = -1;
  uint64_t events = 0;
  uint64_t next = 0;  // number; of those that are looked at closely
  bool in_order = true;
  std::string rest;  // of a mark that was cut off
};

class Reader {
 public:
  explicit Reader(size_t count) : subscribers_(count) {}

  std::vector<Subscriber>& subscribers() { return subscribers_; }
  const std::vector<int64_t>& delays() const { return delays_; }
  uint64_t bytes() const { return bytes_; }

  void Read(size_t index) {
    Subscriber& subscriber = subscribers_[index];
    const ssize_t got = recv(subscriber.fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) Fail("the server closed a subscriber's connection");
    bytes_ += static_cast<uint64_t>(got);
    const std::string_view bytes(buffer_.data(), static_cast<size_t>(got));
    if (index % kClosely == 0) {
      LookAt(subscriber, bytes);
    } else {
      subscriber.events += static_cast<uint64_t>(std::ranges::count(bytes, '|'));
    }
  }

 private:
  void LookAt(Subscriber& subscriber, std::string_view bytes) {
    subscriber.rest += bytes;
    const std::string_view text = subscriber.rest;
    const int64_t now = Now();
    size_t at = text.find('|');
    while (at != std::string_view::npos && at + kMarkBytes <= text.size()) {
      int64_t sent = 0;
      uint64_t number = 0;
      const char* digits = text.data() + at + 1;
      (void)std::from_chars(digits, digits + kTimeDigits, sent);
      (void)std::from_chars(digits + kTimeDigits, digits + kTimeDigits + kNumberDigits, number);
      subscriber.in_order &= number == subscriber.next;
      subscriber.next = number + 1;
      ++subscriber.events;
      delays_.push_back(now - sent);
      at = text.find('|', at + kMarkBytes);
    }
    subscriber.rest = at == std::string_view::npos ? std::string() : std::string(text.substr(at));
  }

  std::vector<Subscriber> subscribers_;
  std::vector<int64_t> delays_;
  std::vector<char> buffer_ = std::vector<char>(kReadBytes);
  uint64_t bytes_ = 0;
};

int Run(const Settings& settings) {
  Reader reader(settings.subscribers);
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  for (size_t i = 0; i < settings.subscribers; ++i) {
    const int fd = Connect(settings.port);
    reader.subscribers()[i].fd = fd;
    Enter(fd, settings);
    Subscribe(fd, settings);
    epoll_event event{.events = EPOLLIN, .data = {.u64 = i}};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) Fail("epoll");
  }
  const int publisher = Connect(settings.port);
  Enter(publisher, settings);
  fmt::print(stderr, "ready\n");
  std::atomic<bool> failed = false;
  std::atomic<bool> published = false;
  const int64_t began = Now();
  std::thread publishing([&] {
    Publish(publisher, settings, &failed);
    published = true;
  });
  const uint64_t total = settings.rate * settings.seconds;
  std::vector<epoll_event> events(1024);
  int64_t quiet_since = 0;
  while (!failed) {
    const int count = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), 100);
    for (int i = 0; i < count; ++i) reader.Read(events[static_cast<size_t>(i)].data.u64);
    if (!published) continue;
    if (std::ranges::all_of(reader.subscribers(), [&](const Subscriber& one) { return one.events >= total; })) break;
    // Whoever drops events never comes to the end.
    if (count > 0 || quiet_since == 0) quiet_since = Now();
    if (Now() - quiet_since > 3'000'000'000) break;
  }
  const double seconds = static_cast<double>(Now() - began) / 1e9;
  publishing.join();
  std::vector<int64_t> delays = reader.delays();
  std::ranges::sort(delays);
  const auto by_events = [](const Subscriber& one) { return one.events; };
  rusage usage{};
  (void)getrusage(RUSAGE_SELF, &usage);
  const double cpu = static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                     static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
  fmt::print(R"({{"published":{},"least":{},"most":{},"in_order":{},"seconds":{:.3f},"mb_per_second":{:.1f},)"
             R"("p50_ms":{:.3f},"p99_ms":{:.3f},"max_ms":{:.3f},"client_cpu_seconds":{:.2f}}})"
             "\n",
             total, std::ranges::min(reader.subscribers(), {}, by_events).events,
             std::ranges::max(reader.subscribers(), {}, by_events).events,
             std::ranges::all_of(reader.subscribers(), &Subscriber::in_order), seconds,
             static_cast<double>(reader.bytes()) / 1e6 / seconds, Milliseconds(delays, 0.5), Milliseconds(delays, 0.99),
             Milliseconds(delays, 1), cpu);
  return failed ? 1 : 0;
}

}  // namespace
}  // namespace millstream::bench

int main(int argc, char** argv) {
  namespace bench = millstream::bench;
  if (argc < 6 || argc > 8) {
    fmt::print(stderr,
               "usage: fanout_load millstream|redis|nats PORT SUBSCRIBERS EVENTS_PER_SECOND SECONDS [TOPIC [KEY]]\n");
    return 2;
  }
  rlimit descriptors{};
  (void)getrlimit(RLIMIT_NOFILE, &descriptors);
  descriptors.rlim_cur = descriptors.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &descriptors);
  return bench::Run({.protocol = argv[1],
                     .port = static_cast<uint16_t>(bench::Number(argv[2])),
                     .subscribers = bench::Number(argv[3]),
                     .rate = bench::Number(argv[4]),
                     .seconds = bench::Number(argv[5]),
                     .topic = argc > 6 ? argv[6] : "fanout",
                     .key = argc > 7 ? argv[7] : ""});
}

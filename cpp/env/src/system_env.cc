#include <pthread.h>
#include <sched.h>
#include <sys/random.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <utility>

#include "millstream/base/check.h"
#include "millstream/env/env.h"
#include "posix_file_system.h"

namespace millstream::env {
namespace {

std::chrono::nanoseconds ReadClock(clockid_t clock) {
  timespec now{};
  MS_CHECK(clock_gettime(clock, &now) == 0);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

class SystemClock final : public Clock {
 public:
  TimestampMs WallNow() const override {
    return std::chrono::floor<std::chrono::milliseconds>(ReadClock(CLOCK_REALTIME)).count();
  }
  std::chrono::nanoseconds MonotonicNow() const override { return ReadClock(CLOCK_MONOTONIC); }
};

class SystemRandom final : public Random {
 public:
  void Fill(std::span<std::byte> out) override {
    while (!out.empty()) {
      const ssize_t got = getrandom(out.data(), out.size(), 0);
      if (got < 0) {
        MS_CHECK(errno == EINTR);
        continue;
      }
      out = out.subspan(static_cast<size_t>(got));
    }
  }
};

// std::thread reports failure by throwing; pthread_create answers.
class PosixThread final : public Thread {
 public:
  PosixThread(const std::string& name, std::function<void()> body)
      : name_(name.substr(0, 15)), body_(std::move(body)) {}
  PosixThread(const PosixThread&) = delete;
  PosixThread& operator=(const PosixThread&) = delete;
  ~PosixThread() override {
    if (started_) MS_CHECK(pthread_join(thread_, nullptr) == 0);
  }

  Status Start(const ThreadOptions& options) {
    pthread_attr_t attributes;
    MS_CHECK(pthread_attr_init(&attributes) == 0);
    int error = 0;
    if (options.cpu.has_value()) {
      cpu_set_t cpus;
      CPU_ZERO(&cpus);
      if (*options.cpu >= 0 && *options.cpu < CPU_SETSIZE) CPU_SET(*options.cpu, &cpus);
      error = pthread_attr_setaffinity_np(&attributes, sizeof(cpus), &cpus);
    }
    if (error == 0) error = pthread_create(&thread_, &attributes, &PosixThread::Run, this);
    (void)pthread_attr_destroy(&attributes);
    if (error == EINVAL && options.cpu.has_value()) {
      return InvalidArgument("thread {}: there is no CPU {} for this process", options.name, *options.cpu);
    }
    if (error != 0) {
      return ResourceExhausted("thread {}: {}", options.name, std::generic_category().message(error));
    }
    started_ = true;
    return Status::Ok();
  }

 private:
  static void* Run(void* self) {
    auto* thread = static_cast<PosixThread*>(self);
    // A name is only for people; 16 bytes with the final zero is what the system takes.
    (void)pthread_setname_np(pthread_self(), thread->name_.c_str());
    thread->body_();
    return nullptr;
  }

  std::string name_;
  std::function<void()> body_;
  pthread_t thread_{};
  bool started_ = false;
};

class SystemExecutor final : public Executor {
 public:
  Result<std::unique_ptr<Thread>> Start(ThreadOptions options, std::function<void()> body) override {
    auto thread = std::make_unique<PosixThread>(options.name, std::move(body));
    MS_RETURN_IF_ERROR(thread->Start(options));
    return std::unique_ptr<Thread>(std::move(thread));
  }

  int cpu_count() const override {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0) return 1;
    return std::max(1, CPU_COUNT(&cpus));
  }
};

}  // namespace

const Env& SystemEnv() {
  // Never destroyed: threads may still use it while the process exits.
  static SystemClock& clock = *new SystemClock;
  static SystemRandom& random = *new SystemRandom;
  static PosixFileSystem& files = *new PosixFileSystem;
  static SystemExecutor& executor = *new SystemExecutor;
  static const Env env{&clock, &random, &files, &executor};
  return env;
}

}  // namespace millstream::env

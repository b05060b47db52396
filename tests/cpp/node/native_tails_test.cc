// The subscriptions of one connection and the pool that makes their frames: nothing is overlooked, and nobody has the
// pool for himself.
#include "native_tails.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "millstream/base/mutex.h"
#include "millstream/engine/database.h"
#include "millstream/env/env.h"
#include "millstream/events/broker.h"
#include "millstream/wire/native_events.h"
#include "millstream/wire/native_frame.h"
#include "work_pool.h"

namespace millstream::node {
namespace {

constexpr std::chrono::seconds kPatience{20};

// Something that happens again and again, and can be waited for.
class Count {
 public:
  void Add() {
    const MutexLock lock(mutex_);
    ++count_;
    changed_.NotifyAll();
  }
  size_t count() {
    const MutexLock lock(mutex_);
    return count_;
  }
  // False when it did not come to that in good time.
  bool WaitFor(size_t count) {
    const MutexLock lock(mutex_);
    while (count_ < count) {
      if (!changed_.WaitFor(mutex_, kPatience)) return count_ >= count;
    }
    return true;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  size_t count_ GUARDED_BY(mutex_) = 0;
};

class NativeTailsTest : public testing::Test {
 protected:
  std::unique_ptr<WorkPool> Pool(int threads, size_t queue_max) {
    return WorkPool::Start("test", threads, queue_max, *env::SystemEnv().executor).value();
  }
  std::shared_ptr<NativeTails> Tails(WorkPool& pool, std::function<void()> ready) {
    return NativeTails::Make(db_->Events(), {}, pool, std::move(ready), [] { return std::shared_ptr<void>(); });
  }
  void Create(const std::string& topic) { ASSERT_TRUE(db_->Events().CreateTopic({}, topic, {}).ok()); }
  void Publish(const std::string& topic, const std::string& payload) {
    events::PublishEvent event;
    event.topic = topic;
    event.event.payload = payload;
    ASSERT_TRUE(db_->Events().Publish({}, std::vector<events::PublishEvent>{event}).at(0).ok());
  }
  static void Subscribe(NativeTails& tails, uint64_t number, std::string_view topic) {
    ASSERT_TRUE(TrySubscribe(tails, number, topic).ok());
  }
  static Result<std::string> TrySubscribe(NativeTails& tails, uint64_t number, std::string_view topic) {
    const auto frame = EncodeNative(wire::NativeSubscribe{.subscription = number,
                                                          .topics = {topic},
                                                          .from = wire::NativeFrom::kEarliest,
                                                          .timestamp = 0,
                                                          .offsets = {},
                                                          .on_slow = 0,
                                                          .lag_max = 0,
                                                          .filter = {},
                                                          .credit = uint64_t{1} << 31});
    EXPECT_TRUE(frame.ok());
    return tails.Subscribe(PayloadOf(*frame));
  }
  static std::string_view PayloadOf(const std::string& frame) {
    return std::string_view(frame).substr(wire::kNativeFrameHeaderBytes);
  }
  static size_t EventsOf(const std::vector<std::string>& frames) {
    size_t events = 0;
    for (const std::string& frame : frames) {
      const auto delivered = wire::DecodeNativeDelivered(PayloadOf(frame));
      EXPECT_TRUE(delivered.ok());
      if (delivered.ok()) events += delivered->batch.events.size();
    }
    return events;
  }

  std::unique_ptr<engine::Database> db_ = engine::Database::Open(std::string(engine::kMemoryPath), {}).value();
};

TEST_F(NativeTailsTest, ANumberInUseIsAnErrorOfTheConnection) {
  Create("t");
  const auto pool = Pool(1, 100);
  const std::shared_ptr<NativeTails> tails = Tails(*pool, [] {});
  Subscribe(*tails, 1, "t");
  // An `ended` frame would be taken for the end of the first.
  EXPECT_EQ(TrySubscribe(*tails, 1, "t").status().code(), StatusCode::kInvalidArgument);
  tails->Stop();
}

TEST_F(NativeTailsTest, AnEventThatComesWhenATurnEndsIsNotOverlooked) {
  Create("t");
  const auto pool = Pool(1, 100);
  Count got;
  std::shared_ptr<NativeTails> tails;
  tails = Tails(*pool, [&] { got.Add(); });
  Subscribe(*tails, 1, "t");
  // Each is published when the one before was made into a frame, which is just when the turn ends.
  size_t events = 0;
  size_t told = 0;
  for (size_t i = 0; i < 10'000; ++i) {
    Publish("t", "x");
    while (events == i) {
      ASSERT_TRUE(got.WaitFor(told + 1)) << "event " << i << " never came";
      told = got.count();
      events += EventsOf(tails->Take());
    }
  }
  tails->Stop();
}

TEST_F(NativeTailsTest, APoolWithoutRoomIsSaidOnceAndAskedAgain) {
  Create("t");
  Publish("t", "x");
  const auto pool = Pool(1, 1);
  Count started;
  Count gate;
  // One job runs, and one waits.
  ASSERT_TRUE(pool->Submit([&] {
                    started.Add();
                    EXPECT_TRUE(gate.WaitFor(1));
                  })
                  .ok());
  ASSERT_TRUE(started.WaitFor(1));
  ASSERT_TRUE(pool->Submit([&] { started.Add(); }).ok());
  Count told;
  const auto tails = Tails(*pool, [&] { told.Add(); });
  Subscribe(*tails, 1, "t");
  EXPECT_EQ(told.count(), 1u);
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(tails->Take().empty());
    EXPECT_TRUE(tails->is_put_off());
  }
  EXPECT_EQ(told.count(), 1u);
  gate.Add();
  ASSERT_TRUE(started.WaitFor(2));
  // A pool that has no job may still hold the last one's place.
  while (tails->is_put_off()) (void)tails->Take();
  ASSERT_TRUE(told.WaitFor(2));
  EXPECT_EQ(EventsOf(tails->Take()), 1u);
  tails->Stop();
}

TEST_F(NativeTailsTest, FramesThatAreWrittenOverThoseThatWereSentHaveTheirOwnEvents) {
  Create("t");
  // Long and short frames, by turns.
  std::vector<std::string> payloads;
  for (size_t i = 0; i < 3000; ++i) {
    payloads.push_back(std::string(i / 300 % 2 == 0 ? 2000 + i : i % 7, static_cast<char>('a' + i % 26)));
    Publish("t", payloads.back());
  }
  const auto pool = Pool(1, 100);
  Count told;
  const auto tails = Tails(*pool, [&] { told.Add(); });
  Subscribe(*tails, 1, "t");
  std::vector<std::string> frames;
  size_t next = 0;
  for (size_t times = 1; next < payloads.size(); ++times) {
    ASSERT_TRUE(told.WaitFor(times)) << next << " events came";
    frames = tails->Take(std::move(frames));
    for (const std::string& frame : frames) {
      const auto delivered = wire::DecodeNativeDelivered(PayloadOf(frame));
      ASSERT_TRUE(delivered.ok()) << delivered.status().ToString();
      for (const wire::NativeEvent& event : delivered->batch.events) {
        ASSERT_EQ(event.number, next);
        ASSERT_EQ(event.payload, payloads[next]);
        ++next;
      }
    }
  }
  tails->Stop();
}

TEST_F(NativeTailsTest, WhoCatchesUpLeavesThePoolToOthersInBetween) {
  constexpr size_t kEvents = 20;
  Create("t");
  for (size_t i = 0; i < kEvents; ++i) Publish("t", std::string(500'000, 'x'));
  const auto pool = Pool(1, 100);
  Count gate;
  ASSERT_TRUE(pool->Submit([&] { EXPECT_TRUE(gate.WaitFor(1)); }).ok());
  std::atomic<size_t> events{0};
  Count told;
  std::shared_ptr<NativeTails> tails;
  tails = Tails(*pool, [&] {
    // A client that keeps up with whatever comes.
    events += EventsOf(tails->Take());
    told.Add();
  });
  Subscribe(*tails, 1, "t");
  size_t before = 0;
  Count other;
  ASSERT_TRUE(pool->Submit([&] {
                    before = events;
                    other.Add();
                  })
                  .ok());
  gate.Add();
  ASSERT_TRUE(other.WaitFor(1));
  EXPECT_GT(before, 0u);
  EXPECT_LT(before, kEvents / 2);
  for (size_t times = 1; events < kEvents; ++times) ASSERT_TRUE(told.WaitFor(times)) << events << " events came";
  tails->Stop();
}

}  // namespace
}  // namespace millstream::node

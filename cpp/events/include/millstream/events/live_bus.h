// LiveBus: events from threads to handlers of one process, at memory's speed: no log, no offsets, nothing kept.
//
// For what has to be handled within microseconds and may be gone with the process; what must survive goes to a Broker.
// An event is a value of the program's own type. Each topic has a handler; events of one topic and key are handled by
// one worker, those of one publisher in their order.
//
//   auto bus = *LiveBus<Trade>::Open(env, {.workers = 2}, {{"trades", [](auto trades) { … }}});
//   auto publisher = *bus->NewPublisher();
//   publisher->Publish(*bus->Topic("trades"), trade.instrument, trade);
//
// Threads     A publisher is used by one thread at a time, all else by any. Handlers run on the bus's workers: two
//             workers may run one handler at once, with different keys. A handler does not block for long: it holds up
//             what waits behind, and publishers once the rings are full.
// Ownership   All publishers go before the bus; the bus's end handles what was published.
// Cost        A move into a ring's slot and a call of the handler for each run of events of one topic. Memory: workers
//             * publishers * ring_capacity * the event's size.
// Errors      A full ring is an answer (TryPublish) or a wait (Publish), and counted. kInvalidArgument for topics that
//             are no topics' names or come twice; kNotFound for one that has no handler.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "millstream/base/hash.h"
#include "millstream/base/result.h"
#include "millstream/base/strong_int.h"
#include "millstream/env/env.h"
#include "millstream/events/topic.h"
#include "millstream/queue/dispatcher.h"

namespace millstream::events {

struct LiveBusOptions {
  size_t workers = 1;
  std::vector<int> cpus = {};  // worker i runs on cpus[i] alone; empty leaves them to the system
  queue::WaitStrategy wait = queue::WaitStrategy::kPark;
  size_t ring_capacity = 4096;  // events from one publisher to one worker
  size_t publishers_max = 16;   // at a time
  size_t batch_max = 256;       // events for each call of a handler
  size_t latency_every = 256;   // one of so many events is timed; 0: none
};

enum class LiveTopic : uint32_t {};  // a topic's number in its bus

struct LiveBusStats {
  uint64_t handled = 0;
  uint64_t refused = 0;  // found a ring full
  uint64_t depth = 0;    // wait, about
  queue::LatencyHistogram latency;
};

template <typename Event>
class LiveBus {
  struct Item {
    LiveTopic topic{};
    Event event{};
  };
  using Dispatcher = queue::Dispatcher<Item>;

 public:
  // The next events of one topic, at least one; they are views, good for the call.
  class Events {
   public:
    class Iterator {
     public:
      explicit Iterator(Item* item) : item_(item) {}
      Event& operator*() const { return item_->event; }
      Iterator& operator++() {
        ++item_;
        return *this;
      }
      friend bool operator==(const Iterator&, const Iterator&) = default;

     private:
      Item* item_;
    };
    size_t size() const { return items_.size(); }
    Event& operator[](size_t index) const { return items_[index].event; }
    Iterator begin() const { return Iterator(items_.data()); }
    Iterator end() const { return Iterator(items_.data() + items_.size()); }

   private:
    friend class LiveBus;
    explicit Events(std::span<Item> items) : items_(items) {}
    std::span<Item> items_;
  };
  using Handler = std::function<void(Events)>;

  class Publisher {
   public:
    // False when the worker's ring is full.
    bool TryPublish(LiveTopic topic, uint64_t key, const Event& event) {
      const bool took = producer_->TryStageWith(Route(topic, key), Fill(topic, event));
      if (took) producer_->Publish();
      return took;
    }
    // Waits for room.
    void Publish(LiveTopic topic, uint64_t key, const Event& event) {
      Stage(topic, key, event);
      Flush();
    }
    void Publish(LiveTopic topic, std::string_view key, const Event& event) { Publish(topic, Hash64(key), event); }

    // As Publish, but handlers see it only after Flush, or when a ring is full: so that many cost less.
    void Stage(LiveTopic topic, uint64_t key, const Event& event) {
      producer_->StageWith(Route(topic, key), Fill(topic, event));
    }
    void Flush() { producer_->Publish(); }

   private:
    friend class LiveBus;
    explicit Publisher(std::unique_ptr<typename Dispatcher::Producer> producer) : producer_(std::move(producer)) {}
    static uint64_t Route(LiveTopic topic, uint64_t key) { return queue::RouteOf(static_cast<uint64_t>(topic), key); }
    static auto Fill(LiveTopic topic, const Event& event) {
      return [topic, &event](Item& item) {
        item.topic = topic;
        item.event = event;
      };
    }
    std::unique_ptr<typename Dispatcher::Producer> producer_;
  };

  // `topics`: a name and its handler each.
  static Result<std::unique_ptr<LiveBus>> Open(const env::Env& env, const LiveBusOptions& options,
                                               std::vector<std::pair<std::string, Handler>> topics) {
    for (size_t i = 0; i < topics.size(); ++i) {
      MS_RETURN_IF_ERROR(CheckTopicName(topics[i].first));
      for (size_t j = 0; j < i; ++j) {
        if (topics[i].first == topics[j].first) {
          return InvalidArgument("topic '{}' has two handlers", topics[i].first);
        }
      }
    }
    std::unique_ptr<LiveBus> bus(new LiveBus(std::move(topics)));
    queue::DispatcherOptions dispatcher;
    dispatcher.name = "live";
    dispatcher.workers = options.workers;
    dispatcher.cpus = options.cpus;
    dispatcher.wait = options.wait;
    dispatcher.ring_capacity = options.ring_capacity;
    dispatcher.producers_max = options.publishers_max;
    dispatcher.batch_max = options.batch_max;
    dispatcher.latency_every = options.latency_every;
    MS_ASSIGN_OR_RETURN(bus->dispatcher_,
                        Dispatcher::Start(env, dispatcher,
                                          [raw = bus.get()](size_t /*worker*/, queue::Priority /*priority*/,
                                                            std::span<Item> items) { raw->Handle(items); }));
    return bus;
  }
  LiveBus(const LiveBus&) = delete;
  LiveBus& operator=(const LiveBus&) = delete;

  Result<LiveTopic> Topic(std::string_view name) const {
    for (size_t i = 0; i < topics_.size(); ++i) {
      if (topics_[i].first == name) return static_cast<LiveTopic>(i);
    }
    return NotFound("topic '{}' has no handler", name);
  }

  // kResourceExhausted when publishers_max exist.
  Result<std::unique_ptr<Publisher>> NewPublisher() {
    MS_ASSIGN_OR_RETURN(auto producer, dispatcher_->NewProducer());
    return std::unique_ptr<Publisher>(new Publisher(std::move(producer)));
  }

  // Handles what was published and ends. Idempotent. kFailedPrecondition while a publisher exists.
  Status Close() { return dispatcher_->Stop(); }

  LiveBusStats Stats() const {
    LiveBusStats stats;
    for (size_t i = 0; i < dispatcher_->workers(); ++i) {
      const queue::WorkerStats worker = dispatcher_->Stats(i);
      stats.handled += worker.handled;
      stats.refused += worker.refused;
      stats.depth += worker.depth;
      stats.latency.Merge(worker.latency);
    }
    return stats;
  }

 private:
  explicit LiveBus(std::vector<std::pair<std::string, Handler>> topics) : topics_(std::move(topics)) {}

  void Handle(std::span<Item> items) {
    while (!items.empty()) {
      const LiveTopic topic = items.front().topic;
      size_t count = 1;
      while (count < items.size() && items[count].topic == topic) ++count;
      topics_[static_cast<size_t>(topic)].second(Events(items.first(count)));
      items = items.subspan(count);
    }
  }

  const std::vector<std::pair<std::string, Handler>> topics_;
  std::unique_ptr<Dispatcher> dispatcher_;
};

}  // namespace millstream::events

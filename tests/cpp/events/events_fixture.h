// What the tests of events share: a simulated machine, and short ways to publish and to read.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/env/env.h"
#include "millstream/env/sim_clock.h"
#include "millstream/env/sim_file_system.h"
#include "millstream/events/broker.h"

namespace millstream::events {

inline constexpr TenantId kTenant{1};

class SimMachine {
 public:
  explicit SimMachine(uint64_t seed) : files(seed), clock(1'700'000'000'000), random_(seed + 1) {
    EXPECT_TRUE(files.MakeFolder("/data").ok());
    EXPECT_TRUE(files.SyncFolder("/").ok());
  }

  env::Env env() {
    const env::Env system = env::SystemEnv();
    return {&clock, many_threads ? system.random : &random_, &files, system.executor};
  }

  Result<std::shared_ptr<Broker>> Open(storage::Durability durability = storage::Durability::kFsync,
                                       size_t open_logs_max = kOpenLogsMax, uint64_t segment_bytes = 16 << 20) {
    return Broker::Open(
        env(), "/data/events",
        {.durability = durability, .writers = 1, .open_logs_max = open_logs_max, .segment_bytes = segment_bytes});
  }
  std::shared_ptr<Broker> MustOpen(storage::Durability durability = storage::Durability::kFsync,
                                   size_t open_logs_max = kOpenLogsMax, uint64_t segment_bytes = 16 << 20) {
    auto opened = Open(durability, open_logs_max, segment_bytes);
    EXPECT_TRUE(opened.ok()) << opened.status().ToString();
    return opened.ok() ? *opened : nullptr;
  }

  env::SimFileSystem files;
  // Random numbers of a seed are for one thread; where several run, they are the system's.
  bool many_threads = false;
  env::SimClock clock;

 private:
  env::SeededRandom random_;
};

inline PublishEvent Text(std::string_view topic, std::string_view payload, std::optional<uint32_t> partition = {}) {
  PublishEvent event;
  event.topic = topic;
  event.event.payload = payload;
  event.partition = partition;
  return event;
}

inline Result<Published> PublishOne(Broker& broker, const PublishEvent& event, TenantId tenant = kTenant) {
  return broker.Publish(tenant, std::span<const PublishEvent>(&event, 1)).front();
}

inline void MustCreate(Broker& broker, const std::string& name, const TopicOptions& options = {},
                       TenantId tenant = kTenant) {
  const auto made = broker.CreateTopic(tenant, name, options);
  ASSERT_TRUE(made.ok()) << made.status().ToString();
}

// Every payload of the partition, from its start.
inline std::vector<std::string> ReadAll(Broker& broker, const std::string& topic, uint32_t partition = 0) {
  std::vector<std::string> out;
  FetchOptions options{.limit = kFetchEventsMax};
  while (true) {
    const auto fetched = broker.Fetch(kTenant, topic, partition, options);
    EXPECT_TRUE(fetched.ok()) << fetched.status().ToString();
    if (!fetched.ok()) return out;
    for (const EventPtr& event : fetched->events) out.emplace_back(event->view().payload);
    if (fetched->next_offset >= fetched->end_offset) return out;
    options.offset = fetched->next_offset;
  }
}

}  // namespace millstream::events

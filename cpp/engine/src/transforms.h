// Transforms: makes samples of the events of topics that have metric rules (events/metric_rule.h).
//
// It reads each such topic like a subscription, by cursors, on a thread of its own: publishing never waits for it, and
// being behind is lag. A gauge's sample stands at its event's timestamp. A counter's samples stand at the clock's time
// when they are written, later than all before; idle counters are written again every kIdleMs, as if they were scraped,
// and before the first sample of a series stands a 0, so that `increase` sees the first events.
//
// Effectively once. Offsets and totals are one record of the state (transform_state.h), which a file replaces
// atomically; a batch of events goes through these steps, and the next begins when they are done:
//   1. gauges' samples are written;
//   2. the state behind the batch is made durable, with the stamp that its counters' samples get;
//   3. these samples are written.
// Each event is in the totals once, since totals and offsets move together: what a crash before 2 forgets is read
// again from the older offsets into the older totals. The samples of 3 follow from the state alone, so that after a
// crash behind 2 they are written once more: the same labels, stamps and values, which the store takes as duplicates.
// Those of 1 are read again with the events; they are duplicates, too. Totals never go down, stamps always grow, also
// over a restart with a clock that was set back: so a reader sees a counter without resets.
// The state is saved only when a total has changed, or after kSaveMs: gauges may be written again, nothing else.
//
// What may be lost    Events that the topic itself loses: those that retention takes before they are read (counted),
//                     and those of an ephemeral topic, or of one in a database that promises kProcess after the machine
//                     lost power. Their totals stay: what was counted is not taken back.
// Rules that change   A rule is another one when anything of it is. Its counters begin at 0, with the events that are
//                     published after it was set; a reader sees a reset.
// Two in a gauge      Of events with the same labels and timestamp the last of a batch counts; the store refuses
// others.
//
// Threads     Start's thread calls Run; tests call it themselves. Stats from any thread.
// Limits      kRuleSeriesMax series of each rule, and what the tenant may have; more are refused and counted.
// Errors      What cannot be written is tried again with the next turn; until then the topic's lag grows.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/env/env.h"
#include "millstream/env/interval_timer.h"
#include "millstream/events/broker.h"
#include "transform_state.h"

namespace millstream::engine {

inline constexpr int64_t kTransformTurnMs = 200;
inline constexpr int64_t kIdleMs = 15'000;
inline constexpr int64_t kSaveMs = 5'000;
inline constexpr size_t kTransformBatchEvents = 10'000;
inline constexpr uint64_t kTransformBatchBytes = 8 << 20;

struct TransformSample {
  std::string_view labels;  // as wire::LabelEncoding::kPairs
  TimestampMs timestamp = 0;
  double value = 0;
};

// Where samples go. Both may be called until Stop.
struct TransformStore {
  // How many were refused by themselves; an error when nobody knows what was written.
  std::function<Result<uint64_t>(TenantId tenant, uint64_t series_max, std::span<const TransformSample> samples)> write;
  // The timestamp of the newest sample of a series.
  std::function<std::optional<TimestampMs>(TenantId tenant, std::string_view labels)> newest;
};

class Transforms {
 public:
  // `folder` empty keeps states in memory. Finds the topics with rules and loads their states.
  static Result<std::unique_ptr<Transforms>> Open(const env::Env& env, const std::string& folder,
                                                  events::Broker& broker, TransformStore store);
  ~Transforms();
  Transforms(const Transforms&) = delete;
  Transforms& operator=(const Transforms&) = delete;

  // Runs on a thread of its own until Stop, which waits for it; what it has not got to goes on after the next Open.
  Status Start();
  void Stop();

  // One turn: everything that is there. False when something failed and is to be tried again.
  bool Run();

  // How many series a tenant may have; 0 is any number.
  void LimitSeries(TenantId tenant, uint64_t series_max) EXCLUDES(limits_mutex_);

  std::map<std::string, double> Stats() const;

 private:
  struct Feed;
  struct Counts {
    std::atomic<uint64_t> events{0};
    std::atomic<uint64_t> samples{0};
    std::atomic<uint64_t> skipped_bytes{0};
    std::atomic<uint64_t> skipped_missing{0};
    std::atomic<uint64_t> skipped_type{0};
    std::atomic<uint64_t> skipped_negative{0};
    std::atomic<uint64_t> skipped_label{0};
    std::atomic<uint64_t> refused_series{0};
    std::atomic<uint64_t> refused_samples{0};
    std::atomic<uint64_t> lost{0};
    std::atomic<uint64_t> failures{0};
    std::atomic<uint64_t> lag{0};
  };

  Transforms(const env::Env& env, std::string folder, events::Broker& broker, TransformStore store);

  std::string PathOf(uint32_t topic) const;
  // None when there is none.
  Result<std::optional<TransformState>> LoadState(uint32_t topic) const;
  // Adopts the topics that have rules now; one that cannot be keeps nobody from the others.
  Status Adopt();
  Status Join(const events::TopicInfo& topic);
  Status SetRules(const events::TopicInfo& topic, Feed* feed);
  Status RemoveState(uint32_t topic);

  // A batch of the topic; whether there may be more.
  Result<bool> Advance(Feed& feed);
  // The steps that a batch has left.
  Status Finish(Feed& feed);
  void Apply(Feed& feed, const events::Polled& polled);
  void ApplyEvent(Feed& feed, const events::SubscribedEvent& event);
  void Count(Feed& feed, size_t rule, const std::string& labels, double value);
  void RepeatIdle(Feed& feed);
  Status Save(Feed& feed);
  Status Write(Feed& feed, std::span<const TransformSample> samples);
  uint64_t LagOf(const Feed& feed);
  uint64_t SeriesMaxOf(Feed& feed) EXCLUDES(limits_mutex_);

  const env::Env env_;
  const std::string folder_;
  events::Broker& broker_;
  const TransformStore store_;

  // Of the thread that runs.
  uint64_t rules_version_ = UINT64_MAX;
  std::map<uint32_t, std::unique_ptr<Feed>> feeds_;  // by the topic's number
  bool adopted_ = false;                             // all of rules_version_
  // Those that an earlier process left and that could not be adopted yet: offsets in their states and rules may be
  // beyond what is still there.
  std::set<uint32_t> unopened_;

  std::atomic<bool> stopping_{false};
  Counts counts_;
  Mutex limits_mutex_;
  std::map<TenantId, uint64_t> limits_ GUARDED_BY(limits_mutex_);
  std::unique_ptr<env::IntervalTimer> timer_;
};

}  // namespace millstream::engine

// OpenLog: the log of one topic partition while it is open, and readers that stopped half way and may go on.
//
// Threads     Read from any thread. log() is the writer's, who alone appends, syncs, lets records go and closes.
// Ownership   Shared: readers hold it while they read, so that the writer closes no log under them.
// Cost        A reader that goes on where one stopped before costs no search: at most kIdleReadersMax are kept, each
//             with a file descriptor and a buffer of one batch.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "millstream/base/mutex.h"
#include "millstream/base/result.h"
#include "millstream/events/event.h"
#include "millstream/events/event_sink.h"
#include "millstream/log/local_log.h"

namespace millstream::events {

// How much one read takes: it stops behind the event that reaches `bytes`, so that it always gets on.
struct ReadLimits {
  size_t events = 0;
  uint64_t bytes = 0;
};

class OpenLog {
 public:
  static constexpr size_t kIdleReadersMax = 2;

  static Result<std::shared_ptr<OpenLog>> Open(const env::Env& env, const std::string& folder,
                                               const log::LocalLogOptions& options);

  log::LocalLog& log() { return *log_; }
  const log::LocalLog& log() const { return *log_; }

  // Adds the events from `offset` to before `end` to `out` and takes them off `limits`; returns the offset behind the
  // last one seen. Places that compaction has emptied are passed over, and unless `with_gone` what it left of events.
  Result<uint64_t> Read(uint32_t topic, uint32_t partition, uint64_t offset, uint64_t end, bool with_gone,
                        ReadLimits* limits, std::vector<EventPtr>* out) EXCLUDES(mutex_);

  // The same events, each handed to `sink` in the reader's buffer. `*offset` is behind the last one seen also after an
  // error; before the one that the sink did not take. False when there was one.
  Result<bool> ReadInto(uint32_t topic, uint32_t partition, const std::shared_ptr<const std::string>& name,
                        uint64_t* offset, uint64_t end, ReadLimits* limits, EventSink& sink) EXCLUDES(mutex_);

 private:
  struct IdleReader {
    uint64_t next = 0;
    std::unique_ptr<storage::LogReader> reader;
  };

  explicit OpenLog(std::unique_ptr<log::LocalLog> log) : log_(std::move(log)) {}
  std::unique_ptr<storage::LogReader> TakeIdle(uint64_t offset) EXCLUDES(mutex_);
  // Gives records from `*offset` to before `end` to `take`, as far as `limits`, until it is false.
  template <typename Take>
  Result<bool> Walk(uint64_t* offset, uint64_t end, const ReadLimits& limits, Take take) EXCLUDES(mutex_);

  std::unique_ptr<log::LocalLog> log_;
  Mutex mutex_;
  std::vector<IdleReader> idle_ GUARDED_BY(mutex_);  // the newest last
};

}  // namespace millstream::events

// Log: one partition's records in their order, from which every view is built.
//
// A record is bytes with an offset; offsets count up by one. What a view applied is rebuilt by reading again from its
// checkpoint, so the log may drop what every checkpoint covers.
//
// Threads     Append from one thread at a time, the partition's writer; TruncateBefore from one thread at a time. All
//             else from any thread, also meanwhile; a LogReader belongs to one thread at a time.
// Errors      kResourceExhausted: the disk is full, or an append exceeds a limit below. Nothing of the refused append
// stays, and the log takes records
//             again by itself once there is space. kUnavailable: a sync has failed; what was acknowledged stays so,
//             nothing is acknowledged or appended any more until the log is opened anew. kDataLoss: bytes on the disk
//             are not what was written; the message names file and byte.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "millstream/base/result.h"
#include "millstream/base/status.h"
#include "millstream/base/strong_int.h"

namespace millstream::storage {

inline constexpr uint64_t kLogRecordBytesMax = uint64_t{64} << 20;
inline constexpr uint64_t kLogAppendBytesMax = uint64_t{128} << 20;
inline constexpr uint64_t kLogRecordsPerAppendMax = 1 << 20;
// How many calls may wait for durability at once, in one partition.
inline constexpr uint64_t kLogWaitersMax = 1 << 16;

// What an acknowledged record survives.
enum class Durability {
  kProcess,  // the death of the process
  kFsync,    // also of the machine
};

struct LogRecord {
  Offset offset;
  std::string_view payload;  // valid until the reader's next call
};

class LogReader {
 public:
  virtual ~LogReader() = default;

  // The next record; none at the end of what has been appended so far, where a later call may find more. A record that
  // is read may be not yet durable: compare with Log::durable_end().
  // Errors: kDataLoss; kOutOfRange when TruncateBefore has removed the record. After an error the reader stays there.
  virtual Result<std::optional<LogRecord>> Next() = 0;
};

class Log {
 public:
  // Told once: OK when the record is as durable as the log promises. Runs on the log's own thread or on the caller's;
  // must not block and must not call the log.
  using DurableCallback = std::function<void(const Status&)>;

  virtual ~Log() = default;

  // Appends the payloads as records with consecutive offsets, all or none, and returns the first of them; at least one.
  // OK says that readers see them, not that they are durable.
  virtual Result<Offset> Append(std::span<const std::string_view> payloads) = 0;

  // Blocks until the record at `offset`, which has been appended, is durable. Durable means: all before it are, too.
  virtual Status WaitDurable(Offset offset) = 0;
  // The same without blocking. kResourceExhausted goes to the callback when kLogWaitersMax wait already.
  virtual void WhenDurable(Offset offset, DurableCallback done) = 0;

  // Brings all that has been appended to the disk, whatever the log's durability. A view calls it before it makes a
  // checkpoint durable: else a power cut could leave a checkpoint that is ahead of the log.
  virtual Status Sync() = 0;

  // Lets records below `offset` go, in whole segments: some of them may stay.
  virtual Status TruncateBefore(Offset offset) = 0;

  // Reads from `offset` on; kOutOfRange below start() or above end().
  virtual Result<std::unique_ptr<LogReader>> Read(Offset offset) const = 0;

  // The first record still there; equal to end() when there is none.
  virtual Offset start() const = 0;
  // The offset of the next record to be appended.
  virtual Offset end() const = 0;
  // Every record below is durable as promised.
  virtual Offset durable_end() const = 0;
};

}  // namespace millstream::storage

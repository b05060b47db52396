// Finds out what a partition's folder holds, and cuts off what a crash left unfinished at its end.
//
// What is wrong at the end of the last segment is one of two things:
//   - A torn tail: the process died in the middle of a write, so the file just ends; or the machine died, so any sector
//     not yet synced holds anything. Nothing acknowledged is in it, and it is cut off.
//   - Corruption: bytes that had been good are not any more. Nothing is cut; the error names file and byte.
// A next segment, which a roll had not given its name, is kept when it continues the last one, and otherwise judged the
// same way: it goes with the torn tail before it, or shows that what is missing there had been good.
//
// The batches themselves tell which. Each names the boot of the machine that wrote it and the offset below which all
// was on the disk by then. Broken bytes are corruption when the machine has not restarted since they were written (a
// killed process cannot break bytes inside a file), or when any batch behind them says that they were on the disk.
//
// Threads     None: runs before the log is used.
// Errors      kDataLoss for corruption; those of FileSystem.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/env/file_system.h"
#include "millstream/env/random.h"
#include "millstream/log/local_log.h"
#include "millstream/log/segment.h"

namespace millstream::log {

// What a rewriting writes to, until it is whole: behind the name of the segment to be.
inline constexpr std::string_view kUnfinishedSuffix = ".tmp";

struct Recovered {
  std::vector<Segment> segments;              // ascending; at least one
  std::unique_ptr<env::WritableFile> active;  // the last of them, open at its end
  Offset end;
  uint64_t last_boot = 0;  // that of the last intact batch, or of the last segment's header
  bool clean = false;      // the last batch is a mark that says that all is on the disk
  RecoveryReport report;
};

// Makes the first segment when there is none. Afterwards all that was recovered is on the disk.
Result<Recovered> Recover(env::FileSystem& files, env::Random& random, const std::string& folder, uint64_t boot);

struct NewSegment {
  Segment segment;
  std::unique_ptr<env::WritableFile> file;
};

// Makes an empty segment that begins with `first`, durably; replaces what is left of an earlier attempt. On an error
// nothing of it stays but a file of at most kSectorBytes, which Recover replaces, and *sync_failed says whether
// the error was a sync's.
Result<NewSegment> MakeSegment(env::FileSystem& files, env::Random& random, const std::string& folder, Offset first,
                               uint64_t boot, bool* sync_failed);

// The same under the name of NextSegmentName, and synced by nobody. On an error nothing of it stays, or a file that the
// next attempt, or Recover, replaces.
Result<NewSegment> MakeNextSegment(env::FileSystem& files, env::Random& random, const std::string& folder, Offset first,
                                   uint64_t boot);

}  // namespace millstream::log

#include "open_log.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "event_slab.h"

namespace millstream::events {

Result<std::shared_ptr<OpenLog>> OpenLog::Open(const env::Env& env, const std::string& folder,
                                               const log::LocalLogOptions& options) {
  MS_ASSIGN_OR_RETURN(auto log, log::LocalLog::Open(env, folder, options));
  return std::shared_ptr<OpenLog>(new OpenLog(std::move(log)));
}

std::unique_ptr<storage::LogReader> OpenLog::TakeIdle(uint64_t offset) {
  const MutexLock lock(mutex_);
  const auto found = std::ranges::find(idle_, offset, &IdleReader::next);
  if (found == idle_.end()) return nullptr;
  std::unique_ptr<storage::LogReader> reader = std::move(found->reader);
  idle_.erase(found);
  return reader;
}

Result<uint64_t> OpenLog::Read(uint32_t topic, uint32_t partition, uint64_t offset, uint64_t end, bool with_gone,
                               ReadLimits* limits, std::vector<EventPtr>* out) {
  std::unique_ptr<storage::LogReader> reader = TakeIdle(offset);
  if (reader == nullptr) {
    MS_ASSIGN_OR_RETURN(reader, log_->Read(Offset(offset)));
  }
  std::shared_ptr<EventSlab> slab;
  while (offset < end && limits->events > 0 && limits->bytes > 0) {
    MS_ASSIGN_OR_RETURN(const std::optional<storage::LogRecord> record, reader->Next());
    // Beyond a gap the reader may have left what is asked for; it has given away what it would begin with.
    if (record.has_value() && record->offset.value() >= end) return end;
    // All up to the end is in the log, so there is nothing more below it.
    if (!record.has_value()) {
      offset = end;
      break;
    }
    offset = record->offset.value() + 1;
    if (record->payload.empty()) continue;
    MS_ASSIGN_OR_RETURN(std::shared_ptr<StoredEvent> event, EventSlab::Add(&slab, record->payload));
    if (event->view().is_gone && !with_gone) continue;
    event->SetPlace(topic, partition, record->offset.value());
    --limits->events;
    limits->bytes -= std::min(limits->bytes, event->bytes());
    out->push_back(std::move(event));
  }
  const MutexLock lock(mutex_);
  if (idle_.size() >= kIdleReadersMax) idle_.erase(idle_.begin());
  idle_.push_back({offset, std::move(reader)});
  return offset;
}

}  // namespace millstream::events

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

template <typename Take>
Result<bool> OpenLog::Walk(uint64_t* offset, uint64_t end, const ReadLimits& limits, Take take) {
  std::unique_ptr<storage::LogReader> reader = TakeIdle(*offset);
  if (reader == nullptr) {
    MS_ASSIGN_OR_RETURN(reader, log_->Read(Offset(*offset)));
  }
  while (*offset < end && limits.events > 0 && limits.bytes > 0) {
    MS_ASSIGN_OR_RETURN(const std::optional<storage::LogRecord> record, reader->Next());
    // Beyond a gap the reader may have left what is asked for; it has given away what it would begin with.
    if (record.has_value() && record->offset.value() >= end) {
      *offset = end;
      return true;
    }
    // All up to the end is in the log, so there is nothing more below it.
    if (!record.has_value()) {
      *offset = end;
      break;
    }
    if (!record->payload.empty()) {
      MS_ASSIGN_OR_RETURN(const bool taken, take(*record));
      // The reader has given it away, too.
      if (!taken) return false;
    }
    *offset = record->offset.value() + 1;
  }
  const MutexLock lock(mutex_);
  if (idle_.size() >= kIdleReadersMax) idle_.erase(idle_.begin());
  idle_.push_back({*offset, std::move(reader)});
  return true;
}

Result<uint64_t> OpenLog::Read(uint32_t topic, uint32_t partition, uint64_t offset, uint64_t end, bool with_gone,
                               ReadLimits* limits, std::vector<EventPtr>* out) {
  std::shared_ptr<EventSlab> slab;
  const auto take = [&](const storage::LogRecord& record) -> Result<bool> {
    MS_ASSIGN_OR_RETURN(std::shared_ptr<StoredEvent> event, EventSlab::Add(&slab, record.payload));
    if (event->view().is_gone && !with_gone) return true;
    event->SetPlace(topic, partition, record.offset.value());
    --limits->events;
    limits->bytes -= std::min(limits->bytes, event->bytes());
    out->push_back(std::move(event));
    return true;
  };
  MS_RETURN_IF_ERROR(Walk(&offset, end, *limits, take).status());
  return offset;
}

Result<bool> OpenLog::ReadInto(uint32_t topic, uint32_t partition, const std::shared_ptr<const std::string>& name,
                               uint64_t* offset, uint64_t end, ReadLimits* limits, EventSink& sink) {
  EventView view;  // keeps its room for headers
  const auto take = [&](const storage::LogRecord& record) -> Result<bool> {
    MS_RETURN_IF_ERROR(DecodeEventInto(record.payload, &view));
    if (view.is_gone) return true;
    const PlacedEvent event{view, record.payload.size(), topic, partition, record.offset.value()};
    if (!sink.Take(name, event)) return false;
    --limits->events;
    limits->bytes -= std::min(limits->bytes, event.bytes());
    return true;
  };
  return Walk(offset, end, *limits, take);
}

}  // namespace millstream::events

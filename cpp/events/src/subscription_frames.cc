// Subscription: what WebSockets get, which readers at the same place share.
#include <algorithm>
#include <utility>

#include "frame_text.h"
#include "subscription_impl.h"

namespace millstream::events {
namespace {

std::shared_ptr<const std::string> FramesOf(const std::vector<SubscribedEvent>& events, std::string_view head) {
  FrameText frames(events.size());
  for (const SubscribedEvent& event : events) frames.Add(head, *event.topic, *event.event, event.attempt);
  return frames.Take();
}

}  // namespace

Result<Subscription::PolledFrames> Subscription::Impl::PollFrames(std::string_view head, size_t limit,
                                                                  uint64_t bytes_max, FrameSharing::Impl* sharing,
                                                                  bool memory_only) {
  const bool shares = options_.group.empty();
  if (memory_only && (!shares || filter_ != nullptr)) {
    return PolledFrames{.frames = sharing->nothing(), .is_left = true};
  }
  Found found{.sharing = shares ? sharing : nullptr, .memory_only = memory_only};
  MS_RETURN_IF_ERROR(PollInto(limit, bytes_max, 0, &found));
  PolledFrames out{
      .frames = {}, .events = found.polled.events.size(), .dropped = found.polled.dropped, .is_left = found.is_left};
  for (const auto& chunk : found.chunks) out.events += chunk->events.size();
  out.frames = shares ? sharing->Frames(found.chunks, head) : FramesOf(found.polled.events, head);
  return out;
}

Result<FrameSharing::Impl::ChunkPtr> Subscription::Impl::MakeChunk(const Cursor& cursor, const ReadLimits& limits) {
  MS_ASSIGN_OR_RETURN(PartitionRead read, cursor.partition.Read(cursor.offset, limits));
  auto chunk = std::make_shared<FrameSharing::Impl::Chunk>();
  chunk->topic = cursor.topic;
  chunk->name = cursor.name;
  chunk->scanned = read.events.size();
  chunk->next = read.next;
  chunk->events = std::move(read.events);
  if (filter_ != nullptr) {
    std::erase_if(chunk->events, [&](const EventPtr& event) { return !filter_->Matches(*cursor.name, event->view()); });
  }
  for (const EventPtr& event : chunk->events) chunk->bytes += event->bytes();
  return FrameSharing::Impl::ChunkPtr(std::move(chunk));
}

Result<bool> Subscription::Impl::ReadShared(Cursor& cursor, uint64_t end, ReadLimits* limits, size_t* scanned,
                                            Found* found) {
  FrameSharing::Impl::Key key{.partition = &cursor.partition,
                              .offset = cursor.offset,
                              .events_max = limits->events,
                              .bytes_max = limits->bytes,
                              .filter = options_.filter};
  FrameSharing::Impl::ChunkPtr chunk = found->sharing->Find(key);
  // Where there was nothing there may be something by now; anything else is followed by what came since.
  if (chunk == nullptr || (chunk->next == cursor.offset && chunk->next < end)) {
    auto made = MakeChunk(cursor, *limits);
    // Retention came in between: the next turn goes on behind it.
    if (!made.ok() && made.status().code() == StatusCode::kOutOfRange) return true;
    MS_ASSIGN_OR_RETURN(chunk, std::move(made));
    found->sharing->Set(std::move(key), chunk);
  }
  *scanned += chunk->scanned;
  limits->events -= std::min(limits->events, chunk->events.size());
  limits->bytes -= std::min(limits->bytes, chunk->bytes);
  cursor.offset = chunk->next;
  (void)cursor.hold.Move(cursor.offset);
  if (!chunk->events.empty()) found->chunks.push_back(chunk);
  return chunk->next < end;
}

}  // namespace millstream::events

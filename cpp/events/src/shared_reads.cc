#include "shared_reads.h"

#include "frame_text.h"

namespace millstream::events {

FrameSharing::Impl::ChunkPtr FrameSharing::Impl::Find(const Key& key) const {
  const auto found = chunks_.find(key);
  return found == chunks_.end() ? nullptr : found->second;
}

std::shared_ptr<const std::string> FrameSharing::Impl::Frames(const std::vector<ChunkPtr>& chunks,
                                                              std::string_view head) {
  if (chunks.empty()) return nothing_;
  auto& kept = frames_[{chunks, std::string(head)}];
  if (kept != nullptr) return kept;
  size_t events = 0;
  for (const ChunkPtr& chunk : chunks) events += chunk->events.size();
  FrameText made(events);
  for (const ChunkPtr& chunk : chunks) {
    for (const EventPtr& event : chunk->events) made.Add(head, *chunk->name, *event);
  }
  kept = made.Take();
  bytes_ += kept->size();
  return kept;
}

FrameSharing::FrameSharing() : impl_(std::make_unique<Impl>()) {}
FrameSharing::~FrameSharing() = default;

uint64_t FrameSharing::bytes() const {
  return impl_->bytes();
}

}  // namespace millstream::events

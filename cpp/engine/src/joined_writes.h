// JoinedWrites: small requests of one tenant made into one, so that they share their way: one batch and one log record
// for each partition, one wake-up of its thread and of the caller.
//
// What became of the whole is told to each as if it had come alone. That needs the reason of every refusal; where there
// are more than are kept, Split gives up, and the caller sends each by itself: what is there already is accepted.
// Threads     One.
// Limits      kJoinedSamplesMax samples in all, kJoinedRequestSamplesMax of one request.
// Cost        A copy of each request's columns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "millstream/base/result.h"
#include "millstream/base/strong_int.h"
#include "millstream/engine/database.h"
#include "millstream/wire/decoded_write.h"

namespace millstream::engine {

inline constexpr size_t kJoinedSamplesMax = 10'000;
inline constexpr size_t kJoinedRequestSamplesMax = 200;

// From refused samples to refused items of a request of so many, each with its first reason: exact while all reasons
// are there. The refusals ascend by item.
void CountByItem(uint32_t items, PushOutcome* outcome);

class JoinedWrites {
 public:
  explicit JoinedWrites(TenantId tenant, const storage::SeriesLimits& series = {}) : tenant_(tenant), series_(series) {}

  // Takes the request when it is small and has nothing but plain samples; else leaves it as it is. `index` is the
  // caller's name for it.
  bool TryAdd(size_t index, wire::DecodedWrite* decoded);

  TenantId tenant() const { return tenant_; }
  // Of all of them.
  const storage::SeriesLimits& series() const { return series_; }
  size_t requests() const { return parts_.size(); }
  size_t index(size_t part) const { return parts_[part].index; }

  // The one request. Its labels are here: it goes first.
  wire::DecodedWrite Take() { return std::move(joined_); }

  // What became of each part, in their order; nothing when that cannot be told from what became of the whole.
  std::vector<Result<PushOutcome>> Split(const Result<PushOutcome>& whole) const;

 private:
  struct Part {
    size_t index;
    uint32_t first_item;  // of the joined request: its own items count from there
    uint64_t samples;
    uint32_t items;
  };

  const TenantId tenant_;
  const storage::SeriesLimits series_;
  std::vector<Part> parts_;
  uint32_t next_item_ = 0;
  wire::DecodedWrite joined_;
  std::vector<std::unique_ptr<std::string>> bytes_;
};

}  // namespace millstream::engine

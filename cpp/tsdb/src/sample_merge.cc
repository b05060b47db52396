#include "sample_merge.h"

#include <algorithm>
#include <cstdint>

#include "millstream/base/status.h"

namespace millstream::tsdb {
namespace {

// One source: a chunk or columns.
struct Piece {
  TimestampMs min;
  TimestampMs max;
  const Chunk* chunk;
  const storage::SampleColumns* columns;
};

struct Entry {
  TimestampMs timestamp;
  uint32_t piece;
  uint32_t index;
  bool is_histogram;
};

bool TimeSpanOf(const storage::SampleColumns& columns, TimestampMs* min, TimestampMs* max) {
  bool any = false;
  for (const auto* times : {&columns.timestamps, &columns.histogram_timestamps}) {
    if (times->empty()) continue;
    *min = any ? std::min(*min, times->front()) : times->front();
    *max = any ? std::max(*max, times->back()) : times->back();
    any = true;
  }
  return any;
}

Status CopyPiece(const Piece& piece, storage::TimeRange range, storage::SampleColumns* out) {
  if (piece.chunk != nullptr) return piece.chunk->Decode(range, out);
  CopyRange(*piece.columns, range, out);
  return Status::Ok();
}

Status MergeOverlapping(std::span<const Piece> pieces, storage::TimeRange range, storage::SampleColumns* out) {
  std::vector<storage::SampleColumns> decoded(pieces.size());
  std::vector<Entry> entries;
  for (uint32_t p = 0; p < pieces.size(); ++p) {
    MS_RETURN_IF_ERROR(CopyPiece(pieces[p], range, &decoded[p]));
    for (uint32_t i = 0; i < decoded[p].timestamps.size(); ++i) {
      entries.push_back({decoded[p].timestamps[i], p, i, false});
    }
    for (uint32_t i = 0; i < decoded[p].histogram_timestamps.size(); ++i) {
      entries.push_back({decoded[p].histogram_timestamps[i], p, i, true});
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.timestamp != b.timestamp ? a.timestamp < b.timestamp : a.piece < b.piece;
  });
  const Entry* previous = nullptr;
  for (const Entry& entry : entries) {
    if (previous != nullptr && previous->timestamp == entry.timestamp) continue;
    const storage::SampleColumns& from = decoded[entry.piece];
    if (entry.is_histogram) {
      HistogramPtr histogram = from.histograms[entry.index];
      if ((previous == nullptr || previous->piece != entry.piece) &&
          histogram->counter_reset_hint != model::CounterResetHint::kGauge) {
        histogram = WithHint(histogram, model::CounterResetHint::kUnknown);
      }
      const auto& starts = from.histogram_start_timestamps;
      AppendHistogram(entry.timestamp, std::move(histogram), starts.empty() ? 0 : starts[entry.index], out);
    } else {
      const auto& starts = from.start_timestamps;
      AppendFloat(entry.timestamp, from.values[entry.index], starts.empty() ? 0 : starts[entry.index], out);
    }
    previous = &entry;
  }
  return Status::Ok();
}

}  // namespace

void CopyRange(const storage::SampleColumns& from, storage::TimeRange range, storage::SampleColumns* out) {
  const auto bounds = [range](const std::vector<TimestampMs>& times) {
    const auto first = std::lower_bound(times.begin(), times.end(), range.min);
    return std::pair(static_cast<size_t>(first - times.begin()),
                     static_cast<size_t>(std::upper_bound(first, times.end(), range.max) - times.begin()));
  };
  const auto [begin, end] = bounds(from.timestamps);
  for (size_t i = begin; i < end; ++i) {
    AppendFloat(from.timestamps[i], from.values[i], from.start_timestamps.empty() ? 0 : from.start_timestamps[i], out);
  }
  const auto [hbegin, hend] = bounds(from.histogram_timestamps);
  for (size_t i = hbegin; i < hend; ++i) {
    AppendHistogram(from.histogram_timestamps[i], from.histograms[i],
                    from.histogram_start_timestamps.empty() ? 0 : from.histogram_start_timestamps[i], out);
  }
}

Status MergeSamples(storage::TimeRange range, const SampleSources& sources, storage::SampleColumns* out) {
  std::vector<Piece> pieces;
  pieces.reserve(sources.chunks.size() + sources.columns.size());
  for (const auto& chunk : sources.chunks) {
    if (chunk->Overlaps(range)) pieces.push_back({chunk->min_time(), chunk->max_time(), chunk.get(), nullptr});
  }
  for (const auto& columns : sources.columns) {
    Piece piece{0, 0, nullptr, &columns};
    if (TimeSpanOf(columns, &piece.min, &piece.max)) pieces.push_back(piece);
  }
  std::vector<uint32_t> order(pieces.size());
  for (uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return pieces[a].min < pieces[b].min; });
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin + 1;
    TimestampMs max = pieces[order[begin]].max;
    while (end < order.size() && pieces[order[end]].min <= max) {
      max = std::max(max, pieces[order[end]].max);
      ++end;
    }
    if (end == begin + 1) {
      MS_RETURN_IF_ERROR(CopyPiece(pieces[order[begin]], range, out));
    } else {
      // Back to the order of addition, which decides who wins.
      std::sort(order.begin() + static_cast<ptrdiff_t>(begin), order.begin() + static_cast<ptrdiff_t>(end));
      std::vector<Piece> cluster;
      for (size_t i = begin; i < end; ++i) cluster.push_back(pieces[order[i]]);
      MS_RETURN_IF_ERROR(MergeOverlapping(cluster, range, out));
    }
    begin = end;
  }
  return Status::Ok();
}

}  // namespace millstream::tsdb
